//! One datagram of which fragments are missing.

use etherparse::defrag::{IpDefragBuf, IpFragRange};
use etherparse::{IpFragOffset, IpNumber};
use pktvisor_common::packet::{self, IpVersion, PacketMeta};

use super::Datagram;
use super::fragment::{Fragment, Key, skip_extensions};

/// Parts without a gap that are kept of a datagram: all are looked at for each fragment. The largest
/// datagram has 119 fragments that fill packets of 576 bytes, which every link takes (RFC 791), so
/// at most 60 parts where every other one is late.
const MAX_PARTS: usize = 128;

/// The fragments that came.
#[derive(Debug)]
pub struct Open {
    buf: IpDefragBuf,
    first: Option<First>,
    /// Whether a datagram of the same key was complete a short time ago.
    pub repeat: bool,
}

/// What only the first fragment knows.
#[derive(Clone, Copy, Debug)]
pub struct First {
    /// Its time of capture.
    pub time: i64,
    /// Protocol of what the datagram starts with.
    pub next_header: u8,
}

/// What a fragment did to its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Others are missing.
    Waits,
    /// It was the last one missing.
    Completes,
    /// It does not fit with the others.
    Contradicts,
    /// It would leave more gaps than are kept, see [`MAX_PARTS`].
    Scatters,
}

/// What stands together at the start of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    payload: &'a [u8],
    /// Bytes that the datagram is known to have.
    known: usize,
    whole: bool,
}

impl Open {
    /// A datagram of which no fragment came yet.
    pub fn new(repeat: bool) -> Self {
        // The buffer only keeps the protocol for whoever asks it.
        let buf = IpDefragBuf::new(IpNumber(0), Vec::new(), Vec::new());
        Self { buf, first: None, repeat }
    }

    /// Bytes of memory held.
    pub fn held(&self) -> usize {
        let ranges = self.buf.sections().capacity();
        self.buf.data().capacity() + ranges * size_of::<IpFragRange>()
    }

    /// Adds a fragment of which nothing was cut off. `first` counts if it is the first.
    pub fn add(&mut self, fragment: &Fragment<'_>, first: First) -> Step {
        let (start, end) = (usize::from(fragment.offset), fragment.end());
        let place = |at: u16| usize::from(at);
        let overlapping = |start: usize, end: usize| {
            self.buf.sections().iter().find(|it| place(it.start) < end && start < place(it.end))
        };
        if let Some(known) = overlapping(start, end) {
            let repeats = place(known.start) <= start
                && end <= place(known.end)
                && self.buf.data()[start..end] == *fragment.data
                && (fragment.more || self.buf.end().map(place) == Some(end));
            return if repeats { Step::Waits } else { Step::Contradicts };
        }
        if self.buf.sections().len() >= MAX_PARTS {
            return Step::Scatters;
        }
        // The last fragment has to end behind all others; the buffer checks the rest.
        let ends_early = !fragment.more && overlapping(end, usize::MAX).is_some();
        let Ok(offset) = IpFragOffset::try_new(fragment.offset / 8) else {
            return Step::Contradicts;
        };
        if ends_early || self.buf.add(offset, fragment.more, fragment.data).is_err() {
            return Step::Contradicts;
        }
        if fragment.offset == 0 {
            self.first = Some(first);
        }
        if self.buf.is_complete() { Step::Completes } else { Step::Waits }
    }

    /// Hands over what stands together at the start, and says whether the first fragment, without
    /// which there is nothing to hand over, came.
    pub fn emit(&self, key: &Key, emit: &mut dyn FnMut(Datagram<'_>)) -> bool {
        let start = self.buf.sections().iter().find(|section| section.start == 0);
        let (Some(first), Some(start)) = (self.first, start) else {
            return false;
        };
        let payload = &self.buf.data()[..usize::from(start.end)];
        let known = self.buf.end().map_or(payload.len(), usize::from);
        Start { payload, known, whole: self.buf.is_complete() }.emit(key, first, emit);
        true
    }
}

impl<'a> Start<'a> {
    /// A first fragment that was cut.
    pub fn of(fragment: &Fragment<'a>) -> Self {
        Self { payload: fragment.data, known: fragment.end(), whole: false }
    }

    /// Walks its transport header and hands it over.
    pub fn emit(self, key: &Key, first: First, emit: &mut dyn FnMut(Datagram<'_>)) {
        let Self { payload, known, whole } = self;
        let version = if key.ipv6 { IpVersion::V6 } else { IpVersion::V4 };
        let mut meta = PacketMeta { src: key.src, dst: key.dst, version, ..PacketMeta::default() };
        match skip_extensions(payload, 0, first.next_header, version) {
            Some((protocol, offset)) if offset <= known => {
                meta.protocol = protocol;
                if !whole {
                    // Its length fields reach behind what there is.
                    meta.fragment = packet::Fragment::First;
                }
                meta = packet::walk_transport(payload, meta, offset, known);
                meta.fragment = packet::Fragment::None;
            }
            _ => meta.malformed = true,
        }
        emit(Datagram { meta, payload, time: first.time, whole });
    }
}
