//! Views of any range of time, and a list of the stored periods.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{HistoryState, MetricsView};

/// Response of `/api/v1/metrics/range`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Range {
    /// Start of the range in Unix seconds. It is earlier than requested if only longer periods are
    /// left of that time: hours or days.
    pub from_ts: i64,
    /// End of the range in Unix seconds. It can be later than requested for the same reason.
    pub to_ts: i64,
    /// Seconds of each part of a series; left out for one merged view. It is longer than requested
    /// if only longer periods are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub step: Option<u64>,
    /// The parts of the series, oldest first, or one merged part. Parts without data are left out.
    pub parts: Vec<RangePart>,
}

/// A part of a range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RangePart {
    /// Start of the part in Unix seconds.
    pub from_ts: i64,
    /// End of the part in Unix seconds.
    pub to_ts: i64,
    /// Seconds of the part for which packets were counted. It is less than its length if the daemon
    /// did not run all the time.
    pub covered: u64,
    /// Stored periods that are left out, because they were counted on other terms (DNS ports, masks,
    /// keys) than the newest one.
    pub left_out: u64,
    /// False for the parts of a series: they have counters, rates and histograms; top lists of
    /// names, addresses and ports are empty, and cardinalities 0.
    pub full: bool,
    /// The view.
    pub metrics: MetricsView,
}

/// Response of `/api/v1/history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Start of the oldest minute in memory in Unix seconds; left out before the first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub memory_from_ts: Option<i64>,
    /// End of the live minute in Unix seconds; left out before the first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub memory_to_ts: Option<i64>,
    /// The history on disk; left out without `--history-dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub disk: Option<DiskHistory>,
}

/// The history on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskHistory {
    /// The folder.
    pub folder: String,
    /// Whether it is written.
    pub state: HistoryState,
    /// The stored minutes, hours and days, as far as there are any.
    pub resolutions: Vec<StoredPeriods>,
}

/// The stored periods of one length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredPeriods {
    /// Length of a period in seconds: 60, 3600 or 86400.
    pub seconds: u64,
    /// Number of stored parts of periods: a period has several if the daemon was restarted or
    /// reconfigured within it.
    pub parts: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Start of the oldest one in Unix seconds.
    pub from_ts: i64,
    /// End of the newest one in Unix seconds.
    pub to_ts: i64,
    /// Start of the oldest one that has top lists and cardinalities, in Unix seconds; left out if
    /// none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub full_from_ts: Option<i64>,
}
