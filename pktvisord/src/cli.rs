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
Exit codes: 0 all went well (a truncated capture too, unless --strict) · 1 failure · 2 wrong \
arguments · 3 the capture, a database, tokens, a certificate or a key cannot be read, or an interface not be watched · 4 the output \
cannot be written or the address not be listened on · 130 interrupted before the end of the capture

Every option can stand in a file too, and in the environment: --dns-timeout is `dns-timeout` there and \
PKTVISORD_DNS_TIMEOUT here. The command line goes before the environment, and that before the file. \
SIGHUP reads the file again.

`pktvisord fleet-key --new [FILE]` makes a key for --fleet-key.";

/// Version and built-in capture methods, for `--version`.
const LONG_VERSION: &str = if crate::input::kernel::is_built_in() {
    concat!(env!("CARGO_PKG_VERSION"), "\nlive capture: programs in the kernel, libpcap")
} else {
    concat!(
        env!("CARGO_PKG_VERSION"),
        "\nlive capture: libpcap (built without programs for the kernel: `cargo xtask build-ebpf`)"
    )
};

/// Summarizes packet streams: rates, protocols, cardinalities, heavy hitters, and DNS with its
/// transactions, by the minute.
///
/// A capture file is summarized to standard output as JSON or as a report; with --replay it is
/// served over HTTP as if it were happening now. Interfaces are watched until Ctrl-C and served
/// over HTTP.
#[derive(Debug, Parser)]
#[command(name = "pktvisord", version, long_version = LONG_VERSION, after_help = AFTER_HELP)]
pub struct Cli {
    /// Read options from this file (TOML) [default: /etc/pktvisor/pktvisord.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check all options and the files that they name, and exit
    #[arg(long)]
    pub check_config: bool,

    /// Print all options, as a file, with where each came from, and exit
    #[arg(long, conflicts_with = "check_config")]
    pub print_config: bool,

    /// All that a file can say too.
    #[command(flatten)]
    pub model: Model,
}
