//! Divides ordered bytes into messages.

use super::StreamLosses;
use crate::time::Timestamp;

/// Bytes of the length before each message.
const LENGTH: usize = 2;
/// Bytes of the length and the DNS header.
const HEADER_END: usize = LENGTH + 12;

/// A message, as far as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Captured bytes from the start of the message; at least 12 of a truncated message.
    pub bytes: &'a [u8],
    /// Length of the whole message in bytes.
    pub length: usize,
    /// Latest capture time among the segments that carried it.
    pub time: Timestamp,
}

/// Certainty about where messages start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    /// Framed without a break since the start of the connection: every length is trusted.
    Known,
    /// Found by [`reads_well`]. Every further message must pass it as well.
    Found,
    /// To be found at the start of a segment.
    Sought,
}

/// The verdict on the start of some bytes.
enum Frame {
    /// A whole message of this many bytes after its length.
    Whole(usize),
    /// The start of a message.
    Open,
    /// No message.
    Not,
}

/// Divides one half-stream into messages.
#[derive(Debug)]
pub(super) struct Framer {
    /// Start of an incomplete message, including its length.
    partial: Vec<u8>,
    /// Latest capture time among the segments of `partial`.
    time: Timestamp,
    /// Bytes to skip up to the end of an open or broken message. None of them are kept.
    skip: u32,
    boundary: Boundary,
}

impl Framer {
    /// Creates a framer for a half-stream that is captured from its start.
    pub(super) fn from_start() -> Self {
        Self { partial: Vec::new(), time: Timestamp::MIN, skip: 0, boundary: Boundary::Known }
    }

    /// Creates a framer for a half-stream whose start was not captured. Its first segment is taken to start
    /// with a message if it looks like one.
    pub(super) fn from_middle() -> Self {
        Self { boundary: Boundary::Found, ..Self::from_start() }
    }

    /// Returns the bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Returns true if a message has begun but not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Processes the next bytes, which start a segment with this time.
    pub(super) fn feed(
        &mut self,
        segment: &[u8],
        time: Timestamp,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        let mut rest = segment;
        if self.skip > 0 {
            let skipped = rest.len().min(self.skip as usize);
            rest = &rest[skipped..];
            self.skip_to(self.skip - skipped as u32, time, emit);
        }
        while self.is_open() && !rest.is_empty() {
            let lacking = frame_len(&self.partial).unwrap_or(LENGTH) - self.partial.len();
            let (taken, behind) = rest.split_at(lacking.min(rest.len()));
            self.hold(taken, time);
            rest = behind;
            match self.frame(&self.partial) {
                Frame::Whole(_) => self.hand_over_partial(emit),
                Frame::Open => {}
                Frame::Not => {
                    // The next candidate is the start of this segment.
                    self.seek(losses);
                    rest = segment;
                }
            }
        }
        while !rest.is_empty() {
            match self.frame(rest) {
                Frame::Whole(len) => {
                    self.hand_over(&rest[LENGTH..LENGTH + len], len, time, emit);
                    rest = &rest[LENGTH + len..];
                }
                Frame::Open => {
                    self.hold(rest, time);
                    return;
                }
                Frame::Not => {
                    self.seek(losses);
                    return;
                }
            }
        }
    }

    /// Steps over bytes that were never captured. The messages that contain them are lost.
    pub(super) fn lose(&mut self, bytes: u32, losses: &mut StreamLosses) {
        let lacking = self.lacking();
        self.end(losses);
        self.step_over(bytes, lacking, losses);
    }

    /// Steps over bytes that the capture truncated from a segment with this time. If the header of a
    /// message was captured, the captured bytes are emitted once its end has passed.
    pub(super) fn cut(
        &mut self,
        bytes: u32,
        time: Timestamp,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        losses.cut += 1;
        let lacking = self.lacking();
        if self.partial.len() < HEADER_END || self.boundary == Boundary::Sought {
            self.end(losses);
        } else if bytes >= lacking {
            self.skip_to(0, time, emit);
        } else {
            self.time = self.time.max(time);
        }
        self.step_over(bytes, lacking, losses);
    }

    /// Returns the number of bytes up to the end of the open message.
    fn lacking(&self) -> u32 {
        match self.skip {
            0 => {
                let len = frame_len(&self.partial).unwrap_or(0);
                len.saturating_sub(self.partial.len()) as u32
            }
            skip => skip,
        }
    }

    /// Continues after `bytes` missing bytes. `lacking` is the number up to the end of the open message.
    fn step_over(&mut self, bytes: u32, lacking: u32, losses: &mut StreamLosses) {
        if bytes <= lacking && self.boundary != Boundary::Sought {
            self.skip = lacking - bytes;
        } else {
            self.seek(losses);
        }
    }

    /// Sets the bytes to skip to `skip`. At the end of the open message, its captured bytes are emitted.
    fn skip_to(&mut self, skip: u32, time: Timestamp, emit: &mut dyn FnMut(Message<'_>)) {
        self.skip = skip;
        if self.is_open() {
            self.time = self.time.max(time);
            if skip == 0 {
                self.hand_over_partial(emit);
            }
        }
    }

    /// Drops the open message. It counts as broken, unless message boundaries are still being sought.
    pub(super) fn end(&mut self, losses: &mut StreamLosses) {
        losses.broken += u64::from(self.is_open() && self.boundary != Boundary::Sought);
        self.partial = Vec::new();
    }

    fn seek(&mut self, losses: &mut StreamLosses) {
        losses.desync += u64::from(self.boundary != Boundary::Sought);
        *self = Self { boundary: Boundary::Sought, ..Self::from_start() };
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        if self.boundary != Boundary::Known && !reads_well(bytes) {
            return Frame::Not;
        }
        match frame_len(bytes) {
            Some(len) if len <= bytes.len() => Frame::Whole(len - LENGTH),
            _ => Frame::Open,
        }
    }

    fn hand_over_partial(&mut self, emit: &mut dyn FnMut(Message<'_>)) {
        let partial = std::mem::take(&mut self.partial);
        let time = std::mem::replace(&mut self.time, Timestamp::MIN);
        let length = frame_len(&partial).unwrap_or(LENGTH) - LENGTH;
        self.hand_over(partial.get(LENGTH..).unwrap_or_default(), length, time, emit);
    }

    fn hand_over(
        &mut self,
        bytes: &[u8],
        length: usize,
        time: Timestamp,
        emit: &mut dyn FnMut(Message<'_>),
    ) {
        if self.boundary == Boundary::Sought {
            self.boundary = Boundary::Found;
        }
        if !bytes.is_empty() {
            emit(Message { bytes, length, time });
        }
    }

    /// Keeps bytes of a message that [`Self::frame`] considers open.
    fn hold(&mut self, bytes: &[u8], time: Timestamp) {
        self.time = self.time.max(time);
        let len = self.partial.len() + bytes.len();
        if len > self.partial.capacity() {
            // The capacity doubles as usual, but not beyond the end of the message.
            let end = frame_len(&self.partial).or(frame_len(bytes)).unwrap_or(LENGTH);
            self.partial.reserve_exact((2 * len).min(end).max(len) - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
        if len >= HEADER_END && self.boundary == Boundary::Sought {
            self.boundary = Boundary::Found;
        }
    }
}

/// Returns the length of the frame at the start of `bytes`, including its length field.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH>()?;
    Some(LENGTH + usize::from(u16::from_be_bytes(*length)))
}

/// Returns true if `frame`, which may be truncated, looks like a length and a DNS message as seen in
/// practice: a known opcode, no reserved bit (RFC 6895), at most one question (RFC 9619), in a query
/// exactly one and no answers, records that fit, and a first name that is not compressed.
fn reads_well(frame: &[u8]) -> bool {
    let Some(len) = frame_len(frame) else {
        return true;
    };
    if len < HEADER_END {
        return false;
    }
    let Some(header) = frame.first_chunk::<HEADER_END>() else {
        return true;
    };
    let [_, _, _, _, high, low, counts @ ..] = header;
    let [questions, answers, authority, additional] =
        [0, 2, 4, 6].map(|at| usize::from(u16::from_be_bytes([counts[at], counts[at + 1]])));
    let records = answers + authority + additional;
    let query = high & 0x80 == 0;
    let counts_fit = match high >> 3 & 0x0f {
        // Query: IXFR has one record of authority; EDNS, TSIG and SIG(0) are additional.
        0 if query => questions == 1 && answers == 0 && authority <= 1 && additional <= 3,
        // Query, status, notify, update.
        0 | 2 | 4 | 5 => questions <= 1,
        // DSO (RFC 8490).
        6 => questions + records == 0,
        _ => false,
    };
    let reserved = low & 0x40 != 0 || query && low & 0x0f != 0;
    // A question takes at least 5 bytes, a record 11.
    counts_fit
        && !reserved
        && HEADER_END + 5 * questions + 11 * records <= len
        && (questions + records == 0 || entry_reads_well(&frame[HEADER_END..], len - HEADER_END))
}

/// Returns true if `bytes`, which may be truncated, start with a name of plain labels (RFC 1035 section
/// 3.1), a type and a class in use, within `room` bytes.
fn entry_reads_well(bytes: &[u8], room: usize) -> bool {
    let mut at = 0;
    while at + 5 <= room {
        match bytes.get(at) {
            None => return true,
            Some(0) => {
                let Some([high, low, class @ ..]) = bytes[at + 1..].first_chunk::<4>() else {
                    return true;
                };
                // IN, CH, HS, NONE and ANY. For OPT, the field is the UDP size. mDNS uses the first bit.
                return match u16::from_be_bytes([*high, *low]) {
                    0 => false,
                    41 => true,
                    _ => matches!(u16::from_be_bytes(*class) & 0x7fff, 1 | 3 | 4 | 254 | 255),
                };
            }
            Some(label @ 1..=63) if at < 255 => at += 1 + usize::from(*label),
            Some(_) => return false,
        }
    }
    false
}
