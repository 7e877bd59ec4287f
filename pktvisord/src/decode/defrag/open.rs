//! A datagram with missing fragments.

use etherparse::defrag::{IpDefragBuf, IpFragRange};
use etherparse::{IpFragOffset, IpNumber};
use pktvisor_common::packet::{self, IpVersion, PacketMeta};

use super::Datagram;
use super::fragment::{Fragment, Key, skip_extensions};
use crate::time::Timestamp;

/// Maximum contiguous parts of a datagram. All are searched for each fragment. The largest datagram has
/// 119 fragments of 576-byte packets, the size that every link supports (RFC 791), so it has at most 60
/// parts if every other fragment is late.
const MAX_PARTS: usize = 128;

/// The fragments that have arrived.
#[derive(Debug)]
pub(super) struct Open {
    buf: IpDefragBuf,
    first: Option<First>,
    /// True if a datagram with the same key was completed recently.
    pub repeat: bool,
}

/// Data that only the first fragment has.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// Capture time.
    pub time: Timestamp,
    /// Protocol of the datagram's first header.
    pub next_header: u8,
}

/// The effect of a fragment on its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Other fragments are missing.
    Waits,
    /// It was the last missing one.
    Completes,
    /// It contradicts the others.
    Contradicts,
    /// It would leave more than [`MAX_PARTS`] parts.
    Scatters,
}

/// The contiguous bytes at the start of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    payload: &'a [u8],
    /// Known length of the datagram in bytes.
    known: usize,
    whole: bool,
}

impl Open {
    /// Creates a datagram without fragments.
    pub(super) fn new(repeat: bool) -> Self {
        // The buffer stores the protocol only for callers that ask for it.
        let buf = IpDefragBuf::new(IpNumber(0), Vec::new(), Vec::new());
        Self { buf, first: None, repeat }
    }

    /// Returns the bytes of memory held.
    pub(super) fn held(&self) -> usize {
        let ranges = self.buf.sections().capacity();
        self.buf.data().capacity() + ranges * size_of::<IpFragRange>()
    }

    /// Adds an untruncated fragment. `first` applies if it is the first one.
    pub(super) fn add(&mut self, fragment: &Fragment<'_>, first: First) -> Step {
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
        // The last fragment must end after all others. The buffer checks the rest.
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

    /// Emits the contiguous bytes at the start. Returns false if there are none because the first fragment
    /// has not arrived.
    pub(super) fn emit(&self, key: &Key, emit: &mut dyn FnMut(Datagram<'_>)) -> bool {
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
    /// Returns the start of a datagram from a truncated first fragment.
    pub(super) fn of(fragment: &Fragment<'a>) -> Self {
        Self { payload: fragment.data, known: fragment.end(), whole: false }
    }

    /// Walks the transport header and emits the datagram.
    pub(super) fn emit(self, key: &Key, first: First, emit: &mut dyn FnMut(Datagram<'_>)) {
        let Self { payload, known, whole } = self;
        let version = if key.ipv6 { IpVersion::V6 } else { IpVersion::V4 };
        let mut meta = PacketMeta { src: key.src, dst: key.dst, version, ..PacketMeta::default() };
        match skip_extensions(payload, 0, first.next_header, version) {
            Some((protocol, offset)) if offset <= known => {
                meta.protocol = protocol;
                if !whole {
                    // Its length fields reach beyond the bytes held.
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
