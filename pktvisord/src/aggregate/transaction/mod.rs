//! Matches DNS queries with replies.
//!
//! A reply travels in the opposite direction of its query, between the same endpoints, with the same
//! transport, id and opcode, and with the same name and type if it repeats the question (RFC 1035
//! section 7.3, RFC 5452 section 9.1). All tables are bounded, and nothing here reads a clock:
//!
//! * **Open queries.** When the table is full, the oldest one is evicted and counted.
//! * **Early replies** precede their query in a capture of several queues. A reply without a query is
//!   kept for [`EARLY`] before it counts as an orphan.
//! * **Answered queries.** A further reply to one is a duplicate. A query over UDP that is repeated
//!   after its answer is the same query.
//! * **Zone transfers.** Further messages are part of the same transaction.

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
use crate::time::{SECOND, Span, Timestamp};

/// Time that a reply waits for a query that follows it in the capture.
pub(crate) const EARLY: Span = SECOND;
/// Maximum early replies of a partition. When full, the oldest counts as an orphan.
const EARLY_REPLIES: usize = 1_024;
/// Open queries compared with an ICMP error that quotes no DNS id.
const QUOTED_WITHOUT_ID: usize = 16;

/// The way in which a message travels between its two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// From the lower endpoint, by port and then address, to the higher one.
    Up = 0,
    /// From the higher endpoint to the lower one.
    Down = 1,
    /// Both endpoints are the same.
    Within = 2,
}

impl Way {
    /// Returns the way of a packet.
    #[inline]
    pub fn of(meta: &PacketMeta) -> Self {
        // Ports first: they are rarely equal.
        match (meta.src_port, meta.src).cmp(&(meta.dst_port, meta.dst)) {
            Ordering::Less => Self::Up,
            Ordering::Greater => Self::Down,
            Ordering::Equal => Self::Within,
        }
    }

    /// Returns the opposite way.
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

/// The key that a query and its reply share. It consists of whole words, because it is compared and
/// copied for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    flow: u64,
    question: u64,
    /// Id, opcode and way.
    rest: u64,
}

impl Key {
    /// Creates the key of a query that travels this way. `flow` is the symmetric hash of endpoints and
    /// transport. `question` is the [`question_hash`], or 0 if the message has no question or it was
    /// not captured.
    #[inline]
    pub fn new(flow: u64, way: Way, id: u16, opcode: u8, question: u64) -> Self {
        let rest = u64::from(id) << 16 | u64::from(opcode) << 8 | way as u64;
        Self { flow, question, rest }
    }

    /// Returns the symmetric hash of endpoints and transport.
    #[inline]
    pub fn flow(&self) -> u64 {
        self.flow
    }

    /// Returns the exchange: the key without its question.
    #[inline]
    fn exchange(&self) -> (u64, u64) {
        (self.flow, self.rest)
    }

    #[inline]
    fn exchange_hash(&self) -> u64 {
        mix(self.flow ^ self.rest.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns a hash that is the same in each process, so that results do not vary between runs.
    #[inline]
    fn digest(&self) -> u64 {
        let rest = self.rest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mix(self.flow ^ rest ^ self.question.rotate_left(17))
    }

    #[inline]
    fn is_same_exchange(&self, other: &Self) -> bool {
        self.exchange() == other.exchange()
    }

    /// Returns true if the key belongs to this flow and way.
    fn is_of(&self, flow: u64, way: Way) -> bool {
        self.flow == flow && self.rest & 0xff == way as u64
    }

    /// Returns the key of a message of the same exchange whose question is not known.
    fn without_question(&self) -> Self {
        Self { question: 0, ..*self }
    }
}

/// Returns a hash of a question; never 0.
#[inline]
pub(crate) fn question_hash(name: u64, qtype: u16) -> u64 {
    (name ^ u64::from(qtype).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

/// The part of a query that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoted {
    /// The whole key, or all but its question.
    Key(Key),
    /// Only the ports, as RFC 792 demands: the query is searched for among the newest ones.
    Flow {
        /// Symmetric hash of endpoints and transport.
        flow: u64,
        /// The way of the quoted packet.
        way: Way,
    },
}

/// An open query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Key shared with its reply.
    pub key: Key,
    /// Time of the query in nanoseconds since the Unix epoch.
    pub time: Timestamp,
    /// Bytes of the query.
    pub length: u16,
    /// Number of transactions that it stands for.
    pub weight: u32,
    /// True over TCP, which does not retransmit messages: a query repeated after its answer is a new one.
    pub stream: bool,
    /// True if it requests a zone transfer over TCP.
    pub transfer: bool,
    /// True if it could be read. An unreadable query may be answered FORMERR, but need not be: it neither
    /// times out nor counts as open.
    pub readable: bool,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Key shared with its query.
    pub key: Key,
    /// Time of the reply in nanoseconds since the Unix epoch.
    pub time: Timestamp,
    /// Bytes of the reply.
    pub length: u32,
    /// Number of replies that it stands for.
    pub weight: u32,
    /// Direction of the transaction, as the number of a [`pktvisor_common::direction::Direction`].
    pub direction: u8,
    /// True if its question requests a zone transfer over TCP.
    pub transfer: bool,
}

impl Query {
    /// Returns true if the query was sent no later than the reply, by the clock of the capture.
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

/// The verdict on a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It answers this query.
    Of(Query),
    /// A further reply to an answered query.
    Duplicate,
    /// A further message of a zone transfer.
    OfTransfer,
    /// No query is open. It waits for one, or it counted as an orphan because another reply with its key
    /// already waits.
    Early,
}

/// A query or reply that left the tables without its counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// A query that was not answered in time.
    TimedOut(Query),
    /// A reply without a query.
    Orphan(Reply),
}

/// The transactions of one partition.
#[derive(Debug)]
pub(crate) struct Transactions {
    open: Pending<Query>,
    /// Number of open queries that could not be read.
    unreadable: u64,
    early: Pending<Reply>,
    answered: Answered,
    transfers: Transfers,
    timeout: Span,
    /// No query times out and no early reply expires before this time.
    due: Timestamp,
    evicted: u64,
}

impl Transactions {
    /// Creates tables for at most `capacity` open queries, which time out after `timeout` nanoseconds.
    pub(crate) fn new(capacity: usize, timeout: Span) -> Self {
        Self {
            open: Pending::new(capacity),
            unreadable: 0,
            early: Pending::new(EARLY_REPLIES),
            answered: Answered::default(),
            transfers: Transfers::default(),
            timeout,
            due: Timestamp::MAX,
            evicted: 0,
        }
    }

    /// Returns the number of open queries, without the unreadable ones.
    pub(crate) fn open(&self) -> u64 {
        self.open.len() as u64 - self.unreadable
    }

    /// Returns the number of queries evicted from a full table since the last call.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Processes a query. Returns the early reply to it, if there is one.
    ///
    /// A repeated query keeps the time of the first one until that times out. `gone` then receives the
    /// first one.
    #[inline(always)]
    pub(crate) fn query(&mut self, query: &Query, gone: &mut impl FnMut(Gone)) -> Option<Reply> {
        if let Some(at) = self.open.find(&query.key) {
            let first = self.open.get(at).map_or(query.time, |first| first.time);
            if query.time - first <= self.timeout {
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
        self.due = self.due.min(query.time + self.timeout);
        self.open.insert(*query);
        None
    }

    /// Removes and returns the early reply to a query, which is thereby answered.
    fn early_reply(&mut self, query: &Query) -> Option<Reply> {
        let key = &query.key;
        let at = self.early.find(key).or_else(|| self.early.find(&key.without_question()))?;
        let reply = self.early.get(at)?;
        let apart = reply.time - query.time;
        if !(Span::ZERO..=EARLY).contains(&apart) {
            return None;
        }
        let reply = self.early.remove(at)?;
        self.settle(query, reply.transfer);
        Some(reply)
    }

    /// Processes a reply. `gone` receives the entries that it shows to be over.
    #[inline(always)]
    pub(crate) fn reply(&mut self, reply: &Reply, gone: &mut impl FnMut(Gone)) -> Answer {
        if let Some(query) = self.asked(reply, gone) {
            if self.is_repeated(&query) {
                return Answer::Duplicate;
            }
            self.settle(&query, reply.transfer);
            return Answer::Of(query);
        }
        self.unasked(reply, gone)
    }

    /// Processes a reply whose query is not open.
    #[inline(never)]
    fn unasked(&mut self, reply: &Reply, gone: &mut impl FnMut(Gone)) -> Answer {
        if self.transfers.goes_on(&reply.key, reply.time) {
            return Answer::OfTransfer;
        }
        if self.is_answered(&reply.key, reply.time) {
            return Answer::Duplicate;
        }
        if reply.transfer {
            // The query was not captured. Later messages belong to this first one.
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
        self.due = self.due.min(reply.time + EARLY);
        self.early.insert(*reply);
        Answer::Early
    }

    /// Removes and returns the query of a reply.
    #[inline]
    fn asked(&mut self, reply: &Reply, gone: &mut impl FnMut(Gone)) -> Option<Query> {
        let repeated = match reply.key.question {
            0 => None,
            _ => self.open.take(&reply.key, |query| query.is_before(reply)),
        };
        let query = repeated.or_else(|| self.asked_in_part(reply))?;
        self.unreadable -= u64::from(!query.readable);
        if reply.time - query.time > self.timeout {
            if query.readable {
                gone(Gone::TimedOut(query));
            }
            return None;
        }
        Some(query)
    }

    /// Removes and returns the open query of the same exchange if the query or the reply has no question.
    #[inline(never)]
    fn asked_in_part(&mut self, reply: &Reply) -> Option<Query> {
        let at = match reply.key.question {
            0 => self.open.find_exchange(&reply.key),
            _ => self.open.find(&reply.key.without_question()),
        }?;
        if self.open.get(at)?.is_before(reply) { self.open.remove(at) } else { None }
    }

    /// Records that a query met its reply.
    #[inline]
    fn settle(&mut self, query: &Query, transfer: bool) {
        if query.transfer || transfer {
            self.transfers.begin(&query.key, query.time);
        } else {
            self.answered.note(&query.key, query.time);
        }
    }

    /// Returns true if a query over UDP repeats an answered one. TCP does not retransmit messages. This is
    /// checked when the query ends, so that it costs nothing when a query arrives.
    fn is_repeated(&self, query: &Query) -> bool {
        !query.stream && self.is_answered(&query.key, query.time)
    }

    fn is_answered(&self, key: &Key, time: Timestamp) -> bool {
        self.answered.has(key, time, self.timeout)
    }

    /// Removes and returns the open query that an ICMP error quotes.
    pub(crate) fn unreachable(&mut self, quoted: &Quoted) -> Option<Query> {
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

    /// Returns true if a query or an early reply may be over before `now`.
    #[inline]
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.due < now
    }

    /// Advances time to `now`: times out queries and gives up early replies.
    pub(crate) fn expire(&mut self, now: Timestamp, gone: &mut impl FnMut(Gone)) {
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
        let query = self.open.oldest().map(|query| query.time + self.timeout);
        let reply = self.early.oldest().map(|reply| reply.time + EARLY);
        self.due = query.unwrap_or(Timestamp::MAX).min(reply.unwrap_or(Timestamp::MAX));
    }

    /// Ends the input: all early replies become orphans.
    pub(crate) fn end_input(&mut self, gone: &mut impl FnMut(Gone)) {
        while let Some(reply) = self.early.remove_oldest() {
            gone(Gone::Orphan(reply));
        }
    }

    /// Returns the open queries whose time is over before `now`, which [`Self::expire`] would time out.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = &Query> {
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

/// Returns true if `patience` after `time` lies before `now`.
fn is_over(time: Timestamp, patience: Span, now: Timestamp) -> bool {
    time + patience < now
}
