//! Ranges of time and the list of stored periods, from the minutes in memory and the history on disk.

use std::sync::Arc;
use std::time::Instant;

use pktvisor_common::api;
use pktvisor_common::summary::Summary;

use super::Live;
use crate::store::history::{Detail, HistoryError, Resolution, SharedHistory};
use crate::store::range::{RangeError, Ranges, Whole};

impl Live {
    /// Returns the minutes in memory, oldest first, and the live one. A single summary has no closed minutes.
    fn minutes(&self) -> Vec<Arc<Summary>> {
        let live = Arc::clone(&self.present().live);
        let mut minutes = match self.store.retention().single {
            true => Vec::new(),
            false => self.store.closed_before(&live),
        };
        if self.has_packets() {
            minutes.push(live);
        }
        minutes
    }

    /// Returns a range of time in Unix seconds as one view, or as one for each `step` seconds. Returns
    /// `None` if there is nothing of it.
    ///
    /// # Errors
    /// [`RangeError`] if it cannot be read by `until`.
    pub(crate) fn range(
        &self,
        (from, to): (i64, i64),
        step: Option<i64>,
        until: Instant,
    ) -> Result<Option<api::Range>, RangeError> {
        let counted = self.settings.counted();
        let ranges = Ranges::new(self.minutes(), counted, self.history.as_deref(), until);
        let mut parts = Vec::new();
        let mut take = |whole: &Whole| parts.push(self.part(whole));
        let step = match step {
            None => {
                ranges.merged(from, to)?.iter().for_each(take);
                None
            }
            Some(step) => Some(ranges.series(from, to, step, &mut take)?.unsigned_abs()),
        };
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(None) };
        Ok(Some(api::Range { from_ts: first.from_ts, to_ts: last.to_ts, step, parts }))
    }

    fn part(&self, part: &Whole) -> api::RangePart {
        let Whole { from, to, summary, covered, left_out, detail } = part;
        let mut metrics = self.status.complete(summary.view_covering(*covered));
        // The lag is that of now.
        metrics.capture.lag_ms = 0;
        api::RangePart {
            from_ts: *from,
            to_ts: *to,
            covered: *covered,
            left_out: *left_out,
            full: *detail == Detail::Full,
            metrics,
        }
    }

    /// Returns the periods that [`Self::range`] can serve.
    ///
    /// # Errors
    /// [`HistoryError`] if the history cannot be read.
    pub(crate) fn history(&self) -> Result<api::History, HistoryError> {
        let minutes = self.minutes();
        let disk = self.history.as_deref().map(disk).transpose()?;
        Ok(api::History {
            memory_from_ts: minutes.first().map(|first| first.start.second()),
            memory_to_ts: minutes.last().map(|last| last.end.second()),
            disk,
        })
    }
}

/// Returns whether a history is written.
pub(super) fn history_state(history: &SharedHistory) -> api::HistoryState {
    api::HistoryState {
        bytes: history.bytes(),
        max_bytes: history.keep().bytes,
        lost_minutes: history.lost(),
        problem: history.problem(),
    }
}

fn disk(history: &SharedHistory) -> Result<api::DiskHistory, HistoryError> {
    let mut resolutions = Vec::new();
    for resolution in Resolution::ALL {
        let Some(extent) = history.extent(resolution, Detail::Counters)? else { continue };
        let full = history.extent(resolution, Detail::Full)?;
        resolutions.push(api::StoredPeriods {
            seconds: resolution.seconds().unsigned_abs(),
            parts: extent.parts,
            bytes: extent.bytes + full.map_or(0, |full| full.bytes),
            from_ts: extent.oldest,
            to_ts: extent.newest,
            full_from_ts: full.map(|full| full.oldest),
        });
    }
    let folder = history.folder().display().to_string();
    Ok(api::DiskHistory { folder, state: history_state(history), resolutions })
}
