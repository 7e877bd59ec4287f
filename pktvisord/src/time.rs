//! Units of packet time, the wall clock, and timestamps as text.

use std::time::{SystemTime, UNIX_EPOCH};

pub use pktvisor_common::time::*;

/// Returns the current time in nanoseconds of Unix time.
pub fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// Formats a time as RFC 3339, in whole seconds: `2024-01-31T23:59:59Z`.
pub fn utc(time: i64) -> String {
    jiff::Timestamp::from_second(time.div_euclid(SECOND)).unwrap_or_default().to_string()
}
