//! A half-stream: puts the bytes of segments in order.

use pktvisor_common::packet::{TCP_FIN, TCP_RST};

use super::framing::{Framer, Message};
use super::{Segment, StreamLimits, StreamLosses, is_syn};
use crate::time::Timestamp;

/// Maximum bytes of one segment. IPv6 jumbograms and super-packets stay far below.
const MAX_SEGMENT: u32 = 1 << 24;
/// Maximum bytes that a segment may lie behind to count as an old one. A segment further behind belongs
/// to another connection whose start was missed.
const BEHIND: i32 = 1 << 22;
/// Maximum segments that wait for earlier ones.
const MAX_WAITING: usize = 256;

/// A segment on its way into its half-stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    time: Timestamp,
    /// Sequence number of the first byte of `payload`.
    seq: u32,
    flags: u8,
    payload: &'a [u8],
    missing: u32,
}

impl<'a> Arrival<'a> {
    /// Returns the segment without its key. A SYN takes the sequence number before the first payload byte.
    pub(super) fn of<C>(segment: &Segment<'a, C>) -> Self {
        let payload = &segment.payload[..segment.payload.len().min(MAX_SEGMENT as usize)];
        Self {
            time: segment.time,
            seq: segment.seq.wrapping_add(u32::from(is_syn(segment.flags))),
            flags: segment.flags,
            payload,
            missing: segment.missing.min(MAX_SEGMENT),
        }
    }

    /// Returns true if it neither starts a stream nor carries payload.
    pub(super) fn is_bare(&self) -> bool {
        self.length() == 0 && !is_syn(self.flags)
    }

    fn length(&self) -> u32 {
        self.payload.len() as u32 + self.missing
    }

    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.length())
    }

    /// Removes and returns the first `length` bytes, which must not exceed its length.
    fn take(&mut self, length: u32) -> Self {
        let (payload, rest) = self.payload.split_at(self.payload.len().min(length as usize));
        let missing = length - payload.len() as u32;
        let taken = Self { payload, missing, ..*self };
        self.seq = self.seq.wrapping_add(length);
        self.payload = rest;
        self.missing -= missing;
        taken
    }
}

/// Bytes that wait for earlier ones.
#[derive(Debug)]
struct Waiting {
    seq: u32,
    /// Number of bytes after `data` that the capture truncated.
    missing: u32,
    time: Timestamp,
    data: Box<[u8]>,
}

impl Waiting {
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.data.len() as u32).wrapping_add(self.missing)
    }
}

/// The start of a half-stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Its SYN.
    Syn,
    /// Inside the connection. Until this time, segments before the first captured one may still arrive, so
    /// all segments wait.
    Open(Timestamp),
    /// Inside the connection, at the earliest segment captured by then.
    Middle,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct HalfStream {
    framer: Framer,
    /// Sorted by sequence number, without overlaps.
    waiting: Vec<Waiting>,
    /// Lower bound of the times in `waiting`. Meaningless while nothing waits.
    since: Timestamp,
    /// Sequence number of the first byte seen of the stream.
    start: u32,
    begins: Start,
    /// Sequence number of the next byte in order.
    next: u32,
    /// Highest acknowledgement of the peer and its capture time. If an earlier one already covered the
    /// first gap, the time is that of the earlier one.
    acknowledged: Option<(u32, Timestamp)>,
    /// Sequence number of the FIN, while bytes before it are missing.
    fin: Option<u32>,
    /// Ended by FIN or RST. The half-stream is kept to recognize retransmissions.
    closed: bool,
}

impl HalfStream {
    /// Creates the half-stream that a first segment opens.
    pub(super) fn starting(first: &Arrival<'_>, limits: &StreamLimits) -> Self {
        let syn = is_syn(first.flags);
        Self {
            framer: if syn { Framer::from_start() } else { Framer::from_middle() },
            waiting: Vec::new(),
            since: Timestamp::EPOCH,
            start: first.seq,
            begins: match syn {
                true => Start::Syn,
                false => Start::Open(first.time + limits.reorder),
            },
            next: first.seq,
            acknowledged: None,
            fin: None,
            closed: false,
        }
    }

    /// Returns the bytes of memory held beyond the half-stream itself.
    pub(super) fn held(&self) -> usize {
        let data: usize = self.waiting.iter().map(|waiting| waiting.data.len()).sum();
        self.framer.held() + data + self.waiting.capacity() * size_of::<Waiting>()
    }

    /// Returns true if it is inside a message or waits for bytes.
    pub(super) fn is_unfinished(&self) -> bool {
        self.framer.is_open() || !self.waiting.is_empty() || self.fin.is_some()
    }

    /// Returns a lower bound of the times of segments that wait for earlier ones; `None` if none do. No
    /// later message of the half-stream will have an earlier time.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        (!self.waiting.is_empty()).then_some(self.since)
    }

    /// Returns when the first gap is given up: [`StreamLimits::reorder`] after the peer has acknowledged it,
    /// and at the latest [`StreamLimits::gap`] after the first waiting segment.
    pub(super) fn deadline(&self, limits: &StreamLimits) -> Option<Timestamp> {
        let first = self.waiting.first()?;
        if let Start::Open(until) = self.begins {
            return Some(until);
        }
        let latest = first.time + limits.gap;
        let acknowledged = self.acknowledged.filter(|(ack, _)| after(*ack, first.seq) >= 0);
        Some(
            acknowledged
                .map_or(latest, |(_, time)| (time.max(first.time) + limits.reorder).min(latest)),
        )
    }

    /// Records that the peer acknowledged all bytes before `ack`, as captured at `time`.
    pub(super) fn acknowledge(&mut self, ack: u32, time: Timestamp) {
        if self.acknowledged.is_none_or(|(highest, _)| after(ack, highest) > 0) {
            // The first gap keeps the time at which it was first acknowledged.
            let kept = self.acknowledged.filter(|(highest, _)| {
                self.waiting.first().is_some_and(|first| after(*highest, first.seq) >= 0)
            });
            self.acknowledged = Some((ack, kept.map_or(time, |(_, since)| since)));
        }
    }

    /// Processes a segment.
    pub(super) fn arrive(
        &mut self,
        mut arrival: Arrival<'_>,
        limits: &StreamLimits,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        if arrival.flags & TCP_RST != 0 {
            // Ignore a RST that only guesses the sequence number (RFC 5961).
            if self.distance(arrival.seq).unsigned_abs() <= limits.ahead {
                self.give_up(losses, emit);
                self.closed = true;
            }
            return;
        }
        let distance = self.distance(arrival.seq);
        let is_open = matches!(self.begins, Start::Open(_));
        let near = distance.unsigned_abs() <= limits.ahead;
        let reopened = if is_syn(arrival.flags) {
            arrival.seq != self.start && !(is_open && near && distance <= 0)
        } else {
            !arrival.is_bare() && (distance < -BEHIND || self.closed && distance >= 0)
        };
        if reopened {
            self.give_up(losses, emit);
            let acknowledged = self.acknowledged;
            *self = Self { acknowledged, ..Self::starting(&arrival, limits) };
        } else if is_open && is_syn(arrival.flags) {
            // The SYN arrived after later segments.
            self.framer = Framer::from_start();
            (self.begins, self.start, self.next) = (Start::Syn, arrival.seq, arrival.seq);
        } else if is_open && near && distance < 0 && arrival.length() > 0 {
            (self.start, self.next) = (arrival.seq, arrival.seq);
        } else if self.begins == Start::Middle
            && after(arrival.seq, self.start) < 0
            && arrival.length() > 0
            && near
        {
            losses.before_start += 1;
        }
        if self.closed {
            return;
        }
        if arrival.flags & TCP_FIN != 0 && self.distance(arrival.end()) >= 0 {
            self.fin = Some(arrival.end());
        }
        if arrival.length() > 0 && self.distance(arrival.end()) > 0 {
            self.reach(arrival.seq, limits.ahead as i32, losses, emit);
            if self.closed {
                return;
            }
            let behind = self.distance(arrival.seq).min(0).unsigned_abs();
            arrival.take(behind.min(arrival.length()));
            self.insert(arrival, losses, emit);
        }
        self.drain(losses, emit);
        while self.waiting.len() > MAX_WAITING {
            self.skip_gap(losses, emit);
        }
    }

    /// Gives up the gaps whose deadline is before `now`.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        limits: &StreamLimits,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        while self.deadline(limits).is_some_and(|deadline| deadline < now) {
            self.skip_gap(losses, emit);
        }
    }

    /// Gives up all gaps and ends the open message.
    pub(super) fn give_up(&mut self, losses: &mut StreamLosses, emit: &mut dyn FnMut(Message<'_>)) {
        self.skip_gaps(losses, emit);
        let fin = self.fin.take();
        losses.gaps += u64::from(fin.is_some_and(|fin| self.distance(fin) > 0));
        self.framer.end(losses);
    }

    /// Gives up all gaps.
    pub(super) fn skip_gaps(
        &mut self,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        while !self.waiting.is_empty() {
            self.skip_gap(losses, emit);
        }
    }

    /// Returns the number of bytes from the next one in order to `seq`.
    fn distance(&self, seq: u32) -> i32 {
        after(seq, self.next)
    }

    /// Gives up gaps until `seq` is at most `ahead` bytes ahead.
    fn reach(
        &mut self,
        seq: u32,
        ahead: i32,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        while self.distance(seq) > ahead {
            if self.waiting.is_empty() {
                self.lose(self.distance(seq) as u32, losses);
            } else {
                self.skip_gap(losses, emit);
            }
        }
    }

    /// Processes bytes that end after the next one in order. They are read at once if they are next and do
    /// not overlap waiting bytes. Otherwise the new bytes among them wait.
    fn insert(
        &mut self,
        mut arrival: Arrival<'_>,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        let overlaps = |first: &Waiting| after(first.seq, arrival.end()) < 0;
        let is_open = matches!(self.begins, Start::Open(_));
        let is_next = self.distance(arrival.seq) == 0 && !is_open;
        if is_next && !self.waiting.first().is_some_and(overlaps) {
            self.accept(arrival.payload, arrival.missing, arrival.time, losses, emit);
            return;
        }
        while arrival.length() > 0 {
            let from_next = self.distance(arrival.seq);
            let at =
                self.waiting.partition_point(|waiting| self.distance(waiting.end()) <= from_next);
            let len = arrival.length();
            let hole = self
                .waiting
                .get(at)
                .map_or(len, |waiting| after(waiting.seq, arrival.seq).clamp(0, len as i32) as u32);
            if hole > 0 {
                let Arrival { time, seq, payload, missing, .. } = arrival.take(hole);
                self.since = if self.waiting.is_empty() { time } else { self.since.min(time) };
                self.waiting.insert(at, Waiting { seq, missing, time, data: payload.into() });
            } else {
                let known = self.waiting[at].end().wrapping_sub(arrival.seq);
                arrival.take(known.min(len));
            }
        }
    }

    /// Reads the waiting bytes that are next in order.
    fn drain(&mut self, losses: &mut StreamLosses, emit: &mut dyn FnMut(Message<'_>)) {
        if matches!(self.begins, Start::Open(_)) {
            return;
        }
        while self.waiting.first().is_some_and(|first| first.seq == self.next) {
            let first = self.waiting.remove(0);
            self.accept(&first.data, first.missing, first.time, losses, emit);
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        if self.fin == Some(self.next) {
            self.give_up(losses, emit);
            // A FIN takes a sequence number.
            self.next = self.next.wrapping_add(1);
            self.closed = true;
        }
    }

    /// Gives up the gap before the first waiting segment.
    fn skip_gap(&mut self, losses: &mut StreamLosses, emit: &mut dyn FnMut(Message<'_>)) {
        let Some(first) = self.waiting.first() else { return };
        let (seq, is_open) = (first.seq, matches!(self.begins, Start::Open(_)));
        if is_open {
            (self.begins, self.start, self.next) = (Start::Middle, seq, seq);
        } else {
            self.lose(self.distance(seq) as u32, losses);
        }
        self.drain(losses, emit);
        self.since = self.waiting.iter().map(|waiting| waiting.time).min().unwrap_or_default();
    }

    /// Steps over bytes that were never captured.
    fn lose(&mut self, length: u32, losses: &mut StreamLosses) {
        losses.gaps += 1;
        self.framer.lose(length, losses);
        self.next = self.next.wrapping_add(length);
    }

    /// Reads the next bytes in order.
    fn accept(
        &mut self,
        payload: &[u8],
        missing: u32,
        time: Timestamp,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        self.framer.feed(payload, time, losses, emit);
        if missing > 0 {
            self.framer.cut(missing, time, losses, emit);
        }
        self.next = self.next.wrapping_add(payload.len() as u32).wrapping_add(missing);
    }
}

/// Returns the number of bytes from `from` to `seq`, negative if `seq` is before it (RFC 9293 section 3.4).
fn after(seq: u32, from: u32) -> i32 {
    seq.wrapping_sub(from) as i32
}
