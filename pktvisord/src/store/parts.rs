//! Puts the minutes together of the parts that workers have of them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;

/// Tells a minute from others, see [`Summary::place`].
type Place = (u64, i64);
/// Parts of a minute by worker, each with its number among all that were handed in.
type Parts = BTreeMap<usize, (u64, Part)>;

/// A worker's part of a closed minute. Most minutes of a sparse capture are empty, and one worker can
/// be far ahead of another: an empty part takes next to no memory.
#[derive(Debug)]
pub struct Part(Kind);

#[derive(Debug)]
enum Kind {
    Empty { place: Place, start: i64, end: i64 },
    Counted(Box<(Summary, Cumulative)>),
}

impl Part {
    /// The part that a summary is, where the worker had counted so much since the start at its end.
    pub fn of(summary: Summary, cumulative: &Cumulative) -> Self {
        Self(if summary.is_empty() {
            Kind::Empty { place: summary.place(), start: summary.start, end: summary.end }
        } else {
            Kind::Counted(Box::new((summary, cumulative.clone())))
        })
    }

    /// The part of a minute in which nothing was counted.
    pub fn empty(place: (u64, i64), start: i64, end: i64) -> Self {
        Self(Kind::Empty { place, start, end })
    }

    fn place(&self) -> Place {
        match &self.0 {
            Kind::Empty { place, .. } => *place,
            Kind::Counted(counted) => counted.0.place(),
        }
    }

    fn span(&self) -> (i64, i64) {
        match &self.0 {
            Kind::Empty { start, end, .. } => (*start, *end),
            Kind::Counted(counted) => (counted.0.start, counted.0.end),
        }
    }

    /// Its summary, and what its worker has counted where that is more than before.
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

    /// Both parts of a minute. Where neither has counted anything, no summary is made.
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
                // One of the two has counted.
                let cumulative = cumulative.or(before).unwrap_or_default();
                Self(Kind::Counted(Box::new((merged, cumulative))))
            }
        }
    }
}

/// What was handed in by a worker.
#[derive(Debug, Default)]
struct HandedIn {
    /// Numbers and places of parts, the oldest first.
    parts: VecDeque<(u64, Place)>,
    /// The highest number among the worker's parts of minutes that are closed: it has gone on from
    /// all parts of lower numbers.
    gone_on: u64,
}

/// The minutes that not all workers have closed.
#[derive(Debug)]
pub(super) struct Assembly {
    workers: usize,
    pending: BTreeMap<Place, Parts>,
    /// Parts handed in so far, and by worker.
    number: u64,
    handed_in: BTreeMap<usize, HandedIn>,
    /// What each worker had counted since the start at the end of its last closed minute.
    cumulative: BTreeMap<usize, Cumulative>,
    /// Workers that hand in nothing more.
    left: BTreeSet<usize>,
}

impl Assembly {
    /// Puts minutes together of the parts of so many workers.
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

    /// Takes a worker's part of a closed minute, and gives each minute that is whole now, in order, to
    /// `close`.
    ///
    /// Each worker hands in each minute once, in order; parts are merged in the order of the workers,
    /// so that the whole is the same each time. Where the clock was set, a worker can hand in a minute
    /// twice, or one that others never had.
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

    /// A worker hands in nothing more: minutes no longer wait for its part.
    pub(super) fn leave(
        &mut self,
        worker: usize,
        close: &mut dyn FnMut(Summary, &BTreeMap<usize, Cumulative>),
    ) {
        self.left.insert(worker);
        let pending: Vec<Place> = self.pending.keys().copied().collect();
        pending.into_iter().for_each(|place| self.close_if_whole(place, close));
    }

    /// Closes a minute of which all parts are there, and those before it that are left behind.
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

    /// The minutes, in their order, of which nothing more will come now that these parts of a minute
    /// are complete: all workers that have handed in a part of one have gone on.
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

    /// Closes a minute.
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

    /// Hands in parts of minutes, each with a worker, a minute and packets. Returns what closes, as
    /// minute, packets, and packets since the start.
    fn closed(assembly: &mut Assembly, parts: &[(usize, i64, u64)]) -> Vec<(i64, u64, u64)> {
        let mut closed = Vec::new();
        for &(worker, minute, packets) in parts {
            let mut summary = Summary { minute, ..Summary::default() };
            summary.totals.packets[Direction::In] = packets;
            let mut cumulative = assembly.cumulative.get(&worker).cloned().unwrap_or_default();
            cumulative.add(&summary);
            assembly.take(worker, Part::of(summary, &cumulative), &mut |whole, cumulative| {
                let since_start = cumulative.values().map(|one| one.totals.packets[Direction::In]).sum();
                closed.push((whole.minute, whole.totals.packets[Direction::In], since_start));
            });
        }
        closed
    }

    #[test]
    fn a_minute_is_closed_when_all_have_handed_it_in() {
        let mut assembly = Assembly::new(2);
        let first = closed(&mut assembly, &[(0, 1, 10), (0, 2, 10), (0, 3, 10), (1, 1, 10)]);
        assert_eq!(first, [(1, 20, 20)]);
        assert_eq!(closed(&mut assembly, &[(1, 2, 1)]).len(), 1);
    }

    #[test]
    fn empty_parts_close_minutes_and_keep_what_was_counted() {
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
            let since_start: u64 = cumulative.values().map(|one| one.totals.packets[Direction::In]).sum();
            minutes.push((whole.minute, since_start));
        });
        assert_eq!(minutes, [(2, 25)]);
        assert_eq!(closed(&mut assembly, &[(0, 3, 1)]), [(3, 1, 26)]);
        assert!(assembly.pending.is_empty());
    }

    #[test]
    fn nothing_is_lost_where_the_clock_is_set_at_a_minutes_end() {
        let mut assembly = Assembly::new(2);
        // The first has gone on to minute 2 when the clock goes on by an hour, the second not.
        let parts = [(0, 1, 10), (0, 2, 3), (1, 1, 10), (0, 61, 10)];
        let minutes = |closed: Vec<(i64, u64, u64)>| -> Vec<(i64, u64)> {
            closed.into_iter().map(|(minute, packets, _)| (minute, packets)).collect()
        };
        assert_eq!(minutes(closed(&mut assembly, &parts)), [(1, 20)]);
        assert_eq!(minutes(closed(&mut assembly, &[(1, 61, 10)])), [(2, 3), (61, 20)]);
        // It goes back within a minute, which the first hands in twice before the second does.
        let parts = [(0, 62, 5), (0, 62, 5), (1, 62, 5), (0, 63, 5), (1, 63, 5)];
        assert_eq!(minutes(closed(&mut assembly, &parts)), [(62, 15), (63, 10)]);
        assert!(assembly.pending.is_empty());
    }
}
