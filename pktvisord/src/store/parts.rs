//! Assembles minutes from the workers' parts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;

use crate::time::Timestamp;

/// Identifies a minute, see [`Summary::place`].
type Place = (u64, i64);
/// Parts of a minute by worker, each with its serial number among all parts handed in.
type Parts = BTreeMap<usize, (u64, Part)>;

/// A worker's part of a closed minute. Most minutes of a sparse capture are empty, and one worker can be
/// far ahead of another, so an empty part takes almost no memory.
#[derive(Debug)]
pub struct Part(Kind);

#[derive(Debug)]
enum Kind {
    Empty { place: Place, start: Timestamp, end: Timestamp },
    Counted(Box<(Summary, Cumulative)>),
}

impl Part {
    /// Creates the part of a worker from its summary and its totals since the start at the end of the minute.
    pub fn of(summary: Summary, cumulative: &Cumulative) -> Self {
        Self(if summary.is_empty() {
            Kind::Empty { place: summary.place(), start: summary.start, end: summary.end }
        } else {
            Kind::Counted(Box::new((summary, cumulative.clone())))
        })
    }

    /// Creates the part of a minute in which nothing was counted.
    pub fn empty(place: (u64, i64), start: Timestamp, end: Timestamp) -> Self {
        Self(Kind::Empty { place, start, end })
    }

    fn place(&self) -> Place {
        match &self.0 {
            Kind::Empty { place, .. } => *place,
            Kind::Counted(counted) => counted.0.place(),
        }
    }

    fn span(&self) -> (Timestamp, Timestamp) {
        match &self.0 {
            Kind::Empty { start, end, .. } => (*start, *end),
            Kind::Counted(counted) => (counted.0.start, counted.0.end),
        }
    }

    /// Returns the summary, and the worker's totals since the start if this minute changed them.
    fn open(self) -> (Summary, Option<Cumulative>) {
        match self.0 {
            Kind::Counted(counted) => {
                let (summary, cumulative) = *counted;
                (summary, Some(cumulative))
            }
            Kind::Empty { place: (turn, minute), start, end } => {
                (Summary { turn, ..Summary::empty(minute, start, end) }, None)
            }
        }
    }

    /// Merges with another part of the same minute. If both are empty, it creates no summary.
    fn followed_by(self, other: Self) -> Self {
        let (start, end) = other.span();
        match (self.0, other.0) {
            (Kind::Empty { place, start: first, end: last }, Kind::Empty { .. }) => {
                Self(Kind::Empty { place, start: first.min(start), end: last.max(end) })
            }
            (mine, theirs) => {
                let (mut merged, before) = Self(mine).open();
                let (summary, cumulative) = Self(theirs).open();
                merged.merge(&summary);
                // At least one of the two has totals.
                let cumulative = cumulative.or(before).unwrap_or_default();
                Self(Kind::Counted(Box::new((merged, cumulative))))
            }
        }
    }
}

/// The parts that a worker has handed in.
#[derive(Debug, Default)]
struct HandedIn {
    /// Serial numbers and places of the parts, oldest first.
    parts: VecDeque<(u64, Place)>,
    /// The highest serial number among the worker's parts of closed minutes. The worker has left all
    /// minutes of its parts with lower numbers.
    gone_on: u64,
}

/// The minutes that not all workers have closed.
#[derive(Debug)]
pub(super) struct Assembly {
    workers: usize,
    pending: BTreeMap<Place, Parts>,
    /// Number of parts handed in so far.
    number: u64,
    handed_in: BTreeMap<usize, HandedIn>,
    /// Each worker's totals since the start, as of the end of its last closed minute.
    cumulative: BTreeMap<usize, Cumulative>,
    /// Workers that hand in no more parts.
    left: BTreeSet<usize>,
}

impl Assembly {
    /// Assembles minutes from the parts of `workers` workers.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            pending: BTreeMap::new(),
            number: 0,
            handed_in: BTreeMap::new(),
            cumulative: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    /// Adds a worker's part of a closed minute. Passes each minute that is now complete to `close`, in
    /// order.
    ///
    /// Each worker hands in each minute once, in order. Parts are merged in the order of the workers, so
    /// that the result is reproducible. If the clock was set, a worker can hand in a minute twice, or one
    /// that the other workers never had.
    pub(super) fn take(
        &mut self,
        worker: usize,
        part: Part,
        close: &mut dyn FnMut(Summary, &BTreeMap<usize, Cumulative>),
    ) {
        let place = part.place();
        self.number += 1;
        let number = self.number;
        self.handed_in.entry(worker).or_default().parts.push_back((number, place));
        match self.pending.entry(place).or_default().entry(worker) {
            Entry::Vacant(free) => _ = free.insert((number, part)),
            Entry::Occupied(mut before) => {
                let (last, before) = before.get_mut();
                *last = number;
                let (start, end) = part.span();
                let empty = Part::empty(place, start, end);
                *before = std::mem::replace(before, empty).followed_by(part);
            }
        }
        self.close_if_whole(place, close);
    }

    /// Removes a worker: minutes no longer wait for its part.
    pub(super) fn leave(
        &mut self,
        worker: usize,
        close: &mut dyn FnMut(Summary, &BTreeMap<usize, Cumulative>),
    ) {
        self.left.insert(worker);
        let pending: Vec<Place> = self.pending.keys().copied().collect();
        pending.into_iter().for_each(|place| self.close_if_whole(place, close));
    }

    /// Closes a minute if all its parts are there, and before it the earlier minutes left behind.
    fn close_if_whole(
        &mut self,
        place: Place,
        close: &mut dyn FnMut(Summary, &BTreeMap<usize, Cumulative>),
    ) {
        let Some(parts) = self.pending.get(&place) else { return };
        let missing = self.left.iter().filter(|left| !parts.contains_key(left)).count();
        if parts.len() + missing < self.workers {
            return;
        }
        let parts = self.pending.remove(&place).unwrap_or_default();
        for left in self.left_behind(&parts) {
            let left = self.pending.remove(&left).unwrap_or_default();
            self.close(left, close);
        }
        self.close(parts, close);
    }

    /// Returns, in order, the minutes that will get no more parts once these parts are complete: every
    /// worker that handed in a part of such a minute has gone on.
    fn left_behind(&mut self, parts: &Parts) -> BTreeSet<Place> {
        let mut passed = BTreeSet::new();
        for (worker, (number, _)) in parts {
            let handed_in = self.handed_in.entry(*worker).or_default();
            handed_in.gone_on = handed_in.gone_on.max(*number);
            while let Some((_, place)) =
                handed_in.parts.pop_front_if(|(number, _)| *number <= handed_in.gone_on)
            {
                passed.insert(place);
            }
        }
        let (pending, handed_in) = (&self.pending, &self.handed_in);
        let gone_on = |(worker, (number, _)): (&usize, &(u64, Part))| {
            handed_in.get(worker).is_some_and(|handed_in| *number < handed_in.gone_on)
        };
        passed.retain(|place| pending.get(place).is_some_and(|parts| parts.iter().all(gone_on)));
        passed
    }

    /// Merges the parts of a minute and passes it to `close`.
    fn close(
        &mut self,
        parts: Parts,
        close: &mut dyn FnMut(Summary, &BTreeMap<usize, Cumulative>),
    ) {
        let mut whole: Option<Part> = None;
        for (worker, (_, part)) in parts {
            if let Kind::Counted(counted) = &part.0 {
                self.cumulative.insert(worker, counted.1.clone());
            }
            whole = Some(match whole {
                None => part,
                Some(before) => before.followed_by(part),
            });
        }
        if let Some(whole) = whole {
            close(whole.open().0, &self.cumulative);
        }
    }
}

#[cfg(test)]
mod tests {
    use pktvisor_common::direction::Direction;

    use super::*;

    /// Hands in parts, each given as worker, minute and packets. Returns the minutes that close, as minute,
    /// packets, and packets since the start.
    fn closed(assembly: &mut Assembly, parts: &[(usize, i64, u64)]) -> Vec<(i64, u64, u64)> {
        let mut closed = Vec::new();
        for &(worker, minute, packets) in parts {
            let mut summary = Summary { minute, ..Summary::default() };
            summary.totals.packets[Direction::In] = packets;
            let mut cumulative = assembly.cumulative.get(&worker).cloned().unwrap_or_default();
            cumulative.add(&summary);
            assembly.take(worker, Part::of(summary, &cumulative), &mut |whole, cumulative| {
                let since_start =
                    cumulative.values().map(|one| one.totals.packets[Direction::In]).sum();
                closed.push((whole.minute, whole.totals.packets[Direction::In], since_start));
            });
        }
        closed
    }

    #[test]
    fn minute_closes_when_all_workers_have_handed_it_in() {
        let mut assembly = Assembly::new(2);
        let first = closed(&mut assembly, &[(0, 1, 10), (0, 2, 10), (0, 3, 10), (1, 1, 10)]);
        assert_eq!(first, [(1, 20, 20)]);
        assert_eq!(closed(&mut assembly, &[(1, 2, 1)]).len(), 1);
    }

    #[test]
    fn empty_parts_close_minutes_and_keep_totals() {
        let mut assembly = Assembly::new(2);
        let all = closed(&mut assembly, &[(0, 1, 3), (1, 1, 0), (0, 2, 0), (1, 2, 0)]);
        assert_eq!(all, [(1, 3, 3), (2, 0, 3)]);
    }

    #[test]
    fn minutes_do_not_wait_for_a_worker_that_has_left() {
        let mut assembly = Assembly::new(2);
        assert_eq!(closed(&mut assembly, &[(0, 1, 10), (1, 1, 5), (0, 2, 10)]).len(), 1);
        let mut minutes = Vec::new();
        assembly.leave(1, &mut |whole, cumulative| {
            let since_start: u64 =
                cumulative.values().map(|one| one.totals.packets[Direction::In]).sum();
            minutes.push((whole.minute, since_start));
        });
        assert_eq!(minutes, [(2, 25)]);
        assert_eq!(closed(&mut assembly, &[(0, 3, 1)]), [(3, 1, 26)]);
        assert!(assembly.pending.is_empty());
    }

    #[test]
    fn clock_set_at_end_of_minute_loses_nothing() {
        let mut assembly = Assembly::new(2);
        // The clock jumps forward by an hour. The first worker has reached minute 2, the second has not.
        let parts = [(0, 1, 10), (0, 2, 3), (1, 1, 10), (0, 61, 10)];
        let minutes = |closed: Vec<(i64, u64, u64)>| -> Vec<(i64, u64)> {
            closed.into_iter().map(|(minute, packets, _)| (minute, packets)).collect()
        };
        assert_eq!(minutes(closed(&mut assembly, &parts)), [(1, 20)]);
        assert_eq!(minutes(closed(&mut assembly, &[(1, 61, 10)])), [(2, 3), (61, 20)]);
        // It goes back within a minute. The first worker hands in that minute twice before the second does.
        let parts = [(0, 62, 5), (0, 62, 5), (1, 62, 5), (0, 63, 5), (1, 63, 5)];
        assert_eq!(minutes(closed(&mut assembly, &parts)), [(62, 15), (63, 10)]);
        assert!(assembly.pending.is_empty());
    }
}
