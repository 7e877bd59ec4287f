//! Matching of DNS queries and replies.
//!
//! The table is bounded: when it is full the oldest open query is given up. Entries stand in a
//! slab, linked in the order of arrival, so that the oldest is at hand without a scan, beside an
//! index of hashes. Nothing here looks at a clock.

use hashbrown::HashTable;
use pktvisor_common::flow::mix;

/// An open query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Symmetric hash of endpoints and transport.
    pub flow: u64,
    /// DNS id.
    pub id: u16,
    /// Hash of the query name; 0 where the query has no question.
    pub name: u64,
    /// Time of the query in nanoseconds of unix time.
    pub time: i64,
    /// Octets of the query.
    pub octets: u16,
    /// The transactions it stands for.
    pub weight: u32,
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    query: Query,
    older: u32,
    newer: u32,
}

/// The open queries of a part of the flows.
#[derive(Debug)]
pub struct Transactions {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    capacity: usize,
    timeout: i64,
    evicted: u64,
}

fn key(flow: u64, id: u16) -> u64 {
    mix(flow ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Transactions {
    /// A table of at most `capacity` open queries that time out after `timeout` nanoseconds.
    pub fn new(capacity: usize, timeout: i64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            capacity,
            timeout,
            evicted: 0,
        }
    }

    /// Open queries.
    pub fn open(&self) -> u64 {
        self.index.len() as u64
    }

    /// Queries given up because the table was full, since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Takes in a query. A repeated one keeps its first time until it times out. `timed_out` gets
    /// the query that it replaces because its time is over.
    pub fn query(&mut self, query: Query, timed_out: impl FnOnce(&Query)) {
        if let Some(at) = self.find(query.flow, query.id, Some(query.name)) {
            if query.time - self.slots[at as usize].query.time <= self.timeout {
                return;
            }
            timed_out(&self.remove(at));
        }
        if self.index.len() >= self.capacity {
            self.remove(self.oldest);
            self.evicted += 1;
        }
        self.insert(query);
    }

    /// The query of a reply, which leaves the table: same flow and id, and same name where the
    /// reply has a question. `None` for an orphan; `timed_out` gets a query whose time was over.
    pub fn reply(
        &mut self,
        flow: u64,
        id: u16,
        name: Option<u64>,
        time: i64,
        timed_out: impl FnOnce(&Query),
    ) -> Option<Query> {
        let at = self.find(flow, id, name)?;
        let query = self.remove(at);
        if time - query.time > self.timeout {
            timed_out(&query);
            return None;
        }
        Some(query)
    }

    /// Gives up the queries whose time is over before `now`.
    pub fn expire(&mut self, now: i64, mut timed_out: impl FnMut(&Query)) {
        while self.oldest != NONE {
            let query = &self.slots[self.oldest as usize].query;
            if query.time.saturating_add(self.timeout) >= now {
                break;
            }
            timed_out(&self.remove(self.oldest));
        }
    }

    /// The open queries whose time is over before `now`, which [`Self::expire`] would give up.
    pub fn due(&self, now: i64) -> impl Iterator<Item = &Query> {
        let slot = |at: u32| (at != NONE).then(|| &self.slots[at as usize]);
        std::iter::successors(slot(self.oldest), move |slot_before| slot(slot_before.newer))
            .map(|slot| &slot.query)
            .take_while(move |query| query.time.saturating_add(self.timeout) < now)
    }

    fn find(&self, flow: u64, id: u16, name: Option<u64>) -> Option<u32> {
        self.index
            .find(key(flow, id), |&at| {
                let query = &self.slots[at as usize].query;
                query.flow == flow && query.id == id && name.is_none_or(|name| name == query.name)
            })
            .copied()
    }

    fn insert(&mut self, query: Query) {
        let slot = Slot { query, older: self.newest, newer: NONE };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            at
        } else {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
        let slots = &self.slots;
        self.index.insert_unique(key(query.flow, query.id), at, |&at| {
            let query = &slots[at as usize].query;
            key(query.flow, query.id)
        });
    }

    fn remove(&mut self, at: u32) -> Query {
        let Slot { query, older, newer } = self.slots[at as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        if let Ok(entry) = self.index.find_entry(key(query.flow, query.id), |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
        query
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(flow: u64, id: u16, name: u64, time: i64) -> Query {
        Query { flow, id, name, time, octets: 30, weight: 1 }
    }

    fn no(_: &Query) {
        panic!("nothing times out here");
    }

    #[test]
    fn a_reply_meets_its_query() {
        let mut table = Transactions::new(8, 5);
        table.query(query(1, 7, 3, 10), no);
        assert_eq!(table.reply(1, 8, Some(3), 11, no), None, "another id");
        assert_eq!(table.reply(1, 7, Some(4), 11, no), None, "another name");
        assert_eq!(table.reply(1, 7, None, 11, no), Some(query(1, 7, 3, 10)), "no question");
        assert_eq!(table.reply(1, 7, Some(3), 11, no), None, "answered already");
        assert_eq!(table.open(), 0);
    }

    #[test]
    fn a_repeated_query_keeps_its_first_time_until_it_times_out() {
        let mut table = Transactions::new(8, 5);
        table.query(query(1, 7, 3, 10), no);
        table.query(query(1, 7, 3, 15), no);
        assert_eq!(table.open(), 1);
        let mut late = Vec::new();
        table.query(query(1, 7, 3, 16), |query| late.push(query.time));
        assert_eq!(late, [10]);
        assert_eq!(table.reply(1, 7, Some(3), 21, no).map(|query| query.time), Some(16));
    }

    #[test]
    fn times_out_after_and_not_at_the_deadline() {
        let mut table = Transactions::new(8, 5);
        table.query(query(1, 7, 3, 10), no);
        table.expire(15, no);
        assert_eq!((table.due(15).count(), table.due(16).count(), table.open()), (0, 1, 1));
        let mut late = 0;
        table.expire(16, |_| late += 1);
        assert_eq!((late, table.open()), (1, 0));
    }

    #[test]
    fn gives_up_the_oldest_when_full() {
        let mut table = Transactions::new(2, 5);
        for flow in 1..=3 {
            table.query(query(flow, 7, 3, flow as i64), no);
        }
        assert_eq!((table.open(), table.take_evicted(), table.take_evicted()), (2, 1, 0));
        assert_eq!(table.reply(1, 7, None, 4, no), None);
        assert!(table.reply(2, 7, None, 4, no).is_some());
    }

    proptest! {
        /// Against a plain list, for any mixture of queries, replies and time.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0..3u8, 0..4u64, 0..2u16, 0..3u64, 0..4i64), 0..200)) {
            let mut table = Transactions::new(1000, 5);
            let mut list: Vec<Query> = Vec::new();
            let mut now = 0;
            for (kind, flow, id, name, wait) in steps {
                now += wait;
                let mut late = Vec::new();
                let mut expected_late = Vec::new();
                let same = |query: &Query| query.flow == flow && query.id == id;
                match kind {
                    0 => {
                        table.query(query(flow, id, name, now), |query| late.push(*query));
                        match list.iter().position(|query| same(query) && query.name == name) {
                            Some(at) if now - list[at].time <= 5 => {}
                            Some(at) => {
                                expected_late.push(list.remove(at));
                                list.push(query(flow, id, name, now));
                            }
                            None => list.push(query(flow, id, name, now)),
                        }
                    }
                    1 => {
                        let found = table.reply(flow, id, Some(name), now, |query| late.push(*query));
                        let at = list.iter().position(|query| same(query) && query.name == name);
                        let mut expected = at.map(|at| list.remove(at));
                        if let Some(query) = expected.filter(|query| now - query.time > 5) {
                            expected_late.push(query);
                            expected = None;
                        }
                        prop_assert_eq!(found, expected);
                    }
                    _ => {
                        table.expire(now, |query| late.push(*query));
                        list.retain(|query| {
                            let over = query.time + 5 < now;
                            if over { expected_late.push(*query) }
                            !over
                        });
                    }
                }
                prop_assert_eq!(late, expected_late);
                prop_assert_eq!(table.open(), list.len() as u64);
            }
        }
    }
}
