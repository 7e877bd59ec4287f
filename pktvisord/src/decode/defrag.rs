//! IP reassembly: turns fragments into datagrams.
//!
//! The table collects fragments of UDP and TCP over IPv4 (RFC 791) and IPv6 (RFC 8200 section 4.5) in any
//! order, each datagram in an `IpDefragBuf` of `etherparse`. It is bounded in datagrams, bytes and age, and
//! evicts the oldest datagram first.
//!
//! * **First fragments.** A first fragment whose others do not arrive is emitted by itself after a short
//!   time, so that its message can match its query. Later fragments of the datagram are ignored.
//! * **Partial datagrams.** When a datagram is given up, the contiguous bytes at its start are emitted, so
//!   that the header of its message counts. Without its first fragment nothing is emitted.
//! * **Overlaps.** A fragment that repeats bytes exactly is ignored. Any other overlap, or a
//!   contradiction about the end, discards the datagram and its later fragments, as RFC 5722 demands for
//!   IPv6 and as Linux does for IPv4 too.
//! * **Gaps.** A datagram with more parts than common fragment sizes can cause is given up at once.
//! * **Repeats.** A complete datagram is remembered for the maximum age. Later fragments of it start it
//!   anew, and it counts again if all of them arrive, as an unfragmented one would. Single duplicate
//!   fragments count neither as a message nor as a loss.
//! * **Snap length.** A datagram is given up at once if the capture truncated one of its fragments.

mod fragment;
mod open;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use pktvisor_common::packet::PacketMeta;

use self::fragment::{Fragment, Key};
use self::open::{First, Open, Start, Step};

use crate::time::{Span, Timestamp};

/// Bounds of a [`Defrag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefragLimits {
    /// Maximum datagrams in the table, including those that are only remembered; at least 1.
    pub entries: usize,
    /// Maximum bytes of memory held for fragments.
    pub bytes: usize,
    /// Maximum nanoseconds that the fragments of a datagram may take.
    pub age: Span,
    /// Nanoseconds that a first fragment waits for the others before it is emitted by itself.
    pub first: Span,
}

impl Default for DefragLimits {
    /// 4096 datagrams, 4 MiB, 30 s, and 1 s for a first fragment.
    fn default() -> Self {
        Self {
            entries: 4096,
            bytes: 4 << 20,
            age: Span::from_seconds(30),
            first: Span::from_seconds(1),
        }
    }
}

/// A datagram, or the start of one that was given up.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The walk over its transport header. Offsets count from the start of `payload`. The payload length
    /// is based on the known length of the datagram.
    pub meta: PacketMeta,
    /// The IP payload, transport header included.
    pub payload: &'a [u8],
    /// Capture time of its first fragment in nanoseconds since the Unix epoch.
    pub time: Timestamp,
    /// True if it is complete.
    pub whole: bool,
}

/// Datagrams that were not reassembled, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragLosses {
    /// Not all fragments arrived in time or before the end of the capture.
    pub incomplete: u64,
    /// Evicted to stay within the limits.
    pub evicted: u64,
    /// Fragments overlapped or contradicted each other.
    pub invalid: u64,
    /// The capture truncated a fragment.
    pub cut: u64,
}

/// The table of datagrams in reassembly. See the [module](self).
#[derive(Debug)]
pub struct Defrag {
    limits: DefragLimits,
    entries: BTreeMap<Key, Entry>,
    /// Keys by [`Entry::serial`], oldest first.
    order: BTreeMap<u64, Key>,
    /// First fragments in order of arrival: the end of the wait, and the serial number and key of the
    /// datagram.
    firsts: VecDeque<(Timestamp, u64, Key)>,
    next_serial: u64,
    bytes: usize,
    losses: DefragLosses,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    /// Time of the fragment that arrived first; of a complete datagram, of the one that completed it.
    since: Timestamp,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Fragments are missing.
    Open(Open),
    /// All fragments arrived.
    Complete,
    /// Given up: later fragments are ignored.
    Discarded,
    /// Given up, but the first fragment has not arrived yet.
    Headless,
}

impl Defrag {
    /// Creates an empty table.
    pub fn new(limits: DefragLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            firsts: VecDeque::new(),
            next_serial: 0,
            bytes: 0,
            losses: DefragLosses::default(),
        }
    }

    /// Processes a fragment: the captured bytes of a whole packet, its walk, whose
    /// [`PacketMeta::fragment`] says that it is a fragment, and its capture time in nanoseconds since the
    /// Unix epoch.
    pub fn fragment(
        &mut self,
        meta: &PacketMeta,
        packet: &[u8],
        time: Timestamp,
        emit: &mut dyn FnMut(Datagram<'_>),
    ) {
        let Some(fragment) = Fragment::read(meta, packet) else {
            return;
        };
        let key = fragment.key;
        if self.entries.get(&key).is_some_and(|entry| self.is_old(entry, time)) {
            self.losses.incomplete += self.forget(&key, emit);
        }
        let first = First { time, next_header: fragment.next_header };
        let repeat = match self.entries.get_mut(&key) {
            Some(Entry { state: State::Discarded, .. }) => return,
            Some(Entry { state: state @ State::Headless, .. }) => {
                if fragment.offset == 0 {
                    *state = State::Discarded;
                    Start::of(&fragment).emit(&key, first, emit);
                }
                return;
            }
            Some(Entry { state: State::Open(_), .. }) => None,
            Some(Entry { state: State::Complete, .. }) => Some(true),
            None => Some(false),
        };
        if let Some(repeat) = repeat {
            self.open(key, time, repeat, emit);
        }
        if fragment.missing > 0 {
            self.cut(&fragment, first, emit);
        } else {
            self.add(&fragment, first, emit);
        }
        while self.bytes > self.limits.bytes {
            self.evict_oldest(emit);
        }
    }

    /// Returns true if [`Self::advance`] must be called before a packet of this time, so that first
    /// fragments are emitted in time.
    #[inline]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.firsts.front().is_some_and(|(until, ..)| *until < now)
    }

    /// Emits the first fragments that have waited for longer than [`DefragLimits::first`] at `now`, and
    /// gives up the datagrams older than [`DefragLimits::age`].
    pub fn advance(&mut self, now: Timestamp, emit: &mut dyn FnMut(Datagram<'_>)) {
        while self.is_due(now) {
            self.hand_over_first(emit);
        }
        while let Some(key) = self.oldest() {
            if !self.entries.get(&key).is_some_and(|entry| self.is_old(entry, now)) {
                return;
            }
            self.losses.incomplete += self.forget(&key, emit);
        }
    }

    /// Gives up all datagrams, as at the end of a capture.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Datagram<'_>)) {
        while let Some(key) = self.oldest() {
            self.losses.incomplete += self.forget(&key, emit);
        }
    }

    /// Returns the losses since the last call.
    pub fn take_losses(&mut self) -> DefragLosses {
        std::mem::take(&mut self.losses)
    }

    /// Returns the number of datagrams in the table, including those that are only remembered.
    pub fn datagrams(&self) -> usize {
        self.entries.len()
    }

    /// Returns the bytes of memory held for fragments.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Emits the first fragment that has waited for longest, if its datagram is still incomplete.
    fn hand_over_first(&mut self, emit: &mut dyn FnMut(Datagram<'_>)) {
        let Some((_, serial, key)) = self.firsts.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.serial == serial) else {
            return;
        };
        let held = entry.held();
        if let State::Open(open) = &entry.state
            && !open.repeat
        {
            open.emit(&key, emit);
            self.losses.incomplete += 1;
            entry.state = State::Discarded;
            self.bytes -= held;
        }
    }

    fn is_old(&self, entry: &Entry, now: Timestamp) -> bool {
        now - entry.since > self.limits.age
    }

    fn oldest(&self) -> Option<Key> {
        self.order.first_key_value().map(|(_, key)| *key)
    }

    /// Starts a datagram, or restarts a complete one.
    fn open(
        &mut self,
        key: Key,
        time: Timestamp,
        repeat: bool,
        emit: &mut dyn FnMut(Datagram<'_>),
    ) {
        self.settle(key, time, State::Open(Open::new(repeat)));
        while self.entries.len() > self.limits.entries.max(1) {
            self.evict_oldest(emit);
        }
    }

    /// Stores a datagram with this state as the newest one.
    fn settle(&mut self, key: Key, since: Timestamp, state: State) {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.order.insert(serial, key);
        if let Some(old) = self.entries.insert(key, Entry { serial, since, state }) {
            self.order.remove(&old.serial);
            self.bytes -= old.held();
        }
    }

    /// Gives up a datagram because the capture truncated `fragment`.
    fn cut(&mut self, fragment: &Fragment<'_>, first: First, emit: &mut dyn FnMut(Datagram<'_>)) {
        let Some(entry) = self.entries.get_mut(&fragment.key) else { return };
        self.bytes -= entry.held();
        let State::Open(open) = std::mem::replace(&mut entry.state, State::Discarded) else {
            return;
        };
        if open.repeat {
            return;
        }
        self.losses.cut += 1;
        if fragment.offset == 0 {
            Start::of(fragment).emit(&fragment.key, first, emit);
        } else if !open.emit(&fragment.key, emit) {
            entry.state = State::Headless;
        }
    }

    /// Adds an untruncated fragment to its datagram.
    fn add(&mut self, fragment: &Fragment<'_>, first: First, emit: &mut dyn FnMut(Datagram<'_>)) {
        let Some(entry) = self.entries.get_mut(&fragment.key) else { return };
        self.bytes -= entry.held();
        let State::Open(open) = &mut entry.state else { return };
        match open.add(fragment, first) {
            Step::Waits => {
                self.bytes += entry.held();
                if fragment.offset == 0 {
                    let until = first.time + self.limits.first;
                    self.firsts.push_back((until, entry.serial, fragment.key));
                    if self.firsts.len() > self.limits.entries.max(1) {
                        self.hand_over_first(emit);
                    }
                }
            }
            Step::Completes => {
                open.emit(&fragment.key, emit);
                entry.state = State::Complete;
                self.settle(fragment.key, first.time, State::Complete);
            }
            Step::Contradicts => {
                entry.state = State::Discarded;
                self.losses.invalid += 1;
            }
            Step::Scatters => {
                let is_known = open.repeat || open.emit(&fragment.key, emit);
                self.losses.evicted += u64::from(!open.repeat);
                entry.state = if is_known { State::Discarded } else { State::Headless };
            }
        }
    }

    fn evict_oldest(&mut self, emit: &mut dyn FnMut(Datagram<'_>)) {
        if let Some(key) = self.oldest() {
            self.losses.evicted += self.forget(&key, emit);
        }
    }

    /// Removes a datagram and emits its start, if it has one. Returns the number of datagrams lost by that:
    /// 1 or 0.
    fn forget(&mut self, key: &Key, emit: &mut dyn FnMut(Datagram<'_>)) -> u64 {
        let Some(entry) = self.entries.remove(key) else { return 0 };
        self.order.remove(&entry.serial);
        self.bytes -= entry.held();
        match entry.state {
            State::Open(open) if !open.repeat => {
                open.emit(key, emit);
                1
            }
            _ => 0,
        }
    }
}

impl Entry {
    /// Returns the bytes of memory held.
    fn held(&self) -> usize {
        match &self.state {
            State::Open(open) => open.held(),
            State::Complete | State::Discarded | State::Headless => 0,
        }
    }
}
