//! Generated captures, and the daemon as a child process.
#![allow(dead_code, unreachable_pub, reason = "each test takes the parts it needs")]

pub mod bpf;
pub mod capture;
pub mod dns;
pub mod frame;
pub mod host;
pub mod known;
pub mod located;
pub mod net;
pub mod program;
pub mod random;
pub mod shapes;
pub mod tool;
pub mod traffic;
pub mod tshark;
pub mod wrappings;

/// Returns the hook that `--capture tc` selects on this kernel: TCX since Linux 6.6.
pub fn tc() -> &'static str {
    let release = rustix::system::uname();
    let release = release.release().to_str().expect("a version");
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 6) { "tcx" } else { "clsact" }
}

/// Returns true if the test may load kernel programs and create interfaces. In CI it must.
pub fn has_rights() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "in CI tests run as root");
    root
}
