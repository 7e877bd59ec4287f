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

/// A time as text, `2024-01-31 23:59:59 UTC`.
///
/// The calendar is worked out by the algorithm of Howard Hinnant's "chrono-Compatible Low-Level
/// Date Algorithms" (`civil_from_days`).
pub fn utc(time: i64) -> String {
    let seconds = time.div_euclid(SECOND);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400 * SECOND), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_567_706_433 * SECOND + 999_999_999), "2019-09-05 18:00:33 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59 UTC");
    }
}
