//! The ways through time: which range the keys request.

use pktvisor_common::moment::{Moment, MomentError};

use crate::app::App;
use crate::client::Period;
use crate::keys::Action;
use crate::past::Past;

/// Seconds of a minute and of an hour.
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

/// Parses `FROM to TO`, or a start to which the length of the shown range belongs, else an hour. A range that
/// starts less than its length before now ends now.
pub(crate) fn range(text: &str, now: i64, shown: Option<&Past>) -> Result<Period, MomentError> {
    if let Some((from, to)) = text.split_once(" to ") {
        return Ok(Period::Range { from: from.parse()?, to: to.parse()? });
    }
    let length = shown.map_or(HOUR, |past| past.to.saturating_sub(past.from));
    let from = text.parse::<Moment>()?.at(now);
    Ok(match from.saturating_add(length) {
        to if to >= now => Period::Range { from: Moment::At(from), to: Moment::Ago(0) },
        to => Period::Range { from: Moment::At(from), to: Moment::At(to) },
    })
}

/// Returns true if `shown` is the oldest minute in memory, and the daemon has a history on disk.
pub(crate) fn is_oldest(app: &App, shown: Period) -> bool {
    let Some(answer) = app.agent().and_then(|agent| agent.answer.as_ref()) else { return false };
    let Period::Bucket(n) = shown else { return false };
    // An older one was requested, but there was none.
    let is_nearest = answer.period == shown && answer.asked != shown;
    let daemon = &answer.app.app;
    daemon.history.is_some() && (is_nearest || n.saturating_add(1) >= daemon.kept())
}

/// Returns the range before or after the shown period, or the live minute after the newest one.
pub(crate) fn next(app: &App, action: Action) -> Option<Period> {
    let (from, to) = app.shown_limits()?;
    let length = to.saturating_sub(from).max(MINUTE);
    let (from, to) = match action {
        Action::Older => (from.saturating_sub(length), from),
        _ => (to, to.saturating_add(length)),
    };
    Some(match to > app.live_end() {
        true => Period::Bucket(0),
        false => between(from, to),
    })
}

/// Returns twice or half of the range that is shown, with the same end.
pub(crate) fn resized(app: &App, action: Action) -> Option<Period> {
    let (from, to) = app.shown_limits()?;
    let length = to.saturating_sub(from);
    let length = match action {
        Action::Wider => length.saturating_mul(2),
        _ => (length / 2).max(MINUTE),
    };
    Some(between(to.saturating_sub(length).max(0), to))
}

/// Returns the range from the mark to the shown period.
pub(crate) fn up_to_mark(app: &App, mark: (i64, i64)) -> Option<Period> {
    let (from, to) = app.shown_limits()?;
    Some(between(from.min(mark.0), to.max(mark.1)))
}

fn between(from: i64, to: i64) -> Period {
    Period::Range { from: Moment::At(from), to: Moment::At(to) }
}
