//! One half-stream: from segments to octets in order.

use pktvisor_common::packet::{TCP_FIN, TCP_RST};

use super::framing::Framer;
use super::{Segment, StreamLimits, StreamLosses, is_syn};

/// Longest run of octets of one segment; IPv6 jumbograms and super-packets stay far below.
const MAX_SEGMENT: u32 = 1 << 24;
/// Octets that a segment may lie behind to count as one that came before. What lies further
/// behind belongs to another connection whose start was missed.
const BEHIND: i32 = 1 << 22;
/// Segments that may wait for earlier ones.
const MAX_WAITING: usize = 256;

/// A segment on its way into its half-stream.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    time: i64,
    /// Sequence number of the first octet of `payload`.
    seq: u32,
    flags: u8,
    payload: &'a [u8],
    missing: u32,
}

impl<'a> Arrival<'a> {
    /// The segment without its key; SYN takes a sequence number before its payload's first.
    pub fn of(segment: &Segment<'a>) -> Self {
        let payload = &segment.payload[..segment.payload.len().min(MAX_SEGMENT as usize)];
        Self {
            time: segment.time,
            seq: segment.seq.wrapping_add(u32::from(is_syn(segment.flags))),
            flags: segment.flags,
            payload,
            missing: segment.missing.min(MAX_SEGMENT),
        }
    }

    /// Whether it neither starts a stream nor carries payload.
    pub fn is_bare(&self) -> bool {
        self.octets() == 0 && !is_syn(self.flags)
    }

    fn octets(&self) -> u32 {
        self.payload.len() as u32 + self.missing
    }

    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.octets())
    }

    /// Takes the first `octets` away; at most all.
    fn take(&mut self, octets: u32) -> Self {
        let (payload, rest) = self.payload.split_at(self.payload.len().min(octets as usize));
        let missing = octets - payload.len() as u32;
        let taken = Self { payload, missing, ..*self };
        self.seq = self.seq.wrapping_add(octets);
        self.payload = rest;
        self.missing -= missing;
        taken
    }
}

/// Octets that wait for earlier ones.
#[derive(Debug)]
struct Waiting {
    seq: u32,
    /// Octets behind `data` that were cut off.
    missing: u32,
    time: i64,
    data: Box<[u8]>,
}

impl Waiting {
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.data.len() as u32).wrapping_add(self.missing)
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub struct HalfStream {
    framer: Framer,
    /// In order of their sequence numbers, without overlap.
    waiting: Vec<Waiting>,
    /// Sequence number of the first octet of the stream, as far as it was seen.
    start: u32,
    /// Sequence number of the next octet in order.
    next: u32,
    /// Sequence number of the FIN.
    fin: Option<u32>,
    /// Ended by FIN or RST. Kept, so that what is sent again is known as such.
    closed: bool,
}

impl HalfStream {
    /// The half-stream that a first segment opens.
    pub fn starting(first: &Arrival<'_>) -> Self {
        let syn = is_syn(first.flags);
        Self {
            framer: if syn { Framer::from_start() } else { Framer::from_middle() },
            waiting: Vec::new(),
            start: first.seq,
            next: first.seq,
            fin: None,
            closed: false,
        }
    }

    /// Octets of memory held beyond the half-stream itself.
    pub fn held(&self) -> usize {
        let data: usize = self.waiting.iter().map(|waiting| waiting.data.len()).sum();
        self.framer.held() + data + self.waiting.capacity() * size_of::<Waiting>()
    }

    /// Whether it is inside a message or waits for a segment.
    pub fn is_unfinished(&self) -> bool {
        self.framer.is_open() || !self.waiting.is_empty()
    }

    /// Takes a segment.
    pub fn arrive(
        &mut self,
        mut arrival: Arrival<'_>,
        limits: &StreamLimits,
        losses: &mut StreamLosses,
        message: &mut dyn FnMut(&[u8]),
    ) {
        if arrival.flags & TCP_RST != 0 {
            // Not one that only guesses the sequence number (RFC 5961).
            if self.distance(arrival.seq).unsigned_abs() <= limits.ahead {
                self.give_up(losses, message);
                self.closed = true;
            }
            return;
        }
        let reopened = if is_syn(arrival.flags) {
            arrival.seq != self.start
        } else {
            let distance = self.distance(arrival.seq);
            !arrival.is_bare() && (distance < -BEHIND || self.closed && distance >= 0)
        };
        if reopened {
            self.give_up(losses, message);
            *self = Self::starting(&arrival);
        }
        if self.closed {
            return;
        }
        if arrival.flags & TCP_FIN != 0 && self.distance(arrival.end()) >= 0 {
            self.fin = Some(arrival.end());
        }
        if arrival.octets() > 0 && self.distance(arrival.end()) > 0 {
            self.reach(arrival.seq, limits.ahead as i32, losses, message);
            if self.closed {
                return;
            }
            let behind = self.distance(arrival.seq).min(0).unsigned_abs();
            arrival.take(behind.min(arrival.octets()));
            self.insert(arrival, losses, message);
        }
        self.drain(losses, message);
        let too_old = |first: &Waiting| arrival.time.saturating_sub(first.time) > limits.gap;
        while self.waiting.len() > MAX_WAITING || self.waiting.first().is_some_and(too_old) {
            self.skip_gap(losses, message);
        }
    }

    /// Gives up what is waited for and ends the message that is open.
    pub fn give_up(&mut self, losses: &mut StreamLosses, message: &mut dyn FnMut(&[u8])) {
        while !self.waiting.is_empty() {
            self.skip_gap(losses, message);
        }
        self.framer.end(losses);
    }

    /// Octets from the next one in order to `seq`.
    fn distance(&self, seq: u32) -> i32 {
        seq.wrapping_sub(self.next) as i32
    }

    /// Gives up gaps until `seq` lies at most `ahead`.
    fn reach(
        &mut self,
        seq: u32,
        ahead: i32,
        losses: &mut StreamLosses,
        message: &mut dyn FnMut(&[u8]),
    ) {
        while self.distance(seq) > ahead {
            if self.waiting.is_empty() {
                self.lose(self.distance(seq) as u32, losses);
            } else {
                self.skip_gap(losses, message);
            }
        }
    }

    /// Takes octets that end behind the next one in order: at once where they are next and none
    /// of them is there already, else beside those that wait.
    fn insert(
        &mut self,
        mut arrival: Arrival<'_>,
        losses: &mut StreamLosses,
        message: &mut dyn FnMut(&[u8]),
    ) {
        let overlaps = |first: &Waiting| (first.seq.wrapping_sub(arrival.end()) as i32) < 0;
        if self.distance(arrival.seq) == 0 && !self.waiting.first().is_some_and(overlaps) {
            self.accept(arrival.payload, arrival.missing, losses, message);
            return;
        }
        while arrival.octets() > 0 {
            let from_next = self.distance(arrival.seq);
            let at =
                self.waiting.partition_point(|waiting| self.distance(waiting.end()) <= from_next);
            let len = arrival.octets();
            let hole = self.waiting.get(at).map_or(len, |waiting| {
                (waiting.seq.wrapping_sub(arrival.seq) as i32).clamp(0, len as i32) as u32
            });
            if hole > 0 {
                let Arrival { time, seq, payload, missing, .. } = arrival.take(hole);
                self.waiting.insert(at, Waiting { seq, missing, time, data: payload.into() });
            } else {
                let known = self.waiting[at].end().wrapping_sub(arrival.seq);
                arrival.take(known.min(len));
            }
        }
    }

    /// Hands on what waits and is next.
    fn drain(&mut self, losses: &mut StreamLosses, message: &mut dyn FnMut(&[u8])) {
        while self.waiting.first().is_some_and(|first| first.seq == self.next) {
            let first = self.waiting.remove(0);
            self.accept(&first.data, first.missing, losses, message);
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        if self.fin == Some(self.next) {
            self.give_up(losses, message);
            // Its FIN takes a sequence number.
            self.next = self.next.wrapping_add(1);
            self.closed = true;
        }
    }

    /// Gives up what the first waiting segment waits for.
    fn skip_gap(&mut self, losses: &mut StreamLosses, message: &mut dyn FnMut(&[u8])) {
        if let Some(first) = self.waiting.first() {
            self.lose(self.distance(first.seq) as u32, losses);
            self.drain(losses, message);
        }
    }

    /// Steps over octets that were never captured.
    fn lose(&mut self, octets: u32, losses: &mut StreamLosses) {
        losses.gaps += 1;
        self.framer.lose(octets, losses);
        self.next = self.next.wrapping_add(octets);
    }

    /// Takes the next octets in order.
    fn accept(
        &mut self,
        payload: &[u8],
        missing: u32,
        losses: &mut StreamLosses,
        message: &mut dyn FnMut(&[u8]),
    ) {
        self.framer.feed(payload, losses, message);
        if missing > 0 {
            losses.cut += 1;
            self.framer.lose(missing, losses);
        }
        self.next = self.next.wrapping_add(payload.len() as u32).wrapping_add(missing);
    }
}
