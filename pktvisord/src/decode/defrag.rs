//! IP reassembly: from fragments to datagrams.
//!
//! Fragments of UDP and TCP over IPv4 (RFC 791) and IPv6 (RFC 8200 section 4.5) are collected in
//! any order, each datagram in an `IpDefragBuf` of `etherparse`, all in one table that is
//! bounded in datagrams, bytes and age. The oldest datagram makes room.
//!
//! * **First fragments.** A first fragment whose others do not come is handed over by itself after a
//!   short time, so that the message in it meets its query. What comes of the datagram later is
//!   ignored.
//! * **Given up.** Of a datagram that is given up, what stands together at its start is handed
//!   over all the same, so that the header of the message in it counts; nothing is if its first
//!   fragment did not come.
//! * **Overlaps.** A fragment that repeats bytes exactly is ignored. Any other overlap, or a
//!   contradiction about the end, discards the datagram and what comes of it later, as RFC 5722
//!   demands for IPv6 and Linux does for IPv4 too.
//! * **Gaps.** A datagram in more parts than fragments of common sizes leave is given up at once.
//! * **Repeats.** A datagram that came whole is remembered for as long as it may age. Fragments of
//!   it that come after that start it anew, and it counts again if all of them come, as it
//!   would had it not been fragmented; single ones that were duplicated do not count, neither as
//!   a message nor as a loss.
//! * **Snap length.** A fragment that the capture cut short cannot be completed: its datagram is
//!   given up at once.

mod fragment;
mod open;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use pktvisor_common::packet::PacketMeta;

use self::fragment::{Fragment, Key};
use self::open::{First, Open, Start, Step};

/// How much a [`Defrag`] may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefragLimits {
    /// Datagrams kept, those included that are remembered only; at least 1.
    pub entries: usize,
    /// Bytes of memory held for fragments.
    pub bytes: usize,
    /// Nanoseconds that a datagram's fragments may take.
    pub age: i64,
    /// Nanoseconds that a first fragment waits for the others before it is handed over by itself.
    pub first: i64,
}

impl Default for DefragLimits {
    /// 4096 datagrams, 4 MiB, 30 s, and 1 s for a first fragment.
    fn default() -> Self {
        Self { entries: 4096, bytes: 4 << 20, age: 30_000_000_000, first: 1_000_000_000 }
    }
}

/// A datagram, or the start of one that was given up.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The walk over its transport header. Offsets count from the start of `payload`; the
    /// payload's length is of what is known of the datagram.
    pub meta: PacketMeta,
    /// The IP payload, transport header included.
    pub payload: &'a [u8],
    /// Time of capture of its first fragment in nanoseconds of unix time.
    pub time: i64,
    /// Whether it is complete.
    pub whole: bool,
}

/// Datagrams that were not reassembled, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefragLosses {
    /// Not all fragments came in time, or before the end of the capture.
    pub incomplete: u64,
    /// Given up to keep within the limits.
    pub evicted: u64,
    /// Fragments overlapped or contradicted each other.
    pub invalid: u64,
    /// The capture cut a fragment short.
    pub cut: u64,
}

/// The datagrams that are being reassembled. See the [module](self).
#[derive(Debug)]
pub struct Defrag {
    limits: DefragLimits,
    entries: BTreeMap<Key, Entry>,
    /// The keys by [`Entry::serial`]: the oldest first.
    order: BTreeMap<u64, Key>,
    /// First fragments in the order in which they came: until when each waits, and its datagram.
    firsts: VecDeque<(i64, u64, Key)>,
    next_serial: u64,
    bytes: usize,
    losses: DefragLosses,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    /// Time of its first event: of the fragment that came first, or completed it.
    since: i64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Fragments are missing.
    Open(Open),
    /// All came.
    Complete,
    /// Given up: whatever comes is ignored.
    Discarded,
    /// Given up, but the first fragment did not come yet.
    Headless,
}

impl Defrag {
    /// An empty table.
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

    /// Takes a fragment: the captured bytes of a whole packet, its walk, of which
    /// [`PacketMeta::fragment`] says that it is one, and its time of capture in nanoseconds of unix
    /// time.
    pub fn fragment(
        &mut self,
        meta: &PacketMeta,
        packet: &[u8],
        time: i64,
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

    /// Whether [`Self::advance`] has to be called before a packet of this time is taken in, so that
    /// first fragments are handed over in time.
    #[inline]
    pub fn is_due(&self, now: i64) -> bool {
        self.firsts.front().is_some_and(|(until, ..)| *until < now)
    }

    /// Hands over first fragments that have waited for longer than [`DefragLimits::first`] at `now`,
    /// and gives up the datagrams whose fragments take longer than [`DefragLimits::age`].
    pub fn advance(&mut self, now: i64, emit: &mut dyn FnMut(Datagram<'_>)) {
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

    /// What was lost since this was asked last.
    pub fn take_losses(&mut self) -> DefragLosses {
        std::mem::take(&mut self.losses)
    }

    /// Datagrams in the table, those included that are remembered only.
    pub fn datagrams(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of memory held for fragments.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands over the first fragment that came first, if others of its datagram are missing still.
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

    fn is_old(&self, entry: &Entry, now: i64) -> bool {
        now.saturating_sub(entry.since) > self.limits.age
    }

    fn oldest(&self) -> Option<Key> {
        self.order.first_key_value().map(|(_, key)| *key)
    }

    /// Starts a datagram, anew if it was there and complete.
    fn open(&mut self, key: Key, time: i64, repeat: bool, emit: &mut dyn FnMut(Datagram<'_>)) {
        self.settle(key, time, State::Open(Open::new(repeat)));
        while self.entries.len() > self.limits.entries.max(1) {
            self.evict_oldest(emit);
        }
    }

    /// Enters a state as the newest datagram.
    fn settle(&mut self, key: Key, since: i64, state: State) {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.order.insert(serial, key);
        if let Some(old) = self.entries.insert(key, Entry { serial, since, state }) {
            self.order.remove(&old.serial);
            self.bytes -= old.held();
        }
    }

    /// Gives up a datagram of which the capture cut `fragment` short.
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

    /// Adds a fragment that is all there to its datagram.
    fn add(&mut self, fragment: &Fragment<'_>, first: First, emit: &mut dyn FnMut(Datagram<'_>)) {
        let Some(entry) = self.entries.get_mut(&fragment.key) else { return };
        self.bytes -= entry.held();
        let State::Open(open) = &mut entry.state else { return };
        match open.add(fragment, first) {
            Step::Waits => {
                self.bytes += entry.held();
                if fragment.offset == 0 {
                    let until = first.time.saturating_add(self.limits.first);
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

    /// Takes a datagram out, hands over what there is of it, and says how many were lost by that:
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
    /// Bytes of memory held.
    fn held(&self) -> usize {
        match &self.state {
            State::Open(open) => open.held(),
            State::Complete | State::Discarded | State::Headless => 0,
        }
    }
}
