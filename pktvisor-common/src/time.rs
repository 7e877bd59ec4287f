//! Packet time: nanoseconds of unix time in an `i64`, good for the years 1678 to 2262.

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
