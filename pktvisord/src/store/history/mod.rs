//! The history: closed minutes on disk, and the hours and days that they are merged into.
//!
//! * `database`: the file.
//! * `keep`: its bounds in size and time.
//! * `shared`: the history as the writer and the server share it.
//! * `writer`: the thread that stores closed minutes.
//!
//! The history merges an hour from its stored minutes once the hour is over, and a day from its hours. The next daemon merges the periods that a killed one left unmerged.

mod database;
mod keep;
mod shared;
mod writer;

use std::collections::BTreeSet;
use std::path::Path;

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::state::{self, Decoded, Keyed, Terms};
use tracing::warn;

use self::database::{Database, Kind, New, ROW_BYTES};
pub(crate) use self::database::{DatabaseError, Detail, Resolution, Stored};
pub use self::keep::Keep;
pub(crate) use self::shared::SharedHistory;
pub(crate) use self::writer::{QUEUE, Writer};
use super::feed::Closed;
use super::rollup::roll_up;
use crate::time::utc;

/// Level of zstd. Higher ones save a tenth of the space at most, and cost several times as much.
const COMPRESSION: i32 = 3;

/// Maximum periods of each resolution and detail that expire with a new one: more than are added.
const EXPIRED: u32 = 4;

/// The terms and the sketch key of a summary. Only summaries that agree in both merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The terms: DNS ports, masks and name options.
    pub(crate) terms: Terms,
    /// The key of their sketches.
    pub(crate) keyed: Keyed,
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A period cannot be compressed.
    #[error("cannot compress a period: {0}")]
    Compression(std::io::Error),
}

type Result<T> = std::result::Result<T, HistoryError>;

/// A period, read.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its terms and key.
    pub(crate) counted: Counted,
    /// Its summary.
    pub(crate) summary: Summary,
    /// Seconds for which packets were counted.
    pub(crate) covered: u64,
}

impl Part {
    /// Returns a minute, whole or not, as a part.
    pub(crate) fn of_minute(counted: Counted, summary: Summary) -> Self {
        let covered = summary.end.second().saturating_sub(summary.start.second());
        Self { counted, covered: covered.max(0).unsigned_abs(), summary }
    }

    /// Merges another part, which was counted on the same terms and of another time.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.summary.merge(&other.summary);
        self.covered += other.covered;
    }
}

/// The history of a policy.
#[derive(Debug)]
pub(crate) struct History {
    database: Database,
    policy: &'static str,
    keep: Keep,
    repeats: Repeats,
}

/// The treatment of a minute with the start of a stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// The packets are others: the clock was set back.
    Add,
    /// The packets are the same: a capture is replayed again.
    Replace,
}

impl History {
    /// Opens the history in a folder, or creates it.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be used. It is as it was before.
    pub(crate) fn open(
        folder: &Path,
        policy: &'static str,
        keep: Keep,
        repeats: Repeats,
    ) -> Result<Self> {
        Ok(Self { database: Database::open(folder)?, policy, keep, repeats })
    }

    /// Stores a closed minute, also in the hour and day that it came too late for.
    ///
    /// # Errors
    /// [`HistoryError`] if the minute cannot be stored. The stored periods remain.
    pub(crate) fn add(&self, closed: &Closed, counted: &Counted) -> Result<()> {
        let part = Part::of_minute(counted.clone(), Summary::clone(&closed.summary));
        let minute = part.summary.minute * Resolution::Minute.seconds();
        let same = |detail| -> Result<Option<Stored>> {
            let stored = self.list(Resolution::Minute, detail, minute, minute + 1)?;
            Ok(stored.into_iter().find(|stored| stored.start == part.summary.start))
        };
        let mut whole = part.clone();
        if self.repeats == Repeats::Add
            && let Some(same) = same(Detail::Full)?
            && let Some(before) = self.read(&same)?.filter(|before| before.counted == part.counted)
        {
            whole.merge(&before);
        }
        let is_known = self.repeats == Repeats::Replace
            && (same(Detail::Counters)?.is_some() || self.is_older_than_all(minute)?);
        let forms = Forms::of(&whole)?;
        self.make_room(forms.bytes(), minute)?;
        // Together: a minute that came late must not be stored without being in its hour and day.
        self.database.transaction(|| {
            self.put(Resolution::Minute, minute, &whole, &forms)?;
            if !is_known {
                for coarse in [Resolution::Hour, Resolution::Day] {
                    self.catch_up(coarse, coarse.start_of(minute), part.clone())?;
                }
            }
            Ok(())
        })
    }

    /// Merges the hours and days that are over with the minute stored last, and removes expired periods.
    ///
    /// # Errors
    /// [`HistoryError`] if the file fails. The next minute completes the work.
    pub(crate) fn keep_up(&self, stored: &Closed) -> Result<()> {
        let minute = stored.summary.minute * Resolution::Minute.seconds();
        // Minutes far ahead date from a wrong clock.
        let ahead = minute.saturating_add(Resolution::Day.seconds());
        let newest =
            self.database.newest(self.kind(Resolution::Minute, Detail::Counters), ahead)?;
        let now = newest.map_or(minute, |newest| newest.period.max(minute));
        self.roll_up(Resolution::Minute, Resolution::Hour, Some(self.keep.hours), now)?;
        self.roll_up(Resolution::Hour, Resolution::Day, self.keep.days, now)?;
        self.expire(minute)
    }

    /// Returns true if a minute is older than all that are stored. If a replay brings it again, its hour and
    /// day have it.
    fn is_older_than_all(&self, minute: i64) -> Result<bool> {
        let oldest = self.database.oldest(self.kind(Resolution::Minute, Detail::Counters))?;
        Ok(oldest.is_some_and(|oldest| minute < oldest.period))
    }

    /// Adds a minute that came late to the hour or day that it lies in, if that was merged before.
    fn catch_up(&self, coarse: Resolution, period: i64, late: Part) -> Result<()> {
        let merged = self.list(coarse, Detail::Full, period, period + 1)?;
        if merged.is_empty() {
            return Ok(());
        }
        let mut parts = vec![Ok(late)];
        for merged in merged {
            parts.extend(self.read(&merged).transpose());
        }
        for detail in Detail::ALL {
            for merged in self.list(coarse, detail, period, period + 1)? {
                self.database.remove(merged.id)?;
            }
        }
        self.merge(coarse, period, parts)
    }

    /// Merges the parts of all periods that are over at `now`, in Unix seconds, and were not merged before.
    fn roll_up(
        &self,
        fine: Resolution,
        coarse: Resolution,
        kept: Option<i64>,
        now: i64,
    ) -> Result<()> {
        // A period that would expire at once is not merged.
        let from = kept.map_or(i64::MIN, |kept| coarse.start_of(now.saturating_sub(kept)));
        let end = coarse.start_of(now);
        let merged = self.list(coarse, Detail::Full, from, end)?;
        let merged: BTreeSet<i64> = merged.into_iter().map(|merged| merged.period).collect();
        let start = |part: &Stored| coarse.start_of(part.period);
        let mut parts = self.list(fine, Detail::Full, from, end)?;
        parts.retain(|part| !merged.contains(&start(part)));
        for parts in parts.chunk_by(|a, b| start(a) == start(b)) {
            self.database.transaction(|| {
                let read = parts.iter().filter_map(|part| self.read(part).transpose());
                self.merge(coarse, start(&parts[0]), read)
            })?;
        }
        Ok(())
    }

    /// Merges the parts of a period, one after the other, and stores it: once for all parts that can be
    /// merged.
    fn merge(
        &self,
        coarse: Resolution,
        period: i64,
        parts: impl IntoIterator<Item = Result<Part>>,
    ) -> Result<()> {
        let mut groups: Vec<Part> = Vec::new();
        for part in parts {
            let part = part?;
            match groups.iter_mut().find(|known| known.counted == part.counted) {
                Some(known) => known.merge(&part),
                None => groups.push(part),
            }
        }
        for mut whole in groups {
            roll_up(&mut whole.summary);
            self.put(coarse, period, &whole, &Forms::of(&whole)?)?;
        }
        Ok(())
    }

    /// Removes the periods that expire with the minute that starts at `minute`, in Unix seconds. Each minute,
    /// hour and day removes only some of its kind, so that a wrong clock does not remove the history.
    fn expire(&self, minute: i64) -> Result<()> {
        let Keep { minutes, counters, hours, days, .. } = self.keep;
        let (hours, counters) = (Some(hours), counters.max(minutes));
        for (resolution, detail, kept) in [
            (Resolution::Minute, Detail::Full, Some(minutes)),
            (Resolution::Minute, Detail::Counters, Some(counters)),
            (Resolution::Hour, Detail::Full, hours),
            (Resolution::Hour, Detail::Counters, hours),
            (Resolution::Day, Detail::Full, days),
            (Resolution::Day, Detail::Counters, days),
        ] {
            if let Some(kept) = kept.filter(|_| resolution.start_of(minute) == minute) {
                self.database.remove_before(
                    self.kind(resolution, detail),
                    minute - kept,
                    EXPIRED,
                )?;
            }
        }
        Ok(())
    }

    /// Removes the finest and oldest periods until forms of `bytes` have room for `minute`. Periods that are
    /// not merged yet go last.
    fn make_room(&self, bytes: u64, minute: i64) -> Result<()> {
        let needed = bytes + Detail::ALL.len() as u64 * ROW_BYTES;
        let mut last = Vec::new();
        let mut kinds = Vec::new();
        for (resolution, needed_by) in [
            (Resolution::Minute, Some(Resolution::Hour)),
            (Resolution::Hour, Some(Resolution::Day)),
            (Resolution::Day, None),
        ] {
            let merged = |longer: Resolution| -> Result<i64> {
                let newest = self.database.newest(self.kind(longer, Detail::Full), minute)?;
                Ok(newest.map_or(i64::MIN, |newest| newest.period + longer.seconds()))
            };
            let end = needed_by.map_or(Ok(i64::MAX), merged)?;
            for detail in Detail::ALL {
                kinds.push((self.kind(resolution, detail), end));
                last.push((self.kind(resolution, detail), i64::MAX));
            }
        }
        kinds.append(&mut last);
        while self.database.bytes()?.saturating_add(needed) > self.keep.bytes {
            let mut finest = kinds.iter();
            let oldest =
                finest.find_map(|(kind, end)| self.database.oldest_before(*kind, *end).transpose());
            let Some(oldest) = oldest.transpose()? else { break };
            self.database.remove(oldest.id)?;
        }
        Ok(self.database.shrink()?)
    }

    fn kind(&self, resolution: Resolution, detail: Detail) -> Kind<'_> {
        Kind { policy: self.policy, resolution, detail }
    }

    /// Returns at most `most` of the newest minutes that start from `from` on and before `to`, in Unix seconds,
    /// oldest first: those that were counted like the present ones, in full.
    ///
    /// # Errors
    /// [`HistoryError`] if they cannot be read.
    pub(crate) fn minutes(
        &self,
        (from, to): (i64, i64),
        most: usize,
        counted: &Counted,
    ) -> Result<Vec<Summary>> {
        let stored = self.list(Resolution::Minute, Detail::Full, from, to)?;
        let newest = &stored[stored.len().saturating_sub(most)..];
        let read = newest.iter().filter_map(|stored| self.read(stored).transpose());
        let read: Result<Vec<Part>> = read.collect();
        let read = read?.into_iter().filter(|part| part.counted == *counted);
        Ok(read.map(|part| part.summary).collect())
    }

    /// Lists the periods of a resolution that start from `from` on and before `to`, in Unix seconds, oldest
    /// first.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be read.
    pub(crate) fn list(
        &self,
        resolution: Resolution,
        detail: Detail,
        from: i64,
        to: i64,
    ) -> Result<Vec<Stored>> {
        Ok(self.database.list(self.kind(resolution, detail), from, to)?)
    }

    /// Reads a period. Returns `None` if it is gone or damaged.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be read.
    pub(crate) fn read(&self, stored: &Stored) -> Result<Option<Part>> {
        form(&self.database, stored).map(|form| form.and_then(|form| unpack(&form, stored)))
    }

    /// Stores a period in both forms.
    fn put(&self, resolution: Resolution, period: i64, part: &Part, forms: &Forms) -> Result<()> {
        let Part { summary: Summary { start, end, .. }, covered, .. } = *part;
        for (detail, form) in [(Detail::Full, &forms.full), (Detail::Counters, &forms.counters)] {
            let new = New { period, start, end, covered, form };
            self.database.put(self.kind(resolution, detail), new)?;
        }
        Ok(())
    }
}

/// The forms of a period that are stored.
struct Forms {
    full: Vec<u8>,
    counters: Vec<u8>,
}

impl Forms {
    fn of(part: &Part) -> Result<Self> {
        let Part { summary, counted, .. } = part;
        let full = pack(summary, counted)?;
        let mut summary = summary.clone();
        summary.drop_keys();
        Ok(Self { full, counters: pack(&summary, counted)? })
    }

    fn bytes(&self) -> u64 {
        (self.full.len() + self.counters.len()) as u64
    }
}

/// Encodes and compresses a summary.
fn pack(summary: &Summary, counted: &Counted) -> Result<Vec<u8>> {
    let form = state::encode(summary, &counted.terms, counted.keyed);
    zstd::bulk::compress(&form, COMPRESSION).map_err(HistoryError::Compression)
}

/// Returns a stored form; `None` if it is gone, or if its part of the disk cannot be read.
fn form(database: &Database, stored: &Stored) -> Result<Option<Vec<u8>>> {
    match database.form(stored.id) {
        Err(error @ (DatabaseError::Damaged(_) | DatabaseError::Other { .. })) => {
            warn!("the history leaves out a period that starts at {}: {error}", utc(stored.start));
            Ok(None)
        }
        form => Ok(form?),
    }
}

/// Decompresses and decodes a stored form. One that is damaged is reported and left out: the others must not
/// be lost with it.
fn unpack(form: &[u8], stored: &Stored) -> Option<Part> {
    let unpacked =
        zstd::bulk::decompress(form, state::MAX_BYTES).map_err(|error| error.to_string());
    let decoded = unpacked.and_then(|form| {
        let decoded = state::terms(&form).and_then(|terms| {
            let Decoded { summary, keyed, left_out: _ } = state::decode(&form, &terms)?;
            Ok(Part { counted: Counted { terms, keyed }, summary, covered: stored.covered })
        });
        decoded.map_err(|error| error.to_string())
    });
    let left_out = |error: &String| {
        warn!(
            "the history leaves out a damaged period that starts at {}: {error}",
            utc(stored.start)
        );
    };
    decoded.inspect_err(left_out).ok()
}

#[cfg(test)]
mod tests;
