//! `cargo xtask setup`: the Debian packages that building, testing and measuring need.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::Args;

use crate::exec::{exec, find_program, is_root, output_of};

/// To build `pktvisord`: a C compiler for zstd, and libpcap with its headers.
const BUILD: &[&str] = &["gcc", "libc6-dev", "libpcap-dev", "pkg-config"];
/// For the tests: the readers that results are compared with, a Prometheus that scrapes, and hosts in
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
/// A compiler with `core` for the BPF target.
const EBPF: &[&str] = &["libstd-rust-web-dev-bpf", "rustc-web"];
/// What `cargo xtask bench` compares with; capinfos comes in `wireshark-common`.
const BENCH: &[&str] = &["dnscap", "dnstop", "tcpdump", "tshark", "wireshark-common"];

/// Install the Debian packages that building and testing need.
#[derive(Args)]
pub struct Setup {
    /// Also what compiles the kernel programs.
    #[arg(long)]
    ebpf: bool,
    /// Also the tools that the benchmark compares with.
    #[arg(long)]
    bench: bool,
    /// Install nothing; fail if something is missing.
    #[arg(long)]
    check: bool,
}

impl Setup {
    /// Carries the command out.
    pub fn run(self) -> Result<()> {
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

/// Installs what building and running `pktvisord` need.
pub fn for_run() -> Result<()> {
    install(BUILD)
}

/// Installs what building and testing need.
pub fn for_test() -> Result<()> {
    install(&[BUILD, TEST].concat())
}

/// Installs what measuring live capture needs.
pub fn for_live_bench() -> Result<()> {
    install(&[BUILD, TEST, &["curl", "dnscap", "iperf3", "tcpreplay"]].concat())
}

/// Installs what testing under other kernels needs.
pub fn for_kernels() -> Result<()> {
    let machine = ["busybox-static", "cpio", "kmod", "qemu-system-x86", "xz-utils"];
    install(&[BUILD, TEST, &machine].concat())
}

/// Installs what packages are made with.
pub fn for_dist() -> Result<()> {
    install(&[BUILD, &["binutils", "dpkg-dev", "gzip", "tar"]].concat())
}

/// Installs what a Debian of one's own is made with.
pub fn for_dist_test() -> Result<()> {
    install(&["debootstrap"])
}

/// Installs the BPF compiler.
pub fn for_ebpf() -> Result<()> {
    install(EBPF)
}

/// Installs `packages` as root; anyone else is told the command.
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

/// apt-get that asks nothing and leaves standard output to the program that is run in the end.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("--quiet")
        .stdout(Stdio::from(io::stderr()));
    command
}

/// Those of `packages` that dpkg does not call installed. Without dpkg there is nothing to go
/// by: the list is printed, and what is really missing shows when it is used.
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

/// Whether dpkg calls `package` installed.
fn installed(package: &str) -> bool {
    let status =
        output_of(Command::new("dpkg-query").args(["--show", "--showformat=${Status}", package]));
    status.is_some_and(|status| status.ends_with(" installed"))
}

/// What to type to install `packages`.
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
