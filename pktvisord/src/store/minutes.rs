//! The closed minutes of an agent, merged of its shards, and windows over them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pktvisor_common::summary::Summary;

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

/// Tells a minute from others, see [`Summary::place`].
type Place = (u64, i64);
/// Parts of a minute by shard, each with its number among all that were handed in.
type Parts = BTreeMap<usize, (u64, Part)>;

/// A shard's part of a closed minute. Most minutes of a sparse capture are empty, and one shard can
/// be far ahead of another: an empty part takes next to no memory.
#[derive(Debug)]
pub struct Part(Kind);

#[derive(Debug)]
enum Kind {
    Empty { place: Place, start: i64, end: i64 },
    Counted(Box<Summary>),
}

impl Part {
    /// The part that a summary is.
    pub fn of(summary: Summary) -> Self {
        Self(if summary.is_empty() {
            Kind::Empty { place: summary.place(), start: summary.start, end: summary.end }
        } else {
            Kind::Counted(Box::new(summary))
        })
    }

    fn place(&self) -> Place {
        match &self.0 {
            Kind::Empty { place, .. } => *place,
            Kind::Counted(summary) => summary.place(),
        }
    }

    fn span(&self) -> (i64, i64) {
        match &self.0 {
            Kind::Empty { start, end, .. } => (*start, *end),
            Kind::Counted(summary) => (summary.start, summary.end),
        }
    }

    fn summary(self) -> Summary {
        match self.0 {
            Kind::Counted(summary) => *summary,
            Kind::Empty { place: (turn, minute), start, end } => {
                Summary { turn, ..Summary::empty(minute, start, end) }
            }
        }
    }

    /// Both parts of a minute.
    fn merged(self, other: Self) -> Self {
        let (start, end) = other.span();
        match (self.0, other.0) {
            (Kind::Empty { place, start: first, end: last }, Kind::Empty { .. }) => {
                Self(Kind::Empty { place, start: first.min(start), end: last.max(end) })
            }
            (mine, theirs) => {
                let mut merged = Self(mine).summary();
                merged.merge(&Self(theirs).summary());
                Self::of(merged)
            }
        }
    }
}

/// What was handed in by a shard.
#[derive(Debug, Default)]
struct HandedIn {
    /// Numbers and places of parts, the oldest first.
    parts: VecDeque<(u64, Place)>,
    /// The highest number among the shard's parts of minutes that are closed: it has gone on from
    /// all parts of lower numbers.
    gone_on: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// By place and shard: the parts of minutes that not all shards have closed.
    pending: BTreeMap<Place, Parts>,
    /// Parts handed in so far, and by shard.
    number: u64,
    handed_in: BTreeMap<usize, HandedIn>,
    /// Newest first; with a single summary there is one, of all but the last minute.
    closed: VecDeque<Arc<Summary>>,
    /// With a single summary, the last minute.
    last: Option<Arc<Summary>>,
    left_out: Option<LeftOut>,
}

impl Inner {
    /// The minutes, in their order, of which nothing more will come now that these parts of a minute
    /// are complete: all shards that have handed in a part of one have gone on.
    fn left_behind(&mut self, parts: &Parts) -> BTreeSet<Place> {
        let mut passed = BTreeSet::new();
        for (shard, (number, _)) in parts {
            let handed_in = self.handed_in.entry(*shard).or_default();
            handed_in.gone_on = handed_in.gone_on.max(*number);
            while let Some((_, place)) =
                handed_in.parts.pop_front_if(|(number, _)| *number <= handed_in.gone_on)
            {
                passed.insert(place);
            }
        }
        let (pending, handed_in) = (&self.pending, &self.handed_in);
        let gone_on = |(shard, (number, _)): (&usize, &(u64, Part))| {
            handed_in.get(shard).is_some_and(|handed_in| *number < handed_in.gone_on)
        };
        passed.retain(|place| pending.get(place).is_some_and(|parts| parts.iter().all(gone_on)));
        passed
    }
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

    /// Takes a shard's part of a closed minute, see [`Self::hand_in_all`].
    pub fn hand_in(&self, shard: usize, part: Summary) {
        self.hand_in_all(shard, [Part::of(part)]);
    }

    /// Takes a shard's parts of closed minutes. Each shard hands in each minute once, in order; they
    /// are merged in the order of the shards, so that the whole is the same each time. Where the
    /// clock was set, a shard can hand in a minute twice, or one that others never had.
    pub fn hand_in_all(&self, shard: usize, parts: impl IntoIterator<Item = Part>) {
        let mut inner = self.inner();
        for part in parts {
            self.take(&mut inner, shard, part);
        }
    }

    fn take(&self, inner: &mut Inner, shard: usize, part: Part) {
        let place = part.place();
        inner.number += 1;
        let number = inner.number;
        inner.handed_in.entry(shard).or_default().parts.push_back((number, place));
        match inner.pending.entry(place).or_default().entry(shard) {
            Entry::Vacant(free) => _ = free.insert((number, part)),
            Entry::Occupied(mut before) => {
                let (last, before) = before.get_mut();
                *last = number;
                let (start, end) = part.span();
                let empty = Part(Kind::Empty { place, start, end });
                *before = std::mem::replace(before, empty).merged(part);
            }
        }
        if inner.pending[&place].len() < self.shards {
            return;
        }
        let parts = inner.pending.remove(&place).unwrap_or_default();
        for left in inner.left_behind(&parts) {
            let left = inner.pending.remove(&left).unwrap_or_default();
            self.close(inner, left);
        }
        self.close(inner, parts);
    }

    /// Closes a minute.
    fn close(&self, inner: &mut Inner, parts: Parts) {
        let parts = parts.into_values().map(|(_, part)| part);
        let Some(whole) = parts.reduce(Part::merged).map(Part::summary) else { return };
        if self.single {
            let Some(before) = inner.last.replace(Arc::new(whole)) else { return };
            match inner.closed.front_mut() {
                None => {
                    let mut all = Arc::unwrap_or_clone(before);
                    all.rates.fold(all.start);
                    inner.closed.push_front(Arc::new(all));
                }
                Some(all) => Arc::make_mut(all).absorb(&before),
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
        let inner = self.inner();
        let mut closed = inner.last.iter().chain(&inner.closed);
        closed.nth(usize::try_from(n).ok()?.checked_sub(1)?).cloned()
    }

    /// The live bucket merged with the `n` − 1 closed before it, or with all in a single summary.
    pub fn merged(&self, live: &Summary, n: u64) -> Summary {
        if self.single {
            return self.merged_single(live);
        }
        let closed: Vec<Arc<Summary>> = {
            let inner = self.inner();
            let count = n.saturating_sub(1) as usize;
            // A shard can hand in a minute after a snapshot of it was taken.
            inner.closed.iter().filter(|c| c.minute < live.minute).take(count).cloned().collect()
        };
        let mut merged = live.clone();
        closed.iter().for_each(|closed| merged.merge(closed));
        merged
    }

    /// All there is in a single summary.
    fn merged_single(&self, live: &Summary) -> Summary {
        let (all, last) = {
            let inner = self.inner();
            (inner.closed.front().cloned(), inner.last.clone())
        };
        // The live minute can have been closed after a snapshot of it was taken.
        let live = Some(live).filter(|live| last.iter().all(|last| last.place() < live.place()));
        let mut parts = all.as_deref().into_iter().chain(last.as_deref()).chain(live);
        let mut merged = parts.next().cloned().unwrap_or_default();
        parts.for_each(|part| merged.absorb(part));
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(minute: i64, packets: u64) -> Summary {
        let mut part = Summary { minute, ..Summary::default() };
        part.totals.packets[0] = packets;
        part
    }

    /// Minutes and packets, newest first.
    fn closed(window: &Window) -> Vec<(i64, u64)> {
        let closed = window.inner();
        closed.closed.iter().map(|c| (c.minute, c.totals.packets[0])).collect()
    }

    #[test]
    fn a_minute_is_closed_when_all_have_handed_it_in() {
        let window = Window::new(2, 5, false);
        for (shard, minute) in [(0, 1), (0, 2), (0, 3), (1, 1)] {
            window.hand_in(shard, part(minute, 10));
        }
        assert_eq!(closed(&window), [(1, 20)]);
        window.hand_in(1, part(2, 1));
        assert_eq!(closed(&window), [(2, 11), (1, 20)]);
    }

    #[test]
    fn nothing_is_lost_where_the_clock_is_set_at_a_minutes_end() {
        let window = Window::new(2, 9, false);
        // The first has gone on to minute 2 when the clock goes on by an hour, the second not.
        for (shard, minute, packets) in [(0, 1, 10), (0, 2, 3), (1, 1, 10), (0, 61, 10)] {
            window.hand_in(shard, part(minute, packets));
        }
        assert_eq!(closed(&window), [(1, 20)]);
        window.hand_in(1, part(61, 10));
        assert_eq!(closed(&window), [(61, 20), (2, 3), (1, 20)]);
        // It goes back within a minute, which the first hands in twice before the second does.
        for (shard, minute) in [(0, 62), (0, 62), (1, 62), (0, 63), (1, 63)] {
            window.hand_in(shard, part(minute, 5));
        }
        assert_eq!(closed(&window)[..2], [(63, 10), (62, 15)]);
        assert!(window.inner().pending.is_empty());
    }
}
