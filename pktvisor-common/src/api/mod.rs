//! The JSON of the REST interface, written once for daemon, dashboard and OpenAPI.
//!
//! Names and nesting of what pktvisor 3 had are kept to the letter. A part that is unknown or does
//! not apply is left out, not null; a list is empty then. Readers ignore fields they do not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod app;
mod dns;
mod packets;
#[cfg(feature = "summary")]
mod view;

pub use app::{
    App, AppDns, AppMetrics, AppXact, CaptureInfo, DnsRate, FleetKey, Process, Rates, RatesInOut,
    SamplingRates, Security, Watched,
};
pub use dns::{
    Dns, DnsCardinality, DnsRates, Edns, Histogram, WirePackets, Xact, XactCounts, XactDirection,
};
pub use packets::{PacketBytesTotals, PacketCardinality, PacketRates, Packets, Protocol, TcpFlags};

/// Bucket or window views by their name: `1m` for one bucket, `5m` for five merged, `summary` for
/// a whole capture file.
pub type Views = BTreeMap<String, MetricsView>;

/// The summary of one bucket (a minute) or of a window of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsView {
    /// Packets of every kind.
    pub packets: Packets,
    /// DNS messages and transactions.
    pub dns: Dns,
    /// The time the view covers.
    pub period: Period,
    /// What was seen, what was not, and why.
    #[serde(default)]
    pub capture: Capture,
}

impl MetricsView {
    /// Leaves out all that is made of the times of packets, which had none.
    pub fn forget_times(&mut self) {
        self.packets.rates = PacketRates::default();
        self.dns.rates = DnsRates::default();
        let xact = &mut self.dns.xact;
        for direction in [&mut xact.inbound, &mut xact.outbound, &mut xact.unknown] {
            direction.quantiles_us = None;
            direction.histogram_us = None;
            direction.top_slow.clear();
        }
    }
}

/// The time a view covers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Period {
    /// Start in unix seconds: the minute, or the first packet or the start of capture within it.
    pub start_ts: i64,
    /// Seconds covered.
    pub length: u64,
    /// The unix minute (unix seconds / 60) of the bucket, the newest one of a window: the key by
    /// which buckets of several agents merge.
    #[serde(default)]
    pub minute: i64,
}

/// An entry of a top list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopEntry {
    /// The name, address, port or place.
    pub name: String,
    /// The estimated count, never below the true one.
    pub estimate: u64,
    /// By how much the estimate can be above the true count; left out where it is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<u64>,
}

/// Quantiles of a distribution, each within 1 % of the true value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 95th percentile.
    pub p95: u64,
    /// The 99th percentile.
    pub p99: u64,
}

/// What was seen, what was not seen or not inspected, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capture {
    /// Where packets come from: `ebpf`, `libpcap` or `file`.
    #[serde(default)]
    pub source: String,
    /// Names of the interfaces or the file.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Packets by what became of them; they sum to `packets.total`. Outcomes without packets are
    /// left out.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    /// Percent of the packets that were chosen for deep inspection.
    #[serde(default)]
    pub sample_rate_pct: f64,
    /// Packets the kernel's capture buffer had no room for.
    #[serde(default)]
    pub kernel_drops: u64,
    /// Samples the ring buffers had no room for.
    #[serde(default)]
    pub ring_full: u64,
    /// Packets the interfaces dropped.
    #[serde(default)]
    pub if_drops: u64,
    /// DNS over TCP that could not be put together: bytes or streams given up, all reasons.
    #[serde(default)]
    pub tcp_reassembly_errors: u64,
    /// What the bounded tables gave up, by reason. Reasons without losses are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evictions: BTreeMap<String, u64>,
    /// Packets whose time lies before the bucket they were counted in.
    #[serde(default)]
    pub late_packets: u64,
    /// Packets of a file whose time is far off that of the packets around them. They count in the
    /// bucket in which they stand, with its time.
    #[serde(default)]
    pub time_outliers: u64,
    /// Packets of a file whose link type is not read. They are in no other count.
    #[serde(default)]
    pub unread_link_types: u64,
    /// How far user space is behind the packets, in milliseconds.
    #[serde(default)]
    pub lag_ms: u64,
}

/// The body of every answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What was wrong and what would be right.
    pub error: String,
}
