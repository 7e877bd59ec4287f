//! Units of packet time, the wall clock, and timestamps as text.

use std::time::{SystemTime, UNIX_EPOCH};

pub use pktvisor_common::time::*;

/// Returns the current time.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(since.as_nanos() as i64)
}

/// Formats a time as RFC 3339, in whole seconds: `2024-01-31T23:59:59Z`.
pub fn utc(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.second()).unwrap_or_default().to_string()
}
