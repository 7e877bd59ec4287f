//! The closed minutes that are kept, and windows over them.

use std::collections::VecDeque;
use std::sync::Arc;

use pktvisor_common::summary::Summary;

use crate::time::Timestamp;

/// Bounds on the minutes that the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Number of minutes, the live one included, at least 1.
    pub periods: usize,
    /// True to merge everything into a single summary instead.
    pub single: bool,
}

/// The span of the closed minutes that are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Start of the first one in nanoseconds since the Unix epoch.
    pub start: Timestamp,
    /// End of the last one in nanoseconds since the Unix epoch.
    pub end: Timestamp,
}

/// The closed minutes that are kept.
#[derive(Debug)]
pub(super) struct Minutes {
    retention: Retention,
    /// Newest first. For a single summary, one entry with all but the last minute.
    closed: VecDeque<Arc<Summary>>,
    /// For a single summary, the last minute.
    last: Option<Arc<Summary>>,
    left_out: Option<LeftOut>,
    /// Start of the newest minute of an earlier run.
    restored: Option<Timestamp>,
}

impl Minutes {
    /// Creates an empty store of minutes.
    pub(super) fn new(retention: Retention) -> Self {
        Self { retention, closed: VecDeque::new(), last: None, left_out: None, restored: None }
    }

    /// Adds the minute that closed last.
    pub(super) fn push(&mut self, whole: Arc<Summary>) {
        if self.retention.single {
            let Some(before) = self.last.replace(whole) else { return };
            match self.closed.front_mut() {
                None => {
                    let mut all = Arc::unwrap_or_clone(before);
                    all.rates.fold(all.start);
                    self.closed.push_front(Arc::new(all));
                }
                Some(all) => Arc::make_mut(all).absorb(&before),
            }
            return;
        }
        // A daemon that was restarted within a minute has it in two parts.
        match self.closed.front_mut() {
            Some(newest)
                if newest.place() == whole.place() && self.restored == Some(newest.start) =>
            {
                Arc::make_mut(newest).merge(&whole);
            }
            _ => self.closed.push_front(whole),
        }
        while self.closed.len() >= self.retention.periods.max(1) {
            let Some(oldest) = self.closed.pop_back() else { break };
            let start = self.left_out.map_or(oldest.start, |left_out| left_out.start);
            self.left_out = Some(LeftOut { start, end: oldest.end });
        }
    }

    /// Adds a minute of an earlier run.
    pub(super) fn restore(&mut self, minute: Summary) {
        self.push(Arc::new(minute));
        self.restored = self.closed.front().map(|newest| newest.start);
    }

    /// Returns the number of buckets, the live one included.
    pub(super) fn available(&self) -> u64 {
        if self.retention.single { 1 } else { self.closed.len() as u64 + 1 }
    }

    /// Returns the span of the minutes that are no longer kept, if any.
    pub(super) fn left_out(&self) -> Option<LeftOut> {
        self.left_out
    }

    /// Returns the closed bucket `n` ≥ 1. The newest is 1.
    pub(super) fn closed(&self, n: u64) -> Option<Arc<Summary>> {
        let mut closed = self.last.iter().chain(&self.closed);
        closed.nth(usize::try_from(n).ok()?.checked_sub(1)?).cloned()
    }

    /// Returns the closed minutes that are older than the live bucket, newest first: a worker can hand in a
    /// minute after its live bucket was copied. After a restart, one can be of the same minute.
    pub(super) fn closed_before(
        &self,
        live: &Summary,
    ) -> impl DoubleEndedIterator<Item = &Arc<Summary>> {
        let (minute, start) = (live.minute, live.start);
        self.closed.iter().filter(move |closed| closed.minute < minute || closed.end <= start)
    }

    /// Returns the parts of a window of `n` buckets, of which `live` is the newest, or of everything for a
    /// single summary. `live` is left out of a single summary if it has closed since it was copied.
    pub(super) fn window<'a>(&self, live: &'a Summary, n: u64) -> Parts<'a> {
        if self.retention.single {
            let closed = self.closed.iter().chain(&self.last).cloned().collect();
            let is_newer = self.last.iter().all(|last| last.place() < live.place());
            return Parts { closed, live: Some(live).filter(|_| is_newer), folds: true };
        }
        let count = n.saturating_sub(1) as usize;
        Parts {
            closed: self.closed_before(live).take(count).cloned().collect(),
            live: Some(live),
            folds: false,
        }
    }
}

/// The parts of a window.
pub(super) struct Parts<'a> {
    closed: Vec<Arc<Summary>>,
    live: Option<&'a Summary>,
    /// True if the seconds of the older parts are folded into distributions.
    folds: bool,
}

impl Parts<'_> {
    /// Merges all parts.
    pub(super) fn merged(self) -> Summary {
        let closed = self.closed.iter().map(Arc::as_ref);
        if self.folds {
            let mut parts = closed.chain(self.live);
            let mut merged = parts.next().cloned().unwrap_or_default();
            parts.for_each(|part| merged.absorb(part));
            return merged;
        }
        let mut merged = self.live.cloned().unwrap_or_default();
        closed.for_each(|closed| merged.merge(closed));
        merged
    }
}
