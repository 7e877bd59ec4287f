//! The JSON types of the REST API, shared by the daemon, the dashboard and the OpenAPI document.
//!
//! Names and nesting that pktvisor 3 had are unchanged. An unknown or inapplicable field is left
//! out rather than null, and such a list is empty. Readers ignore unknown fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod app;
mod dns;
mod packets;
mod range;
#[cfg(feature = "summary")]
mod view;

pub use app::{
    App, AppDns, AppMetrics, AppXact, CaptureInfo, DnsRate, FleetKey, HistoryState, Process, Rates,
    RatesInOut, SamplingRates, Security, Watched,
};
pub use dns::{
    Dns, DnsCardinality, DnsRates, Edns, Histogram, WirePackets, Xact, XactCounts, XactDirection,
};
pub use packets::{PacketBytesTotals, PacketCardinality, PacketRates, Packets, Protocol, TcpFlags};
pub use range::{DiskHistory, History, Range, RangePart, StoredPeriods};

/// Bucket or window views by name: `1m` for one bucket, `5m` for five merged, `summary` for a whole
/// capture file.
pub type Views = BTreeMap<String, MetricsView>;

/// The summary of one bucket (a minute) or of a window of several buckets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsView {
    /// Packets of all protocols.
    pub packets: Packets,
    /// DNS messages and transactions.
    pub dns: Dns,
    /// The time that the view covers.
    pub period: Period,
    /// Capture statistics: outcomes, drops and other losses.
    #[serde(default)]
    pub capture: Capture,
}

impl MetricsView {
    /// Clears everything computed from packet times, for captures without times.
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

/// The time that a view covers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Period {
    /// Start in Unix seconds: of the minute, or of the first packet or the capture if it started
    /// within the minute.
    pub start_ts: i64,
    /// Number of seconds covered.
    pub length: u64,
    /// Unix minute (Unix seconds / 60) of the bucket, or of the newest bucket of a window. Buckets
    /// of several agents are merged by it.
    #[serde(default)]
    pub minute: i64,
}

/// An entry of a top list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopEntry {
    /// The name, address, port or location.
    pub name: String,
    /// Estimated count, never below the true count.
    pub estimate: u64,
    /// Maximum excess of the estimate over the true count; left out if the estimate is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<u64>,
}

/// Quantiles of a distribution, each within 0.4 % of the value at its index.
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

/// Capture statistics: outcomes, drops and other losses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capture {
    /// Source of the packets: `ebpf`, `libpcap` or `file`.
    #[serde(default)]
    pub source: String,
    /// Names of the interfaces, or of the file.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Packets by outcome. They sum to `packets.total`. Outcomes without packets are left out.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    /// Percentage of packets chosen for deep inspection.
    #[serde(default)]
    pub sample_rate_pct: f64,
    /// Packets dropped because the kernel's capture buffer was full.
    #[serde(default)]
    pub kernel_drops: u64,
    /// Samples dropped because a ring buffer was full.
    #[serde(default)]
    pub ring_full: u64,
    /// Packets dropped by the interfaces.
    #[serde(default)]
    pub if_drops: u64,
    /// TCP reassembly failures of DNS over TCP: bytes and streams given up, for all reasons.
    #[serde(default)]
    pub tcp_reassembly_errors: u64,
    /// Losses by reason, such as entries evicted from bounded tables. Reasons without losses are
    /// left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evictions: BTreeMap<String, u64>,
    /// Packets whose time lies before the bucket they were counted in.
    #[serde(default)]
    pub late_packets: u64,
    /// Packets of a file whose time is far from that of the surrounding packets. They count in the
    /// bucket of these packets and take its time.
    #[serde(default)]
    pub time_outliers: u64,
    /// Packets of a file with an unsupported link type. No other counter includes them.
    #[serde(default)]
    pub unread_link_types: u64,
    /// Lag of user space behind the packets, in milliseconds.
    #[serde(default)]
    pub lag_ms: u64,
}

/// The body of every error response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error, and how to correct the request.
    pub error: String,
}
