//! The configuration of the daemon: a type for each table of the file.
//!
//! The types also define the command line, so each option is defined once. Options that can change
//! while the daemon runs have types of their own: [`InputTuning`], [`GeoFiles`] and [`LogLevel`]. A
//! reload applies changes of these; all others need a restart.

use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};
use pktvisor_common::summary::mask::Mask;

use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::{DEFAULT_DNS_PORTS, Tunnels};
use crate::input::file::Speed;
use crate::input::kernel::attach::CaptureMode;
use crate::serve::access::AccessFiles;
use crate::serve::prometheus::MAX_TOP;
use crate::store::history::Keep;
use crate::system::telemetry::LogFormat;
use crate::time::{SECOND, Span};

/// Headings of `--help`.
const COUNTED: &str = "Counting";
const KEPT: &str = "Retention";
const CAPTURED: &str = "Capture";
const SERVING: &str = "Serving";
const WRITTEN: &str = "Output and logging";

/// Options of the input that can change while it runs.
#[derive(Clone, Debug, Args)]
pub struct InputTuning {
    /// Count only packets that match this filter, in the syntax of tcpdump; see pcap-filter(7)
    #[arg(short = 'b', long, value_name = "BPF", help_heading = COUNTED, display_order = 0)]
    pub filter: Option<String>,

    /// Addresses that count as HOST, which decides whether a packet is inbound or outbound: CIDRs,
    /// separated by commas, such as `192.0.2.1/32,2001:db8::/32`
    #[arg(short = 'H', long, value_name = "HOSTSPEC", help_heading = COUNTED, display_order = 0)]
    pub hosts: Option<HostSpec>,

    /// Inspect at most N percent of packets; all packets are still counted
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100), help_heading = COUNTED, display_order = 0)]
    pub max_deep_sample: u8,

    /// DNS port, instead of 53, 5353, 5355 and 53000; can be repeated
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = COUNTED, display_order = 0)]
    pub dns_port: Vec<u16>,
}

/// The input: what is watched, and how.
#[derive(Debug, Args)]
pub struct InputConfig {
    /// What to watch: a capture file (pcap or pcapng, plain or compressed with gzip, zstd or xz), `-`
    /// for a capture on standard input, interfaces (`eth0,eth1`), an IP address of this host, or
    /// `any` for all interfaces, counting each packet once
    #[arg(value_name = "TARGET")]
    pub target: String,

    /// What can change while it runs.
    #[command(flatten)]
    pub tuning: InputTuning,

    /// Count packets in IP tunnels (GRE, ERSPAN, VXLAN, Geneve, GTP-U, IP in IP) by their outer or
    /// inner headers
    #[arg(long, value_enum, value_name = "HEADERS", default_value_t = Tunnels::Outer, help_heading = COUNTED)]
    pub tunnels: Tunnels,

    /// Capture method for interfaces
    #[arg(long, value_enum, value_name = "MODE", default_value_t = CaptureMode::Auto, help_heading = CAPTURED)]
    pub capture: CaptureMode,

    /// Inspect fewer packets while records are lost, and more again once losses stop
    #[arg(long, value_enum, value_name = "SWITCH", default_value_t = Switch::On, help_heading = CAPTURED)]
    pub adaptive: Switch,

    /// Size of each ring buffer between the kernel and a worker, in MiB; a power of two
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = mebibytes, help_heading = CAPTURED)]
    pub ring_size: u32,

    /// Total size of libpcap's capture buffers for all interfaces, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576), help_heading = CAPTURED)]
    pub capture_memory: u64,

    /// Fail on a truncated capture instead of summarizing it up to the cut
    #[arg(long, help_heading = CAPTURED)]
    pub strict: bool,

    /// Replay the capture at SPEED times its original pace (1, 10, 0.5 … or `max`) and serve it over
    /// HTTP until Ctrl-C
    #[arg(long, value_name = "SPEED", num_args = 0..=1, require_equals = true, default_missing_value = "1", help_heading = SERVING)]
    pub replay: Option<Speed>,
}

/// Databases of addresses, which are read again while the daemon runs.
#[derive(Clone, Debug, Args)]
pub struct GeoFiles {
    /// City database for locations (MaxMind: GeoLite2-City, GeoIP2-City …)
    #[arg(long, value_name = "FILE", help_heading = COUNTED)]
    pub geo_city: Option<PathBuf>,

    /// Database of autonomous systems (MaxMind: GeoLite2-ASN, GeoIP2-ISP …)
    #[arg(long, value_name = "FILE", help_heading = COUNTED)]
    pub geo_asn: Option<PathBuf>,
}

/// A policy: what is counted of packets, and how much of it is kept.
#[derive(Debug, Args)]
pub struct PolicyConfig {
    /// Seconds that a DNS query waits for its reply
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds, help_heading = COUNTED)]
    pub dns_timeout: f64,

    /// Aggregate names in top_qname2 and top_qname3 by public suffix (`.example.co.uk`)
    #[arg(long, help_heading = COUNTED)]
    pub public_suffix: bool,

    /// What is read again while the daemon runs.
    #[command(flatten)]
    pub geo: GeoFiles,

    /// Number of one-minute buckets to keep, including the live one
    #[arg(long, value_name = "P", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1440), help_heading = KEPT)]
    pub periods: u32,

    /// Keep a single summary of everything instead of buckets
    #[arg(long, help_heading = KEPT)]
    pub summary: bool,

    /// Keep only the first V4 bits of IPv4 and V6 bits of IPv6 addresses in summaries: `24/48`
    #[arg(long, value_name = "V4/V6", help_heading = KEPT)]
    pub mask_ip: Option<Mask>,

    /// Replace DNS names with hashes, keyed with the content of this file
    #[arg(long, value_name = "KEYFILE", help_heading = KEPT)]
    pub hash_names: Option<PathBuf>,

    /// Key of the fleet, generated with `pktvisord fleet-key --new FILE`; without it, anyone who sends
    /// packets can forge distinct counts and top lists
    #[arg(long, value_name = "FILE", help_heading = KEPT)]
    pub fleet_key: Option<PathBuf>,

    /// Deprecated: derive the fleet key from this number, which is not secret
    #[arg(
        long,
        value_name = "SEED",
        default_value_t = 0,
        conflicts_with = "fleet_key",
        hide_short_help = true,
        help_heading = KEPT
    )]
    pub sketch_seed: u64,
}

/// The history on disk.
#[derive(Debug, Args)]
pub struct HistoryConfig {
    /// Keep closed minutes, and the hours and days merged from them, in this folder
    #[arg(long, visible_alias = "history", value_name = "DIR", help_heading = KEPT)]
    pub history_dir: Option<PathBuf>,

    /// Maximum size of the history, such as 500MB or 2GiB; at the bound the finest and oldest periods
    /// go first
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size, help_heading = KEPT)]
    pub history_max_size: u64,

    /// Time to keep minutes in full, such as 24h
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration, hide_short_help = true, help_heading = KEPT)]
    pub history_keep_minutes: i64,

    /// Time to keep counters, rates and histograms of minutes, without top lists and distinct counts
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration, hide_short_help = true, help_heading = KEPT)]
    pub history_keep_counters: i64,

    /// Time to keep hours
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = duration, hide_short_help = true, help_heading = KEPT)]
    pub history_keep_hours: i64,

    /// Time to keep days [default: without end]
    #[arg(long, value_name = "TIME", value_parser = duration, hide_short_help = true, help_heading = KEPT)]
    pub history_keep_days: Option<i64>,
}

/// The process: its threads and its rights.
#[derive(Debug, Args)]
pub struct ProcessConfig {
    /// Number of worker threads, at most 16 [default: number of cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16), help_heading = CAPTURED)]
    pub workers: Option<u16>,

    /// Switch to this user once interfaces are watched: a name, or numeric `UID` or `UID:GID`
    /// [default: root switches to `pktvisor`, or else to `nobody`]; always drops capabilities
    #[arg(long, value_name = "USER", help_heading = CAPTURED)]
    pub user: Option<String>,

    /// Do not sandbox the daemon (Landlock, seccomp) once interfaces are watched
    #[arg(long, help_heading = CAPTURED)]
    pub no_sandbox: bool,
}

/// The HTTP interface.
#[derive(Debug, Args)]
pub struct ServeConfig {
    /// Address or host name to serve HTTP on
    #[arg(short = 'l', long, value_name = "HOST", default_value = "localhost", help_heading = SERVING)]
    pub listen: String,

    /// Port to serve HTTP on
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 10853, help_heading = SERVING)]
    pub port: u16,

    /// Who may ask.
    #[command(flatten)]
    pub access: AccessFiles,

    /// Listen beyond loopback although neither tokens nor client certificates are required
    #[arg(long, help_heading = SERVING)]
    pub insecure_listen: bool,

    /// Number of entries of each top list on /metrics; 0 omits the lists
    #[arg(long, value_name = "N", default_value_t = MAX_TOP, value_parser = clap::value_parser!(u8).range(0..=i64::from(MAX_TOP)), help_heading = SERVING)]
    pub prometheus_top: u8,
}

/// What is printed at the end of a capture.
#[derive(Debug, Args)]
pub struct ReportConfig {
    /// Output format for the summary of a capture
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Json, help_heading = WRITTEN)]
    pub format: Format,

    /// Write the summary to this file; `-` is standard output
    #[arg(short = 'o', long, value_name = "FILE", default_value = "-", help_heading = WRITTEN)]
    pub output: PathBuf,

    /// Indent the JSON [default: on a terminal]
    #[arg(long, help_heading = WRITTEN)]
    pub pretty: bool,
}

/// How much is logged, which can change while the daemon runs.
#[derive(Clone, Debug, Args)]
pub struct LogLevel {
    /// Log more; -vv logs everything except per-packet messages
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = WRITTEN)]
    pub verbose: u8,

    /// Log only errors, and hide the progress bar
    #[arg(short, long, help_heading = WRITTEN)]
    pub quiet: bool,
}

/// The log.
#[derive(Debug, Args)]
pub struct LogConfig {
    /// What can change while the daemon runs.
    #[command(flatten)]
    pub level: LogLevel,

    /// Format of the log on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text, help_heading = WRITTEN)]
    pub log_format: LogFormat,
}

/// Everything that is configured. Each field is a table of the file, see `TABLES`; `--help` shows their
/// headings in this order.
#[derive(Debug, Args)]
pub struct Model {
    /// `[policy.default]`: so far there is one.
    #[command(flatten)]
    pub policy: PolicyConfig,
    /// `[history]`
    #[command(flatten)]
    pub history: HistoryConfig,
    /// `[[input]]`: so far there is one.
    #[command(flatten)]
    pub input: InputConfig,
    /// `[process]`
    #[command(flatten)]
    pub process: ProcessConfig,
    /// `[serve]`
    #[command(flatten)]
    pub serve: ServeConfig,
    /// `[report]`
    #[command(flatten)]
    pub report: ReportConfig,
    /// `[log]`
    #[command(flatten)]
    pub log: LogConfig,
}

/// A table of the file.
pub(super) struct Table {
    /// Name of the table: a top-level key, or after a dot a key of that table.
    pub(super) name: &'static str,
    /// Header in the file.
    pub(super) header: &'static str,
    /// Start of the names of its options on the command line, which the table leaves out.
    prefix: &'static str,
    /// Adds the options of the table to a command.
    add: fn(Command) -> Command,
}

impl Table {
    const fn new(name: &'static str, header: &'static str, add: fn(Command) -> Command) -> Self {
        Self { name, header, prefix: "", add }
    }

    /// Returns the identifiers of the options.
    pub(super) fn options(&self) -> Vec<String> {
        options(self.add)
    }

    /// Returns the key of an option in the table.
    pub(super) fn key<'a>(&self, option: &'a str) -> &'a str {
        option.strip_prefix(self.prefix).unwrap_or(option)
    }
}

/// All tables, in the order of the file.
pub(super) const TABLES: [Table; 7] = [
    Table::new("input", "[[input]]", InputConfig::augment_args),
    Table::new("policy.default", "[policy.default]", PolicyConfig::augment_args),
    Table { prefix: "history-", ..Table::new("history", "[history]", HistoryConfig::augment_args) },
    Table::new("process", "[process]", ProcessConfig::augment_args),
    Table::new("serve", "[serve]", ServeConfig::augment_args),
    Table::new("report", "[report]", ReportConfig::augment_args),
    Table::new("log", "[log]", LogConfig::augment_args),
];

/// Returns the identifiers of the options that can change while the daemon runs.
pub(super) fn reloadable() -> Vec<String> {
    let tuned = [InputTuning::augment_args, GeoFiles::augment_args, LogLevel::augment_args];
    tuned.into_iter().flat_map(options).collect()
}

fn options(add: fn(Command) -> Command) -> Vec<String> {
    let command = add(Command::new("options"));
    command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
}

/// What is printed at the end of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON, as in the REST interface
    Json,
    /// Human-readable report, in colour on a terminal
    Text,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Enabled
    On,
    /// Disabled
    Off,
}

fn mebibytes(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(size) if size.is_power_of_two() && size <= 1024 => Ok(size),
        _ => Err("expected a power of two from 1 to 1024".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.001 to 3600".into()),
    }
}

/// Parses a number of bytes with a unit.
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let decimal =
        [("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
    let wrong = || "expected a size of at least 64MiB, such as 500MB or 2GiB".to_owned();
    let (number, unit) = units
        .into_iter()
        .chain(decimal)
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .ok_or_else(wrong)?;
    let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|&size| (MIN_HISTORY..=i64::MAX as u64).contains(&size)).ok_or_else(wrong)
}

/// Minimum size of the history in bytes: two hours of minutes of a server.
const MIN_HISTORY: u64 = 64 << 20;

/// Parses a time with a unit into seconds.
fn duration(text: &str) -> Result<i64, String> {
    let units = [("m", 60), ("h", 3_600), ("d", 86_400), ("w", 7 * 86_400), ("y", 365 * 86_400)];
    let wrong = || "expected a time of at least 1h, such as 24h, 7d or 1y".to_owned();
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .ok_or_else(wrong)?;
    let seconds = number.trim().parse::<i64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| (3_600..=1_000 * 365 * 86_400).contains(seconds)).ok_or_else(wrong)
}

impl HistoryConfig {
    /// Returns the bounds of the history.
    pub fn keep(&self) -> Keep {
        Keep {
            bytes: self.history_max_size,
            minutes: self.history_keep_minutes,
            counters: self.history_keep_counters,
            hours: self.history_keep_hours,
            days: self.history_keep_days,
        }
    }
}

impl InputTuning {
    /// Returns the ports that count as DNS.
    pub fn dns_ports(&self) -> &[u16] {
        if self.dns_port.is_empty() { &DEFAULT_DNS_PORTS } else { &self.dns_port }
    }

    /// Returns the addresses of HOST.
    pub fn hosts(&self) -> HostSpec {
        self.hosts.clone().unwrap_or_default()
    }
}

impl InputConfig {
    /// Returns the size of each ring buffer in bytes.
    pub fn ring_size(&self) -> u32 {
        self.ring_size << 20
    }

    /// Returns the size of all libpcap capture buffers together, in bytes.
    pub fn capture_memory(&self) -> u64 {
        self.capture_memory << 20
    }
}

impl PolicyConfig {
    /// Returns the time that a query waits for its reply.
    pub fn dns_timeout(&self) -> Span {
        Span::from_nanos((self.dns_timeout * SECOND.as_nanos() as f64) as i64)
    }
}

impl LogLevel {
    /// Returns the log filter in the syntax of `RUST_LOG`. By default it logs less if nothing is
    /// served.
    pub fn directives(&self, serves: bool) -> &'static str {
        match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) if !serves => "warn",
            (_, 0 | 1) => "info",
            // aya's messages about the object file help only its own developers.
            _ => "debug,aya=info,aya_obj=info",
        }
    }
}

impl ProcessConfig {
    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(4);
        self.workers.map_or_else(cores, usize::from)
    }
}
