//! `cargo xtask build-ebpf`: compiles the kernel programs into one BPF object.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::exec::{cargo, exec, find_program, output_of, root, target_dir};
use crate::setup;

/// Target triple of BPF, little-endian.
const TARGET: &str = "bpfel-unknown-none";
/// The newest bpf-linker that supports the LLVM of the project's Rust release.
const BPF_LINKER_VERSION: &str = "0.10.3";
/// Path of Debian's compiler. A rustup compiler may precede it in `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler with `core` for the BPF target.
enum Compiler {
    /// Debian's `rustc-web`, with a prebuilt `core`.
    Debian,
    /// A rustup nightly that builds `core` from the component `rust-src`.
    Nightly,
}

/// Compile the kernel programs into the BPF object that the daemon embeds
#[derive(Args)]
pub(crate) struct BuildEbpf {
    /// Make the daemon log each packet (-vv), to debug how packets are classified; for quiet
    /// interfaces only
    #[arg(long)]
    log: bool,
}

impl BuildEbpf {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        build_with(self.log).map(drop)
    }
}

/// Compiles the kernel programs, lists them, and returns the object's path.
pub(crate) fn build() -> Result<PathBuf> {
    build_with(false)
}

fn build_with(log: bool) -> Result<PathBuf> {
    let compiler = match find_compiler() {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    let linker = match find_program("bpf-linker")? {
        Some(linker) => linker,
        None => install_linker()?,
    };

    let build_dir = target_dir()?.join("bpf-build");
    let mut command = match compiler {
        Compiler::Debian => {
            let mut command = cargo();
            // The target is unstable, and Debian's compiler is stable.
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            command
        }
        Compiler::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
    };
    command
        .current_dir(root().join("pktvisor-ebpf"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", &build_dir)
        .env("RUSTFLAGS", rustflags(&linker))
        .args(["build", "--locked", "--release", "--target", TARGET]);
    if log {
        command.args(["--features", "log"]);
    }
    if matches!(compiler, Compiler::Nightly) {
        command.args(["-Z", "build-std=core"]);
    }
    exec(&mut command)?;

    let object = target_dir()?.join("bpf/pktvisor.o");
    fs::create_dir_all(object.parent().expect("the object lies in a folder"))?;
    let bytes = fs::read(build_dir.join(TARGET).join("release/pktvisor"))?;
    // Writing the object makes cargo rebuild the daemon.
    if fs::read(&object).ok().as_ref() != Some(&bytes) {
        fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    }
    println!("{}: {} bytes", object.display(), bytes.len());
    for program in programs(&bytes)? {
        println!("  {program}");
    }
    Ok(object)
}

/// Returns the compiler flags for a BPF object with type information (BTF).
fn rustflags(linker: &Path) -> String {
    format!(
        "-C linker={} -C link-arg=--btf -C target-cpu=v3 -C link-arg=--cpu-features=+allows-misaligned-mem-access -C debuginfo=2 --cfg bpf_target_arch=\"{}\"",
        linker.display(),
        std::env::consts::ARCH
    )
}

/// Returns the first suitable compiler on this machine.
fn find_compiler() -> Option<Compiler> {
    let debian = output_of(
        Command::new(DEBIAN_RUSTC)
            .args(["--print", "target-libdir", "--target", TARGET])
            .env("RUSTC_BOOTSTRAP", "1"),
    );
    if debian.is_some_and(|dir| Path::new(&dir).is_dir()) {
        return Some(Compiler::Debian);
    }
    let sysroot =
        output_of(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
    let core = |sysroot: &str| Path::new(sysroot).join("lib/rustlib/src/rust/library/core");
    sysroot.filter(|sysroot| core(sysroot).is_dir()).map(|_| Compiler::Nightly)
}

/// Installs Debian's compiler.
fn install_compiler() -> Result<Compiler> {
    setup::for_ebpf().context(
        "no compiler for BPF; as an alternative to Debian's packages, run `rustup toolchain install \
         nightly --component rust-src`",
    )?;
    find_compiler().context(
        "still no compiler for BPF; install one with `rustup toolchain install nightly \
         --component rust-src`",
    )
}

/// Installs bpf-linker with cargo, which takes one to two minutes.
fn install_linker() -> Result<PathBuf> {
    exec(cargo().args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"]))?;
    find_program("bpf-linker")?.context("cargo installed bpf-linker, but not in a folder of PATH")
}

/// Lists the programs in a BPF object, each as `section/name`.
fn programs(bytes: &[u8]) -> Result<Vec<String>> {
    let object = object::File::parse(bytes).context("the BPF object is not an ELF file")?;
    let mut programs = Vec::new();
    for symbol in object.symbols().filter(object::ObjectSymbol::is_global) {
        if symbol.kind() == SymbolKind::Text
            && let Some(index) = symbol.section_index()
        {
            let section = object.section_by_index(index)?.name()?;
            // Functions in .text are called by programs, and are no programs.
            if section != ".text" {
                programs.push(format!("{section}/{}", symbol.name()?));
            }
        }
    }
    if programs.is_empty() {
        bail!("the BPF object has no program");
    }
    programs.sort();
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_object_without_programs() {
        // Only the ELF header of a 64-bit little-endian relocatable file for machine 247 (BPF).
        let mut elf = [0u8; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..24].copy_from_slice(&[1, 0, 247, 0, 1, 0, 0, 0]);
        elf[52] = 64;
        assert_eq!(programs(&elf).unwrap_err().to_string(), "the BPF object has no program");
        assert!(programs(b"text").is_err());
    }
}
