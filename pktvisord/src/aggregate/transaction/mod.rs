//! Matching of DNS queries and replies.
//!
//! A reply travels in the direction opposite to its query, between the same endpoints, with the
//! same transport, id and opcode, and with the same name and type where it repeats the question
//! (RFC 1035 section 7.3, RFC 5452 section 9.1). All tables are bounded, and nothing here looks at
//! a clock:
//!
//! * **Open queries.** When the table is full the oldest one is given up, which is counted.
//! * **Early replies** stand before their query in a capture of several queues. A reply without a
//!   query is kept for [`EARLY`] before it counts as an orphan.
//! * **Answered queries.** A further reply to one is a duplicate. A query over UDP that is
//!   repeated after it was answered is the same query.
//! * **Zone transfers.** Further messages are part of the transaction.

mod answered;
mod pending;
#[cfg(test)]
mod tests;
mod transfers;

use std::cmp::Ordering;

use pktvisor_common::flow::mix;
use pktvisor_common::packet::PacketMeta;

use self::answered::Answered;
use self::pending::{Pending, Place, Waiting};
use self::transfers::Transfers;
use crate::time::SECOND;

/// How long a reply waits for the query that stands behind it in the capture.
pub const EARLY: i64 = SECOND;
/// Replies of a part of the flows that wait for their query; the oldest counts as an orphan.
const EARLY_REPLIES: usize = 1_024;
/// Open queries that are compared with an ICMP error that quotes no DNS id.
const QUOTED_WITHOUT_ID: usize = 16;

/// Which way a message travels between its two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// From the lower endpoint, by port and then address, to the higher one.
    Up = 0,
    /// From the higher endpoint to the lower one.
    Down = 1,
    /// Both are the same.
    Within = 2,
}

impl Way {
    /// The way of a packet.
    #[inline]
    pub fn of(meta: &PacketMeta) -> Self {
        // Ports first: they seldom are the same.
        match (meta.src_port, meta.src).cmp(&(meta.dst_port, meta.dst)) {
            Ordering::Less => Self::Up,
            Ordering::Greater => Self::Down,
            Ordering::Equal => Self::Within,
        }
    }

    /// The opposite way.
    #[inline]
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
            Self::Within => Self::Within,
        }
    }
}

/// What a query and its reply have in common. All of it in whole words, which are compared and
/// copied for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    flow: u64,
    question: u64,
    /// Id, opcode and way.
    rest: u64,
}

impl Key {
    /// The key of a query that travels this way. `flow` is the symmetric hash of endpoints and
    /// transport, `question` the [`question_hash`], or 0 where the message has no question or it
    /// was not captured.
    #[inline]
    pub fn new(flow: u64, way: Way, id: u16, opcode: u8, question: u64) -> Self {
        let rest = u64::from(id) << 16 | u64::from(opcode) << 8 | way as u64;
        Self { flow, question, rest }
    }

    /// The symmetric hash of endpoints and transport.
    #[inline]
    pub fn flow(&self) -> u64 {
        self.flow
    }

    /// Flow, and all else that is known without the question.
    #[inline]
    fn exchange(&self) -> (u64, u64) {
        (self.flow, self.rest)
    }

    #[inline]
    fn exchange_hash(&self) -> u64 {
        mix(self.flow ^ self.rest.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The same in each process, so that which answers are remembered does not depend on it.
    #[inline]
    fn digest(&self) -> u64 {
        let rest = self.rest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mix(self.flow ^ rest ^ self.question.rotate_left(17))
    }

    #[inline]
    fn is_same_exchange(&self, other: &Self) -> bool {
        self.exchange() == other.exchange()
    }

    /// Whether it travels this way of this flow.
    fn is_of(&self, flow: u64, way: Way) -> bool {
        self.flow == flow && self.rest & 0xff == way as u64
    }

    /// The key of a message of the same exchange whose question is not known.
    fn without_question(&self) -> Self {
        Self { question: 0, ..*self }
    }
}

/// The hash by which questions are told apart; never 0.
#[inline]
pub fn question_hash(name: u64, qtype: u16) -> u64 {
    (name ^ u64::from(qtype).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

/// What an ICMP error quotes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    /// All of its key, or all but its question.
    Key(Key),
    /// Its ports only, as RFC 792 demands: the query is looked for among the newest ones.
    Flow {
        /// Symmetric hash of endpoints and transport.
        flow: u64,
        /// The way that it travels.
        way: Way,
    },
}

/// An open query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// What its reply is found by.
    pub key: Key,
    /// Time of the query in nanoseconds of unix time.
    pub time: i64,
    /// Bytes of the query.
    pub length: u16,
    /// The transactions it stands for.
    pub weight: u32,
    /// Whether a query that is repeated after its answer is a new one: over TCP, which repeats
    /// nothing by itself.
    pub stream: bool,
    /// Whether it asks for a zone transfer over TCP.
    pub transfer: bool,
    /// Whether it could be read. One that could not may be answered FORMERR, but nobody need
    /// answer it: it neither times out nor counts as open.
    pub readable: bool,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What its query is found by.
    pub key: Key,
    /// Time of the reply in nanoseconds of unix time.
    pub time: i64,
    /// Bytes of the reply.
    pub length: u32,
    /// The replies it stands for.
    pub weight: u32,
    /// Which transactions it counts to, as the place of a direction.
    pub direction: u8,
    /// Whether its question asks for a zone transfer over TCP.
    pub transfer: bool,
}

impl Query {
    /// Whether it was asked before a reply came, by the clock of the capture.
    #[inline]
    fn is_before(&self, reply: &Reply) -> bool {
        self.time <= reply.time
    }
}

impl Waiting for Query {
    fn key(&self) -> &Key {
        &self.key
    }
}

impl Waiting for Reply {
    fn key(&self) -> &Key {
        &self.key
    }
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answers this query.
    Of(Query),
    /// A further reply to a query that was answered.
    Duplicate,
    /// A further message of a zone transfer.
    OfTransfer,
    /// It waits for its query, or has no room to.
    Early,
}

/// What leaves the tables without having met its counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A query nobody answered in time.
    TimedOut(Query),
    /// A reply without a query.
    Orphan(Reply),
}

/// The transactions of a part of the flows.
#[derive(Debug)]
pub struct Transactions {
    open: Pending<Query>,
    /// Open queries that could not be read.
    unreadable: u64,
    early: Pending<Reply>,
    answered: Answered,
    transfers: Transfers,
    timeout: i64,
    /// No query and no reply that waits is over before.
    due: i64,
    evicted: u64,
}

impl Transactions {
    /// A table of at most `capacity` open queries that time out after `timeout` nanoseconds.
    pub fn new(capacity: usize, timeout: i64) -> Self {
        Self {
            open: Pending::new(capacity),
            unreadable: 0,
            early: Pending::new(EARLY_REPLIES),
            answered: Answered::default(),
            transfers: Transfers::default(),
            timeout,
            due: i64::MAX,
            evicted: 0,
        }
    }

    /// Open queries.
    pub fn open(&self) -> u64 {
        self.open.len() as u64 - self.unreadable
    }

    /// Queries given up because the table was full, since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Takes in a query. Returns the reply to it that stood before it.
    ///
    /// A repeated query keeps its first time until it times out. `gone` gets the query that it
    /// replaces because its time is over.
    #[inline(always)]
    pub fn query(&mut self, query: &Query, gone: &mut impl FnMut(Gone)) -> Option<Reply> {
        if let Some(at) = self.open.find(&query.key) {
            let first = self.open.get(at).map_or(query.time, |first| first.time);
            if query.time.saturating_sub(first) <= self.timeout {
                return None;
            }
            if let Some(query) = self.remove(at).filter(|query| query.readable) {
                gone(Gone::TimedOut(query));
            }
        }
        self.transfers.end(&query.key);
        if self.early.len() > 0
            && let Some(reply) = self.early_reply(query)
        {
            return Some(reply);
        }
        if self.open.is_full() {
            self.evicted += u64::from(self.remove_oldest().is_some_and(|query| query.readable));
        }
        self.unreadable += u64::from(!query.readable);
        self.due = self.due.min(query.time.saturating_add(self.timeout));
        self.open.insert(*query);
        None
    }

    /// The early reply to a query, which leaves the table: the query is answered.
    fn early_reply(&mut self, query: &Query) -> Option<Reply> {
        let key = &query.key;
        let at = self.early.find(key).or_else(|| self.early.find(&key.without_question()))?;
        let reply = self.early.get(at)?;
        let apart = reply.time.saturating_sub(query.time);
        if !(0..=EARLY).contains(&apart) {
            return None;
        }
        let reply = self.early.remove(at)?;
        self.settle(query, reply.transfer);
        Some(reply)
    }

    /// Takes in a reply. `gone` gets what its coming shows to be over.
    #[inline(always)]
    pub fn reply(&mut self, reply: &Reply, gone: &mut impl FnMut(Gone)) -> Answer {
        if let Some(query) = self.asked(reply, gone) {
            if self.is_repeated(&query) {
                return Answer::Duplicate;
            }
            self.settle(&query, reply.transfer);
            return Answer::Of(query);
        }
        self.unasked(reply, gone)
    }

    /// Takes in a reply whose query is not open.
    #[inline(never)]
    fn unasked(&mut self, reply: &Reply, gone: &mut impl FnMut(Gone)) -> Answer {
        if self.transfers.goes_on(&reply.key, reply.time) {
            return Answer::OfTransfer;
        }
        if self.is_answered(&reply.key, reply.time) {
            return Answer::Duplicate;
        }
        if reply.transfer {
            // The query was not captured. What follows belongs to this first message.
            self.transfers.begin(&reply.key, reply.time);
        }
        if self.early.find(&reply.key).is_some() {
            gone(Gone::Orphan(*reply));
            return Answer::Early;
        }
        if self.early.is_full()
            && let Some(reply) = self.early.remove_oldest()
        {
            gone(Gone::Orphan(reply));
        }
        self.due = self.due.min(reply.time.saturating_add(EARLY));
        self.early.insert(*reply);
        Answer::Early
    }

    /// The query of a reply, which leaves the table.
    #[inline]
    fn asked(&mut self, reply: &Reply, gone: &mut impl FnMut(Gone)) -> Option<Query> {
        let repeated = match reply.key.question {
            0 => None,
            _ => self.open.take(&reply.key, |query| query.is_before(reply)),
        };
        let query = repeated.or_else(|| self.asked_in_part(reply))?;
        self.unreadable -= u64::from(!query.readable);
        if reply.time.saturating_sub(query.time) > self.timeout {
            if query.readable {
                gone(Gone::TimedOut(query));
            }
            return None;
        }
        Some(query)
    }

    /// The open query of the same exchange where query or reply has no question.
    #[inline(never)]
    fn asked_in_part(&mut self, reply: &Reply) -> Option<Query> {
        let at = match reply.key.question {
            0 => self.open.find_exchange(&reply.key),
            _ => self.open.find(&reply.key.without_question()),
        }?;
        if self.open.get(at)?.is_before(reply) { self.open.remove(at) } else { None }
    }

    /// A query has met its reply.
    #[inline]
    fn settle(&mut self, query: &Query, transfer: bool) {
        if query.transfer || transfer {
            self.transfers.begin(&query.key, query.time);
        } else {
            self.answered.note(&query.key, query.time);
        }
    }

    /// Whether a query repeats one that was answered: over UDP, for TCP repeats nothing. That is
    /// looked at when the query ends, so that it costs a query nothing when it comes.
    fn is_repeated(&self, query: &Query) -> bool {
        !query.stream && self.is_answered(&query.key, query.time)
    }

    fn is_answered(&self, key: &Key, time: i64) -> bool {
        self.answered.has(key, time, self.timeout)
    }

    /// Takes out the open query that an ICMP error quotes.
    pub fn unreachable(&mut self, quoted: &Quoted) -> Option<Query> {
        let at = match quoted {
            Quoted::Key(key) if key.question == 0 => self.open.find_exchange(key),
            Quoted::Key(key) => self.open.find(key),
            Quoted::Flow { flow, way } => self
                .open
                .newest(QUOTED_WITHOUT_ID)
                .find(|(_, query)| query.key.is_of(*flow, *way))
                .map(|(at, _)| at),
        };
        self.remove(at?).filter(|query| query.readable)
    }

    /// Whether the time of a query or of a reply that waits may be over before `now`.
    #[inline]
    pub fn is_due(&self, now: i64) -> bool {
        self.due < now
    }

    /// Lets time pass up to `now`: queries time out, and replies give up waiting for their query.
    pub fn expire(&mut self, now: i64, gone: &mut impl FnMut(Gone)) {
        while self.open.oldest().is_some_and(|query| is_over(query.time, self.timeout, now)) {
            let query = self.remove_oldest().filter(|query| query.readable);
            if let Some(query) = query.filter(|query| !self.is_repeated(query)) {
                gone(Gone::TimedOut(query));
            }
        }
        while self.early.oldest().is_some_and(|reply| is_over(reply.time, EARLY, now)) {
            if let Some(reply) = self.early.remove_oldest() {
                gone(Gone::Orphan(reply));
            }
        }
        let query = self.open.oldest().map(|query| query.time.saturating_add(self.timeout));
        let reply = self.early.oldest().map(|reply| reply.time.saturating_add(EARLY));
        self.due = query.unwrap_or(i64::MAX).min(reply.unwrap_or(i64::MAX));
    }

    /// No query comes any more: all replies that wait for one are orphans.
    pub fn end_input(&mut self, gone: &mut impl FnMut(Gone)) {
        while let Some(reply) = self.early.remove_oldest() {
            gone(Gone::Orphan(reply));
        }
    }

    /// The open queries whose time is over before `now`, which [`Self::expire`] would give up.
    pub fn due(&self, now: i64) -> impl Iterator<Item = &Query> {
        self.open
            .iter()
            .take_while(move |query| is_over(query.time, self.timeout, now))
            .filter(|query| query.readable)
    }

    fn remove(&mut self, at: Place) -> Option<Query> {
        let query = self.open.remove(at)?;
        self.unreadable -= u64::from(!query.readable);
        Some(query)
    }

    fn remove_oldest(&mut self) -> Option<Query> {
        let query = self.open.remove_oldest()?;
        self.unreadable -= u64::from(!query.readable);
        Some(query)
    }
}

/// Whether the time of what came at `time` is over before `now`.
fn is_over(time: i64, patience: i64, now: i64) -> bool {
    time.saturating_add(patience) < now
}
