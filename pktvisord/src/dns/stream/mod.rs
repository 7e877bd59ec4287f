//! DNS over TCP: from segments, as they were captured, to messages.
//!
//! Over TCP each message follows two octets that hold its length (RFC 1035 section 4.2.2, RFC 7766
//! section 8), however the segments fall. [`StreamTable`] keeps one half-stream for each
//! direction of a connection and puts its octets back in order: segments that come twice, out of
//! order or overlapping (the octets captured first win), sequence numbers that wrap. What the
//! capture missed is stepped over where the length of the broken message tells where the next
//! one starts; else, and where the capture starts inside a connection, the next segment whose
//! start reads like a message does.
//!
//! The table has no clock: time comes with the segments. It is bounded in streams, in octets held
//! and in age, and what it forgets or cannot read is counted by reason in [`StreamLosses`].

mod framing;
mod half;
mod slots;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use pktvisor_common::packet::{IpVersion, PacketMeta, TCP_RST, TCP_SYN};

use self::half::{Arrival, HalfStream};
use self::slots::Slots;

/// How much a [`StreamTable`] may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Half-streams kept; the one that was silent for longest makes room for a new one. At least
    /// 1 is kept.
    pub streams: usize,
    /// Octets of memory held over all streams for unfinished messages and for segments that wait
    /// for earlier ones; the holder that was silent for longest is forgotten first.
    pub bytes: usize,
    /// Nanoseconds after which a silent stream is forgotten.
    pub idle: i64,
    /// Nanoseconds that a segment waits for earlier ones before they are given up.
    pub gap: i64,
    /// Octets that a segment may lie ahead before what it waits for is given up; at most 2^30.
    pub ahead: u32,
}

impl Default for StreamLimits {
    /// 16384 streams, 8 MiB, 60 s idle, 2 s for a gap, 256 KiB ahead.
    fn default() -> Self {
        Self {
            streams: 16_384,
            bytes: 8 << 20,
            idle: 60_000_000_000,
            gap: 2_000_000_000,
            ahead: 256 << 10,
        }
    }
}

/// One direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// Source address as in [`PacketMeta::src`].
    pub src: [u8; 16],
    /// Destination address as in [`PacketMeta::dst`].
    pub dst: [u8; 16],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Whether the addresses are IPv6.
    pub ipv6: bool,
}

impl StreamKey {
    /// The key of a TCP packet.
    pub fn of(meta: &PacketMeta) -> Self {
        Self {
            src: meta.src,
            dst: meta.dst,
            src_port: meta.src_port,
            dst_port: meta.dst_port,
            ipv6: meta.version == IpVersion::V6,
        }
    }

    /// The key's octets, for hashing.
    fn octets(&self) -> [u8; 37] {
        let mut octets = [0; 37];
        octets[..16].copy_from_slice(&self.src);
        octets[16..32].copy_from_slice(&self.dst);
        octets[32..34].copy_from_slice(&self.src_port.to_be_bytes());
        octets[34..36].copy_from_slice(&self.dst_port.to_be_bytes());
        octets[36] = u8::from(self.ipv6);
        octets
    }
}

/// One TCP segment as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The half-stream it belongs to.
    pub key: StreamKey,
    /// Time of capture in nanoseconds of unix time.
    pub time: i64,
    /// Sequence number (RFC 9293) of the segment's first octet, or of its SYN.
    pub seq: u32,
    /// Flags as in [`PacketMeta::tcp_flags`].
    pub flags: u8,
    /// The octets of payload that were captured.
    pub payload: &'a [u8],
    /// Octets that followed `payload` on the wire and were cut off by the capture.
    pub missing: u32,
}

impl<'a> Segment<'a> {
    /// The segment that `packet` holds, of which `meta` is the walk.
    pub fn of(meta: &PacketMeta, packet: &'a [u8], time: i64) -> Self {
        let captured = packet.get(usize::from(meta.payload_offset)..).unwrap_or_default();
        let payload = &captured[..captured.len().min(meta.payload_len as usize)];
        Self {
            key: StreamKey::of(meta),
            time,
            seq: meta.tcp_seq,
            flags: meta.tcp_flags,
            payload,
            missing: meta.payload_len - payload.len() as u32,
        }
    }
}

/// What was lost on the way from segments to messages, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLosses {
    /// Streams forgotten because there were more than [`StreamLimits::streams`].
    pub evicted_streams: u64,
    /// Streams forgotten because all together held more than [`StreamLimits::bytes`].
    pub evicted_bytes: u64,
    /// Streams that fell silent inside a message or waiting for a segment.
    pub idle: u64,
    /// Runs of octets that were never captured and were given up.
    pub gaps: u64,
    /// Runs of octets that the capture's snap length cut off.
    pub cut: u64,
    /// Messages that began but never ended: by a gap, a cut, or the end of their connection.
    pub broken: u64,
    /// Times that it was no longer known where messages start.
    pub desync: u64,
}

/// The half-streams of all connections. See the [module](self).
#[derive(Debug)]
pub struct StreamTable {
    limits: StreamLimits,
    slots: Slots,
    losses: StreamLosses,
}

impl StreamTable {
    /// An empty table.
    pub fn new(limits: StreamLimits) -> Self {
        let limits = StreamLimits {
            streams: limits.streams.clamp(1, slots::MAX),
            ahead: limits.ahead.min(1 << 30),
            ..limits
        };
        Self { limits, slots: Slots::default(), losses: StreamLosses::default() }
    }

    /// Takes a segment and hands each message that it completes, in order and without its length,
    /// to `message`.
    ///
    /// A message of less than 12 octets is handed over too, one of 0 octets is not. A segment
    /// that holds whole messages and comes in order is read in place.
    pub fn segment(&mut self, segment: &Segment<'_>, mut message: impl FnMut(&[u8])) {
        let arrival = Arrival::of(segment);
        let index = match self.slots.find(&segment.key) {
            Some(index) => index,
            None if segment.flags & TCP_RST != 0 || arrival.is_bare() => return,
            None => {
                while self.slots.len() >= self.limits.streams {
                    self.evict_oldest();
                }
                self.slots.insert(segment.key, segment.time, HalfStream::starting(&arrival))
            }
        };
        let slot = self.slots.touch(index);
        if segment.time.saturating_sub(slot.last) > self.limits.idle {
            self.losses.idle += u64::from(slot.half.is_unfinished());
            slot.half.give_up(&mut self.losses, &mut message);
            slot.half = HalfStream::starting(&arrival);
        }
        slot.last = slot.last.max(segment.time);
        slot.half.arrive(arrival, &self.limits, &mut self.losses, &mut message);
        self.slots.account(index);
        while self.slots.bytes() > self.limits.bytes {
            let Some(holder) = self.slots.oldest_holder() else { break };
            self.slots.remove(holder);
            self.losses.evicted_bytes += 1;
        }
    }

    /// Forgets the streams that were silent for longer than [`StreamLimits::idle`] at `now`.
    ///
    /// Whole messages behind a gap that nothing filled are handed to `message` first, with their
    /// stream and the time of its latest segment.
    pub fn advance(&mut self, now: i64, mut message: impl FnMut(&StreamKey, i64, &[u8])) {
        while let Some(index) = self.slots.oldest() {
            if now.saturating_sub(self.slots.get(index).last) <= self.limits.idle {
                break;
            }
            self.forget_silent(index, &mut message);
        }
    }

    /// Forgets all streams, as at the end of a capture; `message` as for [`Self::advance`].
    pub fn finish(&mut self, mut message: impl FnMut(&StreamKey, i64, &[u8])) {
        while let Some(index) = self.slots.oldest() {
            self.forget_silent(index, &mut message);
        }
    }

    /// What was lost since this was asked last.
    pub fn take_losses(&mut self) -> StreamLosses {
        std::mem::take(&mut self.losses)
    }

    /// Half-streams in the table.
    pub fn streams(&self) -> usize {
        self.slots.len()
    }

    /// Octets of memory held for unfinished messages and waiting segments.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    fn evict_oldest(&mut self) {
        if let Some(oldest) = self.slots.oldest() {
            self.slots.remove(oldest);
            self.losses.evicted_streams += 1;
        }
    }

    fn forget_silent(
        &mut self,
        index: slots::Index,
        message: &mut impl FnMut(&StreamKey, i64, &[u8]),
    ) {
        let mut slot = self.slots.remove(index);
        self.losses.idle += u64::from(slot.half.is_unfinished());
        slot.half.give_up(&mut self.losses, &mut |bytes| message(&slot.key, slot.last, bytes));
    }
}

/// Whether a segment opens its half-stream.
fn is_syn(flags: u8) -> bool {
    flags & TCP_SYN != 0
}
