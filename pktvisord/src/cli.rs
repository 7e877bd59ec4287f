//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::config::Model;

/// Exit codes, as `--help` documents them.
pub mod exit {
    /// Success.
    pub const OK: u8 = 0;
    /// A failure caused by neither the arguments nor the input.
    pub const FAILURE: u8 = 1;
    /// Invalid arguments.
    pub const USAGE: u8 = 2;
    /// The capture or a database cannot be read, or an interface cannot be watched.
    pub const INPUT: u8 = 3;
    /// The output cannot be written, or the daemon cannot listen on the address.
    pub const OUTPUT: u8 = 4;
    /// SIGINT (Ctrl-C) or SIGTERM before the end of the capture.
    pub const INTERRUPTED: u8 = 130;
}

const AFTER_HELP: &str = "\
Exit codes: 0 success (also for a truncated capture, unless --strict) · 1 failure · 2 invalid \
arguments · 3 cannot read the capture, a database, tokens, a certificate or a key, or cannot watch an interface · 4 cannot write \
the output or listen on the address · 130 interrupted before the end of the capture

Every option can also be set in the configuration file and in the environment: --dns-timeout is `dns-timeout` \
in the file and PKTVISORD_DNS_TIMEOUT in the environment. The command line overrides the environment, and the \
environment overrides the file. SIGHUP reloads the file.

`pktvisord fleet-key --new [FILE]` generates a key for --fleet-key.";

/// Version and built-in capture methods, for `--version`.
const LONG_VERSION: &str = if crate::input::kernel::is_built_in() {
    concat!(env!("CARGO_PKG_VERSION"), "\nlive capture: eBPF, libpcap")
} else {
    concat!(
        env!("CARGO_PKG_VERSION"),
        "\nlive capture: libpcap (built without eBPF programs; run `cargo xtask build-ebpf`)"
    )
};

/// Summarize packet streams by the minute: rates, protocols, cardinalities, heavy hitters, DNS
/// messages and transactions
///
/// For a capture file, pktvisord prints one summary as JSON or as a report. With --replay it serves
/// the file over HTTP as if the traffic happened now. It watches interfaces until Ctrl-C and serves
/// them over HTTP.
#[derive(Debug, Parser)]
#[command(name = "pktvisord", version, long_version = LONG_VERSION, after_help = AFTER_HELP)]
pub struct Cli {
    /// Read options from this file (TOML) [default: /etc/pktvisor/pktvisord.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check all options and the files that they name, then exit
    #[arg(long)]
    pub check_config: bool,

    /// Print all options as a configuration file, with the source of each, then exit
    #[arg(long, conflicts_with = "check_config")]
    pub print_config: bool,

    /// All that a file can say too.
    #[command(flatten)]
    pub model: Model,
}
