//! Packet time: moments and spans in nanoseconds.
//!
//! All arithmetic saturates: times come from outside, and a wrong one must not end the program.

use core::ops::{Add, Div, Mul, Sub};

/// Seconds of a minute.
pub const SECONDS_OF_MINUTE: i64 = 60;
/// One microsecond.
pub const MICROSECOND: Span = Span::from_nanos(1_000);
/// One second.
pub const SECOND: Span = Span::from_seconds(1);
/// One minute.
pub const MINUTE: Span = Span::from_seconds(SECONDS_OF_MINUTE);

/// A moment of packet time: nanoseconds since the Unix epoch, in the years 1678 to 2262.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Start of 1970 in UTC.
    pub const EPOCH: Self = Self(0);
    /// Earliest moment, before every packet.
    pub const MIN: Self = Self(i64::MIN);
    /// Latest moment, after every packet.
    pub const MAX: Self = Self(i64::MAX);

    /// Returns the moment `nanoseconds` after the epoch.
    pub const fn from_nanos(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Returns the start of a Unix second.
    pub const fn from_second(second: i64) -> Self {
        Self(Span::from_seconds(second).0)
    }

    /// Returns the start of a Unix minute.
    pub const fn from_minute(minute: i64) -> Self {
        Self(minute.saturating_mul(MINUTE.0))
    }

    /// Returns the nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the Unix second that contains the moment.
    #[inline]
    pub const fn second(self) -> i64 {
        self.0.div_euclid(SECOND.0)
    }

    /// Returns the Unix minute that contains the moment: the number of its bucket.
    #[inline]
    pub const fn minute(self) -> i64 {
        self.0.div_euclid(MINUTE.0)
    }

    /// Returns the first whole Unix second at or after the moment.
    pub const fn next_second(self) -> i64 {
        self.second() + (self.0.rem_euclid(SECOND.0) > 0) as i64
    }

    /// Returns the nanoseconds between two moments, in any order.
    #[inline]
    pub const fn distance(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;

    #[inline(always)]
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;

    #[inline(always)]
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Span;

    #[inline(always)]
    fn sub(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A span of packet time in nanoseconds, at most 292 years. It is negative if time goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Span(i64);

impl Span {
    /// Length zero.
    pub const ZERO: Self = Self(0);

    /// Returns a span of `nanoseconds`.
    pub const fn from_nanos(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Returns a span of `seconds`.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Returns a span of `milliseconds`.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds.saturating_mul(1_000_000))
    }

    /// Returns the absolute value.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Returns the nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the microseconds, rounded to the nearest; 0 if the span is negative.
    #[inline]
    pub const fn as_micros(self) -> u64 {
        if self.0 <= 0 { 0 } else { (self.0 as u64 + 500) / 1_000 }
    }
}

impl Add for Span {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Mul<Span> for i64 {
    type Output = Span;

    #[inline(always)]
    fn mul(self, span: Span) -> Span {
        Span(self.saturating_mul(span.0))
    }
}

impl Div<i64> for Span {
    type Output = Self;

    #[inline(always)]
    fn div(self, parts: i64) -> Self {
        Self(self.0 / parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_minutes_hold_before_the_epoch() {
        let before = Timestamp::EPOCH - Span::from_nanos(1);
        assert_eq!((before.second(), before.minute(), before.next_second()), (-1, -1, 0));
        let after = Timestamp::from_minute(2) + 3 * SECOND;
        assert_eq!((after.second(), after.minute(), after.next_second()), (123, 2, 123));
        assert_eq!(after - Timestamp::from_second(123), Span::ZERO);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + SECOND, Timestamp::MAX);
        assert_eq!(Timestamp::MIN - SECOND, Timestamp::MIN);
        assert_eq!(Timestamp::MIN - Timestamp::MAX, Span::from_nanos(i64::MIN));
        assert_eq!(Timestamp::from_minute(i64::MAX), Timestamp::MAX);
        assert_eq!(i64::MAX * SECOND, Span::from_nanos(i64::MAX));
        assert_eq!(Timestamp::MIN.distance(Timestamp::MAX), u64::MAX);
    }

    #[test]
    fn microseconds_round_to_the_nearest() {
        for (nanos, micros) in [(-5, 0), (0, 0), (499, 0), (500, 1), (1_499, 1), (1_500, 2)] {
            assert_eq!(Span::from_nanos(nanos).as_micros(), micros, "{nanos}");
        }
        assert_eq!(Span::from_nanos(i64::MAX).as_micros(), 9_223_372_036_854_776);
    }
}
