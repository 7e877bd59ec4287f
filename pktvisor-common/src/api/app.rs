//! The state of the daemon and its current rates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Response of `/api/v1/metrics/app`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppMetrics {
    /// The daemon.
    pub app: App,
    /// DNS state that does not belong to a bucket.
    pub dns: AppDns,
}

/// The state of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct App {
    /// Version of pktvisord.
    pub version: String,
    /// Number of buckets kept, including the live one.
    pub periods: u64,
    /// Configured maximum percentage of packets chosen for deep inspection.
    pub deep_sample_rate_pct: u64,
    /// True if everything is merged into a single summary.
    pub single_summary: bool,
    /// Minutes since the start of the daemon.
    pub up_time_min: f64,
    /// Start of the daemon in Unix seconds.
    #[serde(default)]
    pub started_ts: i64,
    /// The source of the packets.
    #[serde(default)]
    pub capture: CaptureInfo,
    /// The key that hashes names and addresses; left out by older daemons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fleet_key: Option<FleetKey>,
    /// Resource usage of the daemon.
    #[serde(default)]
    pub process: Process,
    /// The history on disk; left out without `--history-dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub history: Option<HistoryState>,
    /// The remaining privileges of the daemon; left out if it does not watch interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub security: Option<Security>,
}

impl App {
    /// Returns the number of buckets that can be requested: one if there is a single summary.
    pub fn kept(&self) -> u64 {
        if self.single_summary { 1 } else { self.periods }
    }
}

/// The key that hashes names and addresses in everything that merges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetKey {
    /// Fingerprint of the key, 16 hexadecimal digits: equal for equal keys, reveals nothing about
    /// the key. Distinct counts merge if it is equal.
    pub fingerprint: String,
    /// True if the key is publicly known, because `--fleet-key` is not set. Anyone who sends
    /// packets can then forge distinct counts and top lists.
    pub public: bool,
}

/// Whether the history on disk is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryState {
    /// Bytes in use.
    pub bytes: u64,
    /// Maximum bytes. At the bound the finest and oldest periods go first.
    pub max_bytes: u64,
    /// Minutes that could not be stored since the start of the daemon.
    pub lost_minutes: u64,
    /// Why the last minute could not be stored, or why the history cannot be used; left out if all
    /// is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
}

/// The remaining privileges of a daemon that watches interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Security {
    /// The user that the daemon switched to; left out if it did not switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user: Option<String>,
    /// Capabilities that the daemon kept (capabilities(7)).
    pub capabilities: Vec<String>,
    /// Landlock restrictions on files and TCP: `on`, `off`, or the reason why they are partial or
    /// missing.
    pub landlock: String,
    /// Filter of system calls: `on` or `off`.
    pub seccomp: String,
}

/// Resource usage of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// CPU time of all threads since the start, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
}

/// The source of the packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CaptureInfo {
    /// Kind of source: `ebpf`, `libpcap` or `file`.
    pub source: String,
    /// Names of the interfaces, or of the file.
    pub interfaces: Vec<String>,
    /// The interfaces, or the file, with the hooks of each interface.
    #[serde(default)]
    pub watched: Vec<Watched>,
    /// Why the daemon uses libpcap, if it tried kernel programs first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Number of interfaces that still wait for programs to be attached, after the start or a
    /// change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pending: u64,
    /// Interfaces whose packets do not all reach the programs, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// A hint for better metrics, such as setting HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Current sampling rates.
    #[serde(default)]
    pub sampling: SamplingRates,
    /// True if the end of the input was reached.
    #[serde(default)]
    pub finished: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Current sampling rates: as configured, or lower while user space does not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SamplingRates {
    /// Percentage of packets on DNS ports.
    pub dns_pct: f64,
    /// Percentage of all other packets.
    pub rest_pct: f64,
}

/// A source of packets and its hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Watched {
    /// Name of the interface or file.
    pub name: String,
    /// The kernel hook for received packets: `xdp`, `tcx` or `clsact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// The kernel hook for sent packets. Loopback has none: every packet sent there is received
    /// there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// Why only one direction is watched: where packets of the other direction are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_sided: Option<String>,
    /// Better hooks that could not be used, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// DNS state that does not belong to a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppDns {
    /// Pending transactions.
    pub xact: AppXact,
}

/// Pending transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppXact {
    /// Queries that currently wait for their reply.
    pub open: u64,
}

/// Response of `/api/v1/metrics/rates`: rates of the last full second of packet time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Packets per second.
    pub packets: RatesInOut,
    /// Bytes per second.
    #[serde(default)]
    pub bytes: RatesInOut,
    /// DNS messages per second.
    #[serde(default)]
    pub dns: DnsRate,
}

/// DNS messages per second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsRate {
    /// DNS messages of all kinds.
    pub total: u64,
}

/// A rate by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RatesInOut {
    /// Packets or bytes to HOST.
    #[serde(rename = "in")]
    pub inbound: u64,
    /// Packets or bytes from HOST.
    #[serde(rename = "out")]
    pub outbound: u64,
    /// Packets or bytes of all directions.
    #[serde(default)]
    pub total: u64,
}
