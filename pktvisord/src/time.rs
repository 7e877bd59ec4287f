//! Packet time: nanoseconds of unix time in an `i64`, good for the years 1678 to 2262.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds of a microsecond.
pub const MICROSECOND: i64 = 1_000;
/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;
/// Seconds of a minute.
pub const SECONDS_OF_MINUTE: i64 = 60;
/// Nanoseconds of a minute.
pub const MINUTE: i64 = SECOND * SECONDS_OF_MINUTE;

/// The unix minute that a time lies in: the number of its bucket.
#[inline]
pub fn minute_of(time: i64) -> i64 {
    time.div_euclid(MINUTE)
}

/// The time now, in nanoseconds of unix time.
pub fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// A time as text (RFC 3339), `2024-01-31T23:59:59Z`.
pub fn utc(time: i64) -> String {
    jiff::Timestamp::from_second(time.div_euclid(SECOND)).unwrap_or_default().to_string()
}
