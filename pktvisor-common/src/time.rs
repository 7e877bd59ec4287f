//! Packet time: nanoseconds since the Unix epoch in an `i64`, which covers the years 1678 to 2262.

/// Nanoseconds per microsecond.
pub const MICROSECOND: i64 = 1_000;
/// Nanoseconds per second.
pub const SECOND: i64 = 1_000_000_000;
/// Seconds per minute.
pub const SECONDS_OF_MINUTE: i64 = 60;
/// Nanoseconds per minute.
pub const MINUTE: i64 = SECOND * SECONDS_OF_MINUTE;

/// Returns the Unix minute of a time: the number of its bucket.
#[inline]
pub fn minute_of(time: i64) -> i64 {
    time.div_euclid(MINUTE)
}
