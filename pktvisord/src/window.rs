//! The closed minutes of an agent, merged of its shards, and windows over them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::summary::Summary;

/// Closed minutes that are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Start of the first one in nanoseconds.
    pub start: i64,
    /// End of the last one in nanoseconds.
    pub end: i64,
}

/// The closed minutes. Shards hand theirs in; readers share them.
#[derive(Debug)]
pub struct Window {
    shards: usize,
    periods: usize,
    single: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By minute and shard: the parts of minutes that not all shards have closed.
    pending: BTreeMap<i64, BTreeMap<usize, Summary>>,
    /// Newest first; with a single summary there is one.
    closed: VecDeque<Arc<Summary>>,
    left_out: Option<LeftOut>,
}

impl Window {
    /// Keeps `periods` minutes, the live one included, or everything in a single summary.
    pub fn new(shards: usize, periods: usize, single: bool) -> Self {
        Self { shards, periods, single, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change below leaves the minutes whole, so a panic elsewhere does not spoil them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything is kept in a single summary.
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// Minutes kept, the live one included.
    pub fn periods(&self) -> usize {
        self.periods
    }

    /// Takes a shard's part of a closed minute. Each shard hands in each minute once, in order; they
    /// are merged in the order of the shards, so that the whole is the same each time.
    pub fn hand_in(&self, shard: usize, part: Summary) {
        let mut inner = self.inner();
        let minute = part.minute;
        let parts = inner.pending.entry(minute).or_default();
        parts.insert(shard, part);
        if parts.len() < self.shards {
            return;
        }
        let parts = inner.pending.remove(&minute).unwrap_or_default().into_values();
        let merged = parts.reduce(|mut all, part| {
            all.merge(&part);
            all
        });
        let Some(whole) = merged else { return };
        if self.single {
            match inner.closed.front_mut() {
                None => inner.closed.push_front(Arc::new(whole)),
                Some(all) => Arc::make_mut(all).absorb(&whole),
            }
            return;
        }
        inner.closed.push_front(Arc::new(whole));
        while inner.closed.len() >= self.periods.max(1) {
            let Some(oldest) = inner.closed.pop_back() else { break };
            let start = inner.left_out.map_or(oldest.start, |left_out| left_out.start);
            inner.left_out = Some(LeftOut { start, end: oldest.end });
        }
    }

    /// How many buckets there are now, the live one included.
    pub fn available(&self) -> u64 {
        if self.single { 1 } else { self.inner().closed.len() as u64 + 1 }
    }

    /// The minutes that are no longer kept, if any.
    pub fn left_out(&self) -> Option<LeftOut> {
        self.inner().left_out
    }

    /// The closed bucket `n` ≥ 1.
    pub fn closed(&self, n: u64) -> Option<Arc<Summary>> {
        self.inner().closed.get(usize::try_from(n).ok()?.checked_sub(1)?).cloned()
    }

    /// The live bucket merged with the `n` − 1 closed before it, or with all in a single summary.
    pub fn merged(&self, live: &Summary, n: u64) -> Summary {
        let closed: Vec<Arc<Summary>> = {
            let inner = self.inner();
            let count = if self.single { 1 } else { n.saturating_sub(1) as usize };
            // A shard can hand in a minute after a snapshot of it was taken.
            inner.closed.iter().filter(|c| c.minute < live.minute).take(count).cloned().collect()
        };
        if self.single {
            return match closed.first() {
                None => live.clone(),
                Some(all) => {
                    let mut all = Summary::clone(all);
                    all.absorb(live);
                    all
                }
            };
        }
        let mut merged = live.clone();
        closed.iter().for_each(|closed| merged.merge(closed));
        merged
    }
}
