//! Formats numbers for people.

use jiff::Timestamp;

/// Formats a count with thousands separators or, from 100 billion on, with an SI prefix.
pub fn count(n: u64) -> String {
    if n >= 100_000_000_000 {
        return si(n);
    }
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + 3);
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with three digits and an SI prefix: `1.23M`.
pub fn si(n: u64) -> String {
    scaled(n, &["", "k", "M", "G", "T", "P", "E"])
}

/// Formats bytes with an SI prefix: `1.23MB`.
pub fn bytes(n: u64) -> String {
    si(n) + "B"
}

/// Formats microseconds in a fitting unit: `1.23ms`.
pub fn micros(n: u64) -> String {
    // No SI prefixes above seconds: `ks` is unusual.
    match n {
        0..1_000_000_000 => scaled(n, &["µs", "ms", "s"]),
        _ => format!("{}s", n / 1_000_000),
    }
}

/// Formats hundredths: `1.96`.
pub fn hundredths(n: u64) -> String {
    match n {
        0..100_000 => format!("{}.{:02}", n / 100, n % 100),
        _ => si(n / 100),
    }
}

/// Formats `part` of `whole` in percent: `48.6%`. Empty if `whole` is 0.
pub fn percent(part: u64, whole: u64) -> String {
    match (part, share(part, whole) * 100.0) {
        _ if whole == 0 => String::new(),
        (1.., ..0.05) => "<0.1%".to_owned(),
        (_, percent) => format!("{percent:.1}%"),
    }
}

/// Returns `part` of `whole`, from 0 to 1.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

/// Formats a duration in its two largest units: `2h 5min`.
pub fn duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}min"),
        (0, m, s) => format!("{m}min {s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h {m}min"),
    }
}

/// Formats Unix seconds as date and time in UTC, or as a number if out of range.
pub fn time(unix: i64) -> String {
    match Timestamp::from_second(unix) {
        Ok(time) => time.strftime("%F %T UTC").to_string(),
        Err(_) => unix.to_string(),
    }
}

/// Formats a range of Unix seconds, whole minutes, in UTC: `2026-11-01 10:00 to 11:30 UTC`.
pub fn time_range(from: i64, to: i64) -> String {
    let minutes = |unix| {
        let time = time(unix);
        time.strip_suffix(":00 UTC").unwrap_or(&time).to_owned()
    };
    let (from, to) = (minutes(from), minutes(to));
    let date = from.split_inclusive(' ').next().unwrap_or_default();
    format!("{from} to {} UTC", to.strip_prefix(date).unwrap_or(&to))
}

/// Formats `n` with three digits in the first unit that needs at most three digits before the
/// point. Each unit is a thousand times the previous one.
fn scaled(n: u64, units: &[&str]) -> String {
    let mut value = n as f64;
    let mut left = units;
    while let [_, rest @ ..] = left
        && !rest.is_empty()
        && value >= 999.5
    {
        value /= 1000.0;
        left = rest;
    }
    let unit = left.first().copied().unwrap_or_default();
    match value {
        _ if left.len() == units.len() => format!("{n}{unit}"),
        ..9.995 => format!("{value:.2}{unit}"),
        ..99.95 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (99_999_999_999, "99,999,999,999"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn prefixes_keep_three_digits() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (1234, "1.23k"),
            (9994, "9.99k"),
            (9996, "10.0k"),
            (99_949, "99.9k"),
            (99_951, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(si(n), text);
        }
    }

    #[test]
    fn times_use_a_fitting_unit() {
        for (n, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1414, "1.41ms"),
            (250_000, "250ms"),
            (5_000_000, "5.00s"),
            (60_000_000, "60.0s"),
            (1_000_000_000, "1000s"),
        ] {
            assert_eq!(micros(n), text);
        }
        for (s, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1min"),
            (301, "5min 1s"),
            (3600, "1h"),
            (7500, "2h 5min"),
        ] {
            assert_eq!(duration(s), text);
        }
        assert_eq!(time(1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(time(i64::MAX), "9223372036854775807");
    }

    #[test]
    fn shares_stay_between_0_and_1() {
        assert_eq!(percent(1, 3), "33.3%");
        assert_eq!(percent(0, 3), "0.0%");
        assert_eq!(percent(1, 3000), "<0.1%");
        assert_eq!(percent(5, 3), "100.0%");
        assert_eq!(percent(5, 0), "");
        assert_eq!(hundredths(196), "1.96");
        assert_eq!(hundredths(123_456_700), "1.23M");
    }
}
