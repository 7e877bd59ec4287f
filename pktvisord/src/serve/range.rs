//! Any range of time, and the list of stored periods.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use pktvisor_common::api::{ErrorBody, History, Range};
use pktvisor_common::moment::{Moment, MomentError, parse_span};
use serde::Deserialize;
use utoipa::IntoParams;

use super::answers::{Answers, Question};
use super::error::ApiError;
use super::metrics::json;
use super::{REQUEST_TIMEOUT, internal};
use crate::serve::live::Live;
use crate::store::range::RangeError;
use crate::time::SECONDS_OF_MINUTE;

/// The range that is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Start: `2026-11-01 10:00` in UTC, a time with an offset (RFC 3339), Unix seconds, or a time
    /// before now such as `-2h` or `-1d 12h`
    #[param(example = "-2h")]
    from: String,
    /// End, in the same forms; by default now
    #[param(example = "now")]
    to: Option<String>,
    /// Seconds of each part of a series, as a span of whole minutes such as `5m`, `1h` or `1d`; by
    /// default the range is merged into one part
    #[param(example = "10m")]
    step: Option<String>,
}

/// A range with its limits in Unix seconds, whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    from: i64,
    to: i64,
    step: Option<i64>,
}

impl Asked {
    /// Returns the limits if it is `now` now.
    fn limits(&self, now: i64) -> Result<Limits, ApiError> {
        let bad = |error: MomentError| ApiError::BadRange(error.to_string());
        let at = |text: &str| -> Result<i64, ApiError> {
            let moment: Moment = text.parse().map_err(bad)?;
            // Nothing is older than the epoch, or newer than the next minute.
            Ok(moment.at(now).clamp(0, now.saturating_add(SECONDS_OF_MINUTE).max(0)))
        };
        let (from, to) = (at(&self.from)?, self.to.as_deref().map_or(Ok(now), at)?);
        if from >= to {
            return Err(ApiError::BadRange(
                "the range must start before it ends and before now".into(),
            ));
        }
        let step = self.step.as_deref().map(parse_span).transpose().map_err(bad)?;
        let step = step.map(|step| i64::try_from(step).unwrap_or(i64::MAX).min(now.max(60)));
        let minute = SECONDS_OF_MINUTE;
        let (from, to) =
            (from.div_euclid(minute) * minute, (to + minute - 1).div_euclid(minute) * minute);
        Ok(Limits { from, to, step })
    }
}

/// Any range of time
///
/// One merged view, or a series of them, from the minutes in memory and the history on disk
/// (`--history-dir`). The limits are rounded to whole minutes. Where only hours or days are left,
/// the range is widened to them, and the answer states its limits. A series has at most 500 parts;
/// its step is lengthened to hours or days where nothing shorter is left.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/range",
    tag = "metrics",
    params(Asked),
    responses(
        (status = 200, description = "The range", body = Range),
        (status = 400, description = "A limit or step is malformed, the range is empty, or has too many steps", body = ErrorBody),
        (status = 404, description = "No data of the range; `/api/v1/history` lists the stored periods", body = ErrorBody),
    ),
)]
pub(super) async fn range(
    asked: Result<Query<Asked>, QueryRejection>,
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|error| bad_query(&error))?;
    let Limits { from, to, step } = asked.limits(live.now())?;
    let make = move || {
        let until = Instant::now() + REQUEST_TIMEOUT;
        match live.range((from, to), step, until) {
            Ok(Some(range)) => json(&range),
            Ok(None) => Err(ApiError::NothingStored),
            Err(error @ RangeError::TooManyParts) => Err(ApiError::BadRange(error.to_string())),
            Err(RangeError::OutOfTime) => Err(ApiError::Timeout),
            Err(RangeError::History(error)) => Err(internal(error)),
        }
    };
    answers.answer(Question::Range { from, to, step }, None, &headers, make).await
}

/// Names the error in the parameters, and the parameters.
fn bad_query(error: &QueryRejection) -> ApiError {
    let text = error.body_text();
    let (_, reason) = text.split_once(": ").unwrap_or(("", &text));
    ApiError::BadRange(format!(
        "{reason}; the parameters are from, to and step, as in ?from=-2h&step=5m"
    ))
}

/// The stored periods
///
/// The time that the minutes in memory cover, and the periods in the history on disk.
#[utoipa::path(
    get,
    path = "/api/v1/history",
    tag = "metrics",
    responses((status = 200, description = "The stored periods", body = History)),
)]
pub(super) async fn history(
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let make = move || json(&live.history().map_err(internal)?);
    answers.answer(Question::History, None, &headers, make).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(from: &str, to: Option<&str>, step: Option<&str>) -> Result<Limits, String> {
        let [to, step] = [to, step].map(|text| text.map(str::to_owned));
        let asked = Asked { from: from.to_owned(), to, step };
        asked.limits(1_000_050).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_whole_minutes() {
        let range = |from, to, step| Ok(Limits { from, to, step });
        assert_eq!(limits("-2h", None, None), range(992_820, 1_000_080, None));
        assert_eq!(limits("-1h", Some("-30m"), Some("5m")), range(996_420, 998_280, Some(300)));
        assert_eq!(limits("1970-01-01", Some("61"), None), range(0, 120, None));
        assert_eq!(limits("-7000000d", Some("9999-01-01"), None), range(0, 1_000_140, None));
    }

    #[test]
    fn limits_that_make_no_range_are_refused() {
        for (from, to) in [("now", None), ("-1h", Some("-2h")), ("9999-01-01", None)] {
            let error = limits(from, to, None).unwrap_err();
            assert!(error.contains("must start before it ends"), "{error}");
        }
        assert!(limits("soon", None, None).unwrap_err().contains("\"soon\" is not a time"));
        assert!(limits("-1h", None, Some("1s")).unwrap_err().contains("whole minutes"));
    }
}
