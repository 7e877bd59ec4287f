//! Any range of time, merged from the minutes in memory and from the history.
//!
//! A range is covered by the longest stored periods that lie in it: days, then hours, then minutes. Each
//! second is covered once. At its ends, a range is widened to a whole hour or day if nothing finer is left
//! there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pktvisor_common::summary::Summary;

use super::history::{Counted, Detail, HistoryError, Part, Resolution, SharedHistory, Stored};

/// Maximum parts of a series.
pub(crate) const MAX_PARTS: i64 = 500;

/// Reason why there is no answer about a range.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RangeError {
    /// A series has too many parts.
    #[error("a series has at most {MAX_PARTS} parts; use a longer step")]
    TooManyParts,
    /// Not all periods could be read in time.
    #[error("not all periods could be read in time")]
    OutOfTime,
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

type Result<T> = std::result::Result<T, RangeError>;

/// A range, merged.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    /// Its start in Unix seconds.
    pub(crate) from: i64,
    /// Its end in Unix seconds.
    pub(crate) to: i64,
    /// The summary.
    pub(crate) summary: Summary,
    /// Seconds for which packets were counted.
    pub(crate) covered: u64,
    /// Parts that were counted on other terms, and are left out.
    pub(crate) left_out: u64,
    /// Its form.
    pub(crate) detail: Detail,
}

/// The sources of ranges.
pub(crate) struct Ranges<'a> {
    /// Minutes in memory, by the Unix second of their start.
    memory: BTreeMap<i64, Vec<Arc<Summary>>>,
    /// Their terms and key.
    counted: Counted,
    history: Option<&'a SharedHistory>,
    /// Reading ends by then.
    until: Instant,
}

/// Where a part of a range is read from.
enum Source {
    Memory(Arc<Summary>),
    History(Stored),
}

/// The parts that cover a range.
struct Cover {
    from: i64,
    to: i64,
    sources: Vec<Source>,
}

/// Stored periods by their start.
type ByStart = BTreeMap<i64, Vec<Stored>>;

/// The stored periods of a range.
struct Held {
    days: ByStart,
    hours: ByStart,
    minutes: ByStart,
    /// Start of the oldest hour.
    hours_from: i64,
    /// Start of the oldest minute.
    minutes_from: i64,
}

impl<'a> Ranges<'a> {
    /// Creates ranges over minutes in memory, which were counted on the present terms, and a history.
    pub(crate) fn new(
        minutes: impl IntoIterator<Item = Arc<Summary>>,
        counted: Counted,
        history: Option<&'a SharedHistory>,
        until: Instant,
    ) -> Self {
        let mut memory: BTreeMap<i64, Vec<Arc<Summary>>> = BTreeMap::new();
        for minute in minutes {
            let start = minute.minute.saturating_mul(Resolution::Minute.seconds());
            memory.entry(start).or_default().push(minute);
        }
        Self { memory, counted, history, until }
    }

    /// Merges the range from `from` to `to`, in Unix seconds. Both are rounded to whole minutes. Returns
    /// `None` if there is nothing. The range is narrowed to the time from the oldest period to the newest.
    ///
    /// # Errors
    /// [`RangeError`] if not all periods can be read.
    pub(crate) fn merged(&self, from: i64, to: i64) -> Result<Option<Whole>> {
        let narrow = self.narrow(floor(from, 60), ceiling(to, 60))?;
        let Some((from, to)) = narrow else { return Ok(None) };
        let held = self.held(from, to, Detail::Full)?;
        self.read(self.cover(&held, from, to), Detail::Full)
    }

    /// Merges the counters of each `step` seconds of a range, and hands over the parts that hold something,
    /// oldest first. The step is lengthened to whole hours or days if nothing finer is left. Returns it.
    ///
    /// # Errors
    /// [`RangeError`] if there are too many parts, or if not all periods can be read.
    pub(crate) fn series(
        &self,
        from: i64,
        to: i64,
        step: i64,
        each: &mut dyn FnMut(&Whole),
    ) -> Result<i64> {
        let Some((first, last)) = self.narrow(from, to)? else { return Ok(step) };
        let mut step = step;
        let (held, from, to) = loop {
            // Whole steps start earlier, where less may be left.
            let (from, to) = (floor(first, step), ceiling(last, step));
            let held = self.held(from, to, Detail::Counters)?;
            let longer = held.step(from, to, step);
            if longer == step {
                break (held, from, to);
            }
            step = longer;
        };
        if to.saturating_sub(from) / step > MAX_PARTS {
            return Err(RangeError::TooManyParts);
        }
        for start in (0..).map(|part| from + part * step).take_while(|&start| start < to) {
            let part = self.read(self.cover(&held, start, start + step), Detail::Counters)?;
            part.iter().for_each(&mut *each);
        }
        Ok(step)
    }

    /// Narrows a range to the time from the oldest period to the newest one. Returns `None` if nothing is
    /// left of it.
    fn narrow(&self, from: i64, to: i64) -> Result<Option<(i64, i64)>> {
        let mut oldest = self.memory.keys().next().copied().unwrap_or(i64::MAX);
        let newest = self.memory.keys().next_back().copied().unwrap_or(i64::MIN);
        let mut newest = newest.saturating_add(Resolution::Minute.seconds());
        for resolution in Resolution::ALL {
            let limits = self.history.map(|history| history.limits(resolution, Detail::Counters));
            if let Some((first, last)) = limits.transpose()?.flatten() {
                oldest = oldest.min(first);
                newest = newest.max(last);
            }
        }
        let (from, to) = (from.max(oldest), to.min(newest));
        Ok((from < to).then_some((from, to)))
    }

    /// Lists the stored periods of a range, widened to whole days.
    fn held(&self, from: i64, to: i64, detail: Detail) -> Result<Held> {
        let by_start = |resolution: Resolution| -> Result<ByStart> {
            let mut periods = ByStart::new();
            let day = Resolution::Day.seconds();
            let Some(history) = self.history else { return Ok(periods) };
            for stored in history.list(resolution, detail, floor(from, day), ceiling(to, day))? {
                periods.entry(stored.period).or_default().push(stored);
            }
            Ok(periods)
        };
        let oldest = |resolution| -> Result<i64> {
            let limits = self.history.map(|history| history.limits(resolution, detail));
            Ok(limits.transpose()?.flatten().map_or(i64::MAX, |(oldest, _)| oldest))
        };
        Ok(Held {
            days: by_start(Resolution::Day)?,
            hours: by_start(Resolution::Hour)?,
            minutes: by_start(Resolution::Minute)?,
            hours_from: oldest(Resolution::Hour)?,
            minutes_from: oldest(Resolution::Minute)?,
        })
    }

    /// Returns the periods that cover a range of whole minutes.
    fn cover(&self, held: &Held, from: i64, to: i64) -> Cover {
        let mut cover = Cover { from, to, sources: Vec::new() };
        for day in pieces(from, to, Resolution::Day) {
            if cover.take(&held.days, day, Resolution::Day, held.hours_from) {
                continue;
            }
            for hour in pieces(day.0, day.1, Resolution::Hour) {
                if !cover.take(&held.hours, hour, Resolution::Hour, held.minutes_from) {
                    self.take_minutes(&held.minutes, hour, &mut cover);
                }
            }
        }
        cover
    }

    fn take_minutes(&self, stored: &ByStart, (from, to): (i64, i64), cover: &mut Cover) {
        let in_memory = |stored: &Stored| {
            let same = self.memory.get(&stored.period).into_iter().flatten();
            same.into_iter().any(|minute| stored.start < minute.end && minute.start < stored.end)
        };
        for stored in stored.range(from..to).flat_map(|(_, stored)| stored) {
            if !in_memory(stored) {
                cover.sources.push(Source::History(stored.clone()));
            }
        }
        let minutes = self.memory.range(from..to).flat_map(|(_, minutes)| minutes);
        cover.sources.extend(minutes.map(|minute| Source::Memory(Arc::clone(minute))));
    }

    /// Merges the parts of a range. If they were counted on several terms, those counted like the newest
    /// one are merged.
    fn read(&self, cover: Cover, detail: Detail) -> Result<Option<Whole>> {
        let mut groups: Vec<(Part, u64)> = Vec::new();
        for source in cover.sources {
            if Instant::now() > self.until {
                return Err(RangeError::OutOfTime);
            }
            let part = match source {
                Source::Memory(minute) => {
                    let mut minute = Arc::unwrap_or_clone(minute);
                    if detail == Detail::Counters {
                        minute.drop_keys();
                    }
                    Part::of_minute(self.counted.clone(), minute)
                }
                Source::History(stored) => {
                    let read = self.history.map(|history| history.read(&stored)).transpose()?;
                    // It was removed since it was listed.
                    let Some(part) = read.flatten() else { continue };
                    part
                }
            };
            match groups.iter_mut().find(|(known, _)| known.counted == part.counted) {
                Some((whole, count)) => {
                    whole.merge(&part);
                    *count += 1;
                }
                None => groups.push((part, 1)),
            }
        }
        let all: u64 = groups.iter().map(|(_, count)| count).sum();
        let newest = groups.into_iter().max_by_key(|(part, _)| part.summary.end);
        Ok(newest.map(|(Part { summary, covered, .. }, count)| {
            let (from, to) = (cover.from, cover.to);
            Whole { from, to, summary, covered, left_out: all - count, detail }
        }))
    }
}

impl Cover {
    /// Takes the stored period that a piece lies in if the piece is all of it, or if nothing finer than
    /// `finer_from` is left of the piece. Returns false if it was not taken.
    fn take(
        &mut self,
        stored: &ByStart,
        (from, to): (i64, i64),
        resolution: Resolution,
        finer_from: i64,
    ) -> bool {
        let start = resolution.start_of(from);
        let end = start + resolution.seconds();
        let Some(parts) = stored.get(&start) else { return false };
        let first = parts.iter().map(|part| part.start.second()).min().unwrap_or(start);
        let is_whole = (from, to) == (start, end);
        if !is_whole && from.max(first) >= finer_from {
            return false;
        }
        self.sources.extend(parts.iter().cloned().map(Source::History));
        self.from = self.from.min(start);
        self.to = self.to.max(end);
        true
    }
}

impl Held {
    /// Returns the shortest step, from `step` on, that can be served for a range.
    fn step(&self, from: i64, to: i64, step: i64) -> i64 {
        let is_gone = |longer: &ByStart, resolution: Resolution, finer_from: i64| {
            let first = resolution.start_of(from);
            longer.range(first..to.max(first)).any(|(_, parts)| {
                let start = parts.iter().map(|part| part.start.second()).min();
                start.is_some_and(|start| start.max(from) < finer_from)
            })
        };
        let mut step = step;
        for (longer, resolution, finer_from) in [
            (&self.hours, Resolution::Hour, self.minutes_from),
            (&self.days, Resolution::Day, self.hours_from),
        ] {
            if step % resolution.seconds() != 0 && is_gone(longer, resolution, finer_from) {
                step = ceiling(step, resolution.seconds());
            }
        }
        step
    }
}

/// Cuts a range at the limits of periods.
fn pieces(from: i64, to: i64, resolution: Resolution) -> impl Iterator<Item = (i64, i64)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let start = at;
        at = to.min(resolution.start_of(start) + resolution.seconds());
        (start < to).then_some((start, at))
    })
}

fn floor(second: i64, step: i64) -> i64 {
    second.div_euclid(step).saturating_mul(step)
}

fn ceiling(second: i64, step: i64) -> i64 {
    floor(second.saturating_add(step - 1), step)
}

#[cfg(test)]
mod tests;
