//! Times and spans as people write them: `2026-11-01 10:00`, `-2h`, `5m`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SpanRelativeTo, Timestamp};

/// A time, or a distance to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A time in Unix seconds.
    At(i64),
    /// This many seconds before now, at least 0.
    Ago(i64),
}

impl Moment {
    /// Returns the Unix seconds if it is `now` now.
    pub fn at(self, now: i64) -> i64 {
        match self {
            Self::At(second) => second,
            Self::Ago(seconds) => now.saturating_sub(seconds),
        }
    }
}

/// The text that is parsed to the same moment.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(second) => write!(f, "{second}"),
            Self::Ago(0) => f.write_str("now"),
            Self::Ago(seconds) => write!(f, "-{seconds}s"),
        }
    }
}

/// Why a text is no time or span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MomentError {
    /// It is no time.
    Moment(String),
    /// It is no span.
    Span(String),
}

impl fmt::Display for MomentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moment(text) => write!(
                f,
                "{text:?} is not a time; expected \"2026-11-01 10:00\" (UTC), \
                 \"2026-11-01T10:00+01:00\", Unix seconds, \"now\", or a time before now such as \
                 \"-2h\" or \"-1d 12h\""
            ),
            Self::Span(text) => write!(
                f,
                "{text:?} is not a span of whole minutes; expected one such as \"5m\", \"1h\" or \"7d\""
            ),
        }
    }
}

impl std::error::Error for MomentError {}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let trimmed = text.trim();
        let error = || MomentError::Moment(text.to_owned());
        if trimmed == "now" {
            return Ok(Self::Ago(0));
        }
        if let Some(span) = trimmed.strip_prefix('-') {
            return seconds(span).map(Self::Ago).ok_or_else(error);
        }
        if trimmed.bytes().all(|byte| byte.is_ascii_digit()) && !trimmed.is_empty() {
            return trimmed.parse().map(Self::At).map_err(|_| error());
        }
        if let Ok(time) = trimmed.parse::<Timestamp>() {
            return Ok(Self::At(time.as_second()));
        }
        let civil = trimmed.parse::<DateTime>().ok();
        let civil = civil.or_else(|| Some(trimmed.parse::<Date>().ok()?.into()));
        let time = civil.and_then(|civil| TimeZone::UTC.to_timestamp(civil).ok());
        time.map(|time| Self::At(time.as_second())).ok_or_else(error)
    }
}

/// Parses a span such as `90m` or `1d 12h` to seconds. A day has 24 hours.
fn seconds(text: &str) -> Option<i64> {
    let span = text.trim().parse::<jiff::Span>().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Some(duration.as_secs()).filter(|&seconds| seconds >= 0)
}

/// Parses a span of whole minutes, at least one, to seconds.
///
/// # Errors
/// [`MomentError::Span`] for anything else.
pub fn parse_span(text: &str) -> Result<u64, MomentError> {
    let span = seconds(text).filter(|&seconds| seconds > 0 && seconds % 60 == 0);
    span.map(i64::unsigned_abs).ok_or_else(|| MomentError::Span(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_people_write_them() {
        let ten = 1_793_527_200;
        for (text, moment) in [
            ("2026-11-01 10:00", Moment::At(ten)),
            ("2026-11-01T10:00", Moment::At(ten)),
            (" 2026-11-01 10:00:30 ", Moment::At(ten + 30)),
            ("2026-11-01T10:00:00Z", Moment::At(ten)),
            ("2026-11-01 11:00+01:00", Moment::At(ten)),
            ("2026-11-01", Moment::At(ten - 36_000)),
            ("1793527200", Moment::At(ten)),
            ("now", Moment::Ago(0)),
            ("-2h", Moment::Ago(7_200)),
            ("-90m", Moment::Ago(5_400)),
            ("-7d", Moment::Ago(7 * 86_400)),
            ("-2w", Moment::Ago(14 * 86_400)),
            ("-1d 12h", Moment::Ago(36 * 3_600)),
        ] {
            assert_eq!(text.parse(), Ok(moment), "{text}");
            assert_eq!(moment.to_string().parse(), Ok(moment), "{moment}");
        }
        assert_eq!(Moment::Ago(60).at(100), 40);
        assert_eq!(Moment::Ago(i64::MAX).at(i64::MIN), i64::MIN);
    }

    #[test]
    fn refuses_what_is_no_time() {
        let texts = [
            "",
            "-",
            "--2h",
            "2h",
            "yesterday",
            "2026-13-01",
            "-1mo",
            "-1y",
            "99999999999999999999",
            "10:00",
            "-9223372036854775807h",
        ];
        for text in texts {
            let error = text.parse::<Moment>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a time")), "{error}");
        }
    }

    #[test]
    fn reads_spans_of_whole_minutes() {
        assert_eq!(parse_span("5m"), Ok(300));
        assert_eq!(parse_span("1h"), Ok(3_600));
        assert_eq!(parse_span("7d"), Ok(604_800));
        for text in ["", "0m", "30s", "-5m", "5", "1mo", "90s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
