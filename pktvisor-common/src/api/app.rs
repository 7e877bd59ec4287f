//! The daemon's own state and its current rates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `/api/v1/metrics/app`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppMetrics {
    /// The daemon.
    pub app: App,
    /// DNS state that is no part of a bucket.
    pub dns: AppDns,
}

/// The daemon's own state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct App {
    /// Version of pktvisord.
    pub version: String,
    /// Buckets kept, the live one included.
    pub periods: u64,
    /// Percent of packets chosen for deep inspection.
    pub deep_sample_rate_pct: u64,
    /// Whether everything goes into one summary.
    pub single_summary: bool,
    /// Minutes since the start of the daemon.
    pub up_time_min: f64,
    /// Start of the daemon in unix seconds.
    #[serde(default)]
    pub started_ts: i64,
    /// Where packets come from.
    #[serde(default)]
    pub capture: CaptureInfo,
    /// The key that names and addresses are hashed with; left out by older daemons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fleet_key: Option<FleetKey>,
    /// What the daemon costs.
    #[serde(default)]
    pub process: Process,
    /// What the daemon may still do; left out where it watches no interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub security: Option<Security>,
}

impl App {
    /// Returns how many buckets can be asked for: one where everything goes into one summary.
    pub fn kept(&self) -> u64 {
        if self.single_summary { 1 } else { self.periods }
    }
}

/// The key that names and addresses are hashed with in all that merges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetKey {
    /// Equal for equal keys, and reveals nothing about the key: distinct counts merge where it is
    /// equal. 16 hexadecimal digits.
    pub fingerprint: String,
    /// Whether everybody knows the key (there is no `--fleet-key`): whoever sends packets can forge
    /// distinct counts and top lists.
    pub public: bool,
}

/// What a daemon that watches interfaces may still do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Security {
    /// The user that it has become; left out where it stayed who it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user: Option<String>,
    /// Capabilities that it has kept (capabilities(7)).
    pub capabilities: Vec<String>,
    /// Whether Landlock keeps it from files and TCP: `on`, `off`, or why only partly or not.
    pub landlock: String,
    /// Whether calls of the system are filtered: `on` or `off`.
    pub seccomp: String,
}

/// What the daemon costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Processor time since the start, of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Bytes of memory that it holds.
    pub resident_bytes: u64,
}

/// Where packets come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CaptureInfo {
    /// `ebpf`, `libpcap` or `file`.
    pub source: String,
    /// Names of the interfaces or the file.
    pub interfaces: Vec<String>,
    /// The same with the hooks of each interface.
    #[serde(default)]
    pub watched: Vec<Watched>,
    /// Why packets do not come from programs in the kernel, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Interfaces to which programs are still being attached, since the start or a change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pending: u64,
    /// Interfaces whose packets are not seen as they should be, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// What would make the metrics say more, such as naming HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// How many packets are inspected now.
    #[serde(default)]
    pub sampling: SamplingRates,
    /// Whether the end of the input was reached.
    #[serde(default)]
    pub finished: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How many packets are inspected: what was asked for, or less while user space does not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SamplingRates {
    /// Percent of those on DNS ports.
    pub dns_pct: f64,
    /// Percent of all others.
    pub rest_pct: f64,
}

/// Something that packets come from, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Watched {
    /// Name of the interface or the file.
    pub name: String,
    /// The hook in the kernel for packets received: `xdp`, `tcx` or `clsact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// The hook for packets sent; none on loopback, where all that is sent is received too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// Why only one side is watched: where the packets of the other side are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_sided: Option<String>,
    /// Hooks that would have been better, each with why it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// DNS state that is no part of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppDns {
    /// Transactions.
    pub xact: AppXact,
}

/// Transactions that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppXact {
    /// Queries that wait for their reply now.
    pub open: u64,
}

/// Answer of `/api/v1/metrics/rates`: the last full second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Packets per second.
    pub packets: RatesInOut,
    /// Bytes per second.
    #[serde(default)]
    pub bytes: RatesInOut,
    /// DNS messages.
    #[serde(default)]
    pub dns: DnsRate,
}

/// DNS messages per second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsRate {
    /// Of all kinds.
    pub total: u64,
}

/// A rate by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RatesInOut {
    /// To HOST.
    #[serde(rename = "in")]
    pub inbound: u64,
    /// From HOST.
    #[serde(rename = "out")]
    pub outbound: u64,
    /// All directions.
    #[serde(default)]
    pub total: u64,
}
