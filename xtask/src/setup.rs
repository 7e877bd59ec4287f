//! `cargo xtask setup`: installs the Debian packages for building, testing and measuring.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::Args;

use crate::exec::{exec, find_program, is_root, output_of};

/// Packages to build `pktvisord`: a C compiler for zstd, and libpcap with its headers.
const BUILD: &[&str] = &["gcc", "libc6-dev", "libpcap-dev", "pkg-config"];
/// Packages for the tests: packet readers to compare results with, Prometheus, and tools for
/// network namespaces with real DNS servers and clients.
const TEST: &[&str] = &[
    "curl",
    "dnsperf",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "knot-dnsutils",
    "libcap2-bin",
    "nsd",
    "prometheus",
    "tcpdump",
    "tshark",
];
/// Packages of a compiler with `core` for the BPF target.
const EBPF: &[&str] = &["libstd-rust-web-dev-bpf", "rustc-web"];
/// Programs that `cargo xtask bench` compares with. `wireshark-common` has capinfos.
const BENCH: &[&str] = &["dnscap", "dnstop", "tcpdump", "tshark", "wireshark-common"];

/// Install the Debian packages for building and testing
#[derive(Args)]
pub(crate) struct Setup {
    /// Also install the compiler for the kernel programs
    #[arg(long)]
    ebpf: bool,
    /// Also install the programs that the benchmark compares with
    #[arg(long)]
    bench: bool,
    /// Install nothing, and fail if a package is missing
    #[arg(long)]
    check: bool,
}

impl Setup {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let mut packages = [BUILD, TEST].concat();
        if self.ebpf {
            packages.extend(EBPF);
        }
        if self.bench {
            packages.extend(BENCH);
        }
        if self.check { check(&packages) } else { install(&packages) }
    }
}

/// Installs the packages for building and running `pktvisord`.
pub(crate) fn for_run() -> Result<()> {
    install(BUILD)
}

/// Installs the packages for building and testing.
pub(crate) fn for_test() -> Result<()> {
    install(&[BUILD, TEST].concat())
}

/// Installs the packages for measuring live capture.
pub(crate) fn for_live_bench() -> Result<()> {
    install(&[BUILD, TEST, &["curl", "dnscap", "iperf3", "tcpreplay"]].concat())
}

/// Installs the packages for testing under other kernels.
pub(crate) fn for_kernels() -> Result<()> {
    let machine = ["busybox-static", "cpio", "kmod", "qemu-system-x86", "xz-utils"];
    install(&[BUILD, TEST, &machine].concat())
}

/// Installs the packages for building the release packages.
pub(crate) fn for_dist() -> Result<()> {
    install(&[BUILD, &["binutils", "dpkg-dev", "gzip", "tar"]].concat())
}

/// Installs debootstrap, which creates a Debian system in a folder.
pub(crate) fn for_dist_test() -> Result<()> {
    install(&["debootstrap"])
}

/// Installs the BPF compiler.
pub(crate) fn for_ebpf() -> Result<()> {
    install(EBPF)
}

/// Installs the missing ones of `packages`. Without root, fails with the command to run.
fn install(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("missing packages; to install them: {}", install_command(&missing));
    }
    exec(apt_get().arg("update"))?;
    exec(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
}

/// Fails if one of `packages` is missing.
fn check(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if !missing.is_empty() {
        bail!("missing packages; to install them: {}", install_command(&missing));
    }
    Ok(())
}

/// Returns an apt-get command that asks no questions. It prints to standard error, because standard
/// output belongs to the program that `cargo xtask run` starts.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("--quiet")
        .stdout(Stdio::from(io::stderr()));
    command
}

/// Returns the packages that dpkg does not report as installed. Without dpkg, prints the list and
/// returns none: a later step fails if something is missing.
fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    if find_program("dpkg-query")?.is_none() {
        eprintln!(
            "not a Debian system; install the equivalents of the Debian packages {}",
            packages.join(" ")
        );
        return Ok(Vec::new());
    }
    let mut missing: Vec<_> =
        packages.iter().copied().filter(|package| !installed(package)).collect();
    missing.sort_unstable();
    missing.dedup();
    Ok(missing)
}

/// Returns true if dpkg reports `package` as installed.
fn installed(package: &str) -> bool {
    let status =
        output_of(Command::new("dpkg-query").args(["--show", "--showformat=${Status}", package]));
    status.is_some_and(|status| status.ends_with(" installed"))
}

/// Returns the command line that installs `packages`.
fn install_command(packages: &[&str]) -> String {
    format!(
        "sudo apt-get update && sudo apt-get install --no-install-recommends {}",
        packages.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_package_is_not_installed() {
        assert!(!installed("pktvisor-no-such-package"));
    }
}
