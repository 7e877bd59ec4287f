//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use pktvisor_common::summary::mask::Mask;

use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::{DEFAULT_DNS_PORTS, Tunnels};
use crate::input::file::Speed;
use crate::input::kernel::attach::CaptureMode;
use crate::serve::prometheus::MAX_TOP;

/// Exit codes, as `--help` documents them.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// Something went wrong that is no fault of the arguments or the input.
    pub const FAILURE: u8 = 1;
    /// Wrong arguments.
    pub const USAGE: u8 = 2;
    /// The capture or a database cannot be read, or an interface not be watched.
    pub const INPUT: u8 = 3;
    /// The output cannot be written, or the address not be listened on.
    pub const OUTPUT: u8 = 4;
    /// Ended by Ctrl-C or SIGTERM before the end of the capture.
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

/// What was built in, for `--version`.
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
    /// What to watch: a capture file (pcap or pcapng, plain or compressed with gzip, zstd or xz), `-`
    /// for a capture on standard input, interfaces (`eth0,eth1`), an IP address of this host, or
    /// `any` for all interfaces, each packet once
    #[arg(value_name = "TARGET")]
    pub target: String,

    /// Read options from this file (TOML) [default: /etc/pktvisor/pktvisord.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check all options and the files that they name, and exit
    #[arg(long)]
    pub check_config: bool,

    /// Print all options, as a file, with where each came from, and exit
    #[arg(long, conflicts_with = "check_config")]
    pub print_config: bool,

    /// Count only packets that match this filter, in tcpdump's language (pcap-filter(7))
    #[arg(short = 'b', long, value_name = "BPF", help_heading = "What is counted")]
    pub filter: Option<String>,

    /// Addresses that are HOST, which tells inbound from outbound: CIDRs, separated by commas, such
    /// as `192.0.2.1/32,2001:db8::/32`
    #[arg(short = 'H', long, value_name = "HOSTSPEC", help_heading = "What is counted")]
    pub hosts: Option<HostSpec>,

    /// Inspect at most so many percent of the packets; all are still counted
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100), help_heading = "What is counted")]
    pub max_deep_sample: u8,

    /// Port of DNS, instead of 53, 5353, 5355 and 53000; can be given several times
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = "What is counted")]
    pub dns_port: Vec<u16>,

    /// Seconds a DNS query waits for its reply
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds, help_heading = "What is counted")]
    pub dns_timeout: f64,

    /// Cut names in top_qname2 and top_qname3 above their public suffix (`.example.co.uk`)
    #[arg(long, help_heading = "What is counted")]
    pub public_suffix: bool,

    /// Count packets in IP tunnels (GRE, ERSPAN, VXLAN, Geneve, GTP-U, IP in IP) by their outer or
    /// their inner headers
    #[arg(long, value_enum, value_name = "HEADERS", default_value_t = Tunnels::Outer, help_heading = "What is counted")]
    pub tunnels: Tunnels,

    /// City database for places (MaxMind: GeoLite2-City, GeoIP2-City …)
    #[arg(long, value_name = "FILE", help_heading = "What is counted")]
    pub geo_city: Option<PathBuf>,

    /// AS database for autonomous systems (MaxMind: GeoLite2-ASN, GeoIP2-ISP …)
    #[arg(long, value_name = "FILE", help_heading = "What is counted")]
    pub geo_asn: Option<PathBuf>,

    /// Keep so many one-minute buckets, the live one included
    #[arg(long, value_name = "P", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1440), help_heading = "What is kept")]
    pub periods: u32,

    /// Sum everything up in a single summary instead of buckets
    #[arg(long, help_heading = "What is kept")]
    pub summary: bool,

    /// Keep only so many bits of addresses, of IPv4 and IPv6, in all that is summed up: `24/48`
    #[arg(long, value_name = "V4/V6", help_heading = "What is kept")]
    pub mask_ip: Option<Mask>,

    /// Show a hash of DNS names instead of them, keyed with this file
    #[arg(long, value_name = "KEYFILE", help_heading = "What is kept")]
    pub hash_names: Option<PathBuf>,

    /// Key of the fleet, without which whoever sends packets can forge distinct counts and top lists;
    /// `pktvisord fleet-key --new FILE` makes one
    #[arg(long, value_name = "FILE", help_heading = "What is kept")]
    pub fleet_key: Option<PathBuf>,

    /// Deprecated: a fleet key that is made of a number, and no secret
    #[arg(
        long,
        value_name = "SEED",
        default_value_t = 0,
        conflicts_with = "fleet_key",
        hide_short_help = true,
        help_heading = "What is kept"
    )]
    pub sketch_seed: u64,

    /// How to capture from interfaces
    #[arg(long, value_enum, value_name = "MODE", default_value_t = CaptureMode::Auto, help_heading = "How packets are captured")]
    pub capture: CaptureMode,

    /// Inspect fewer packets while records of them are lost, and more again when they are not
    #[arg(long, value_enum, value_name = "SWITCH", default_value_t = Switch::On, help_heading = "How packets are captured")]
    pub adaptive: Switch,

    /// MiB of each ring between the kernel and a worker, a power of two
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = mebibytes, help_heading = "How packets are captured")]
    pub ring_size: u32,

    /// MiB of memory that the capture buffers of all interfaces share, with libpcap
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576), help_heading = "How packets are captured")]
    pub capture_memory: u64,

    /// Threads that sum packets up, at most 16 [default: the cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16), help_heading = "How packets are captured")]
    pub workers: Option<u16>,

    /// Become this user once interfaces are watched: a name, or numbers `UID` or `UID:GID` [default:
    /// root becomes `pktvisor`, or else `nobody`]; capabilities are given up in any case
    #[arg(long, value_name = "USER", help_heading = "How packets are captured")]
    pub user: Option<String>,

    /// Do not sandbox the daemon (Landlock, seccomp) once interfaces are watched
    #[arg(long, help_heading = "How packets are captured")]
    pub no_sandbox: bool,

    /// Fail on a capture that is cut short instead of summarizing it up to the cut
    #[arg(long, help_heading = "How packets are captured")]
    pub strict: bool,

    /// Address or name to serve HTTP on
    #[arg(
        short = 'l',
        long,
        value_name = "HOST",
        default_value = "localhost",
        help_heading = "Serving"
    )]
    pub listen: String,

    /// Port to serve HTTP on
    #[arg(
        short = 'p',
        long,
        value_name = "PORT",
        default_value_t = 10853,
        help_heading = "Serving"
    )]
    pub port: u16,

    /// Serve the capture over HTTP, fed at SPEED times its own pace: 1, 10, 0.5 … or `max`; goes on
    /// serving at its end until Ctrl-C
    #[arg(long, value_name = "SPEED", num_args = 0..=1, require_equals = true, default_missing_value = "1", help_heading = "Serving")]
    pub replay: Option<Speed>,

    /// Serve over TLS with this certificate and those that it was signed with (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub tls_key: Option<PathBuf>,

    /// Serve only clients that have a certificate of one of these authorities (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub client_ca: Option<PathBuf>,

    /// Serve only clients that have one of the tokens in this file, one to a line
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    pub token_file: Option<PathBuf>,

    /// Listen where others can reach it though neither tokens nor certificates of clients are needed
    #[arg(long, help_heading = "Serving")]
    pub insecure_listen: bool,

    /// Entries of each top list on /metrics, for Prometheus; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = MAX_TOP, value_parser = clap::value_parser!(u8).range(0..=i64::from(MAX_TOP)), help_heading = "Serving")]
    pub prometheus_top: u8,

    /// What to print at the end of a capture
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Json, help_heading = "Output and log")]
    pub format: Format,

    /// Where to print it: a file, or `-` for standard output
    #[arg(
        short = 'o',
        long,
        value_name = "FILE",
        default_value = "-",
        help_heading = "Output and log"
    )]
    pub output: PathBuf,

    /// Indent the JSON [default: on a terminal]
    #[arg(long, help_heading = "Output and log")]
    pub pretty: bool,

    /// Log more; -vv logs all but what is logged for each packet
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Output and log")]
    pub verbose: u8,

    /// Log errors only, and show no progress
    #[arg(short, long, help_heading = "Output and log")]
    pub quiet: bool,

    /// How to write the log, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text, help_heading = "Output and log")]
    pub log_format: LogFormat,
}

/// What is printed at the end of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The JSON of the REST interface
    Json,
    /// A report to read, in colour on a terminal
    Text,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines to read
    Text,
    /// One JSON object a line
    Json,
}

fn mebibytes(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(size) if size.is_power_of_two() && size <= 1024 => Ok(size),
        _ => Err("a power of two from 1 to 1024 is needed".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.001 to 3600 is needed".into()),
    }
}

impl Cli {
    /// The ports of DNS.
    pub fn dns_ports(&self) -> &[u16] {
        if self.dns_port.is_empty() { &DEFAULT_DNS_PORTS } else { &self.dns_port }
    }

    /// How long a query waits for its reply, in nanoseconds.
    pub fn dns_timeout(&self) -> i64 {
        (self.dns_timeout * crate::time::SECOND as f64) as i64
    }

    /// Octets of each ring.
    pub fn ring_size(&self) -> u32 {
        self.ring_size << 20
    }

    /// Bytes of all capture buffers of libpcap.
    pub fn capture_memory(&self) -> u64 {
        self.capture_memory << 20
    }

    /// Threads that sum packets up.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(4);
        self.workers.map_or_else(cores, usize::from)
    }
}
