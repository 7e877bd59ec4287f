//! DNS over TCP: from segments, as they were captured, to messages.
//!
//! Over TCP each message follows two bytes that hold its length (RFC 1035 section 4.2.2, RFC 7766
//! section 8), however the segments fall. [`StreamTable`] keeps one half-stream for each
//! direction of a connection and puts its bytes back in order: segments that come twice, out of
//! order or overlapping (the bytes captured first win), sequence numbers that wrap. What the
//! capture missed is stepped over where the length of the broken message tells where the next
//! one starts; else, and where the capture starts inside a connection, the next segment whose
//! start reads like a message does.
//!
//! What a segment waits for is given up shortly after the peer has acknowledged it: the peer has it,
//! so the capture missed it. A message has the time of the segment that completes it, whenever it
//! is handed over, and both directions of a connection are handed over in the order of their times.
//!
//! The table has no clock: time comes with the segments. It is bounded in connections, in bytes held
//! and in age, and what it forgets or cannot read is counted by reason in [`StreamLosses`].

mod connection;
mod framing;
mod half;
mod slots;

#[cfg(test)]
mod dialogue;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use pktvisor_common::packet::{IpVersion, PacketMeta, TCP_ACK, TCP_RST, TCP_SYN};

use self::connection::{Connection, Side};
pub use self::framing::Message;
use self::half::Arrival;
use self::slots::Slots;

/// How much a [`StreamTable`] may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections kept; the one that was silent for longest makes room for a new one. At least 1
    /// is kept.
    pub connections: usize,
    /// Bytes of memory held over all connections for unfinished messages, for segments that wait
    /// for earlier ones and for messages held back; the holder that was silent for longest is
    /// forgotten first.
    pub bytes: usize,
    /// Nanoseconds after which a silent connection is forgotten.
    pub idle: i64,
    /// Nanoseconds that a segment waits for earlier ones at most.
    pub gap: i64,
    /// Nanoseconds that a segment waits for earlier ones once the peer has acknowledged them:
    /// captures of several queues can show an acknowledgement first. At the start of a capture
    /// inside a connection, the time in which earlier segments are waited for.
    pub reorder: i64,
    /// Bytes that a segment may lie ahead before what it waits for is given up; at most 2^30.
    pub ahead: u32,
}

impl Default for StreamLimits {
    /// 8192 connections, 8 MiB, 60 s idle, 2 s for a gap, 50 ms once acknowledged, 256 KiB ahead.
    fn default() -> Self {
        Self {
            connections: 8_192,
            bytes: 8 << 20,
            idle: 60_000_000_000,
            gap: 2_000_000_000,
            reorder: 50_000_000,
            ahead: 256 << 10,
        }
    }
}

/// One direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// The key that both directions of the connection have, and which direction this one is.
    fn connection(&self) -> (Self, Side) {
        let ends = (self.src, self.src_port).cmp(&(self.dst, self.dst_port));
        if ends == Ordering::Greater {
            let turned = Self {
                src: self.dst,
                dst: self.src,
                src_port: self.dst_port,
                dst_port: self.src_port,
                ..*self
            };
            return (turned, 1);
        }
        (*self, 0)
    }
}

/// One TCP segment as it was captured; `C` is what its user knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, C> {
    /// The half-stream it belongs to.
    pub key: StreamKey,
    /// What is handed back with the messages of the half-stream.
    pub context: C,
    /// Time of capture in nanoseconds of unix time.
    pub time: i64,
    /// Sequence number (RFC 9293) of the segment's first byte, or of its SYN.
    pub seq: u32,
    /// Acknowledgement number, where the segment has one.
    pub ack: Option<u32>,
    /// Flags as in [`PacketMeta::tcp_flags`].
    pub flags: u8,
    /// The bytes of payload that were captured.
    pub payload: &'a [u8],
    /// Bytes that followed `payload` on the wire and were cut off by the capture.
    pub missing: u32,
}

impl<'a, C> Segment<'a, C> {
    /// The segment that `packet` holds, of which `meta` is the walk.
    pub fn of(meta: &PacketMeta, packet: &'a [u8], time: i64, context: C) -> Self {
        let captured = packet.get(usize::from(meta.payload_offset)..).unwrap_or_default();
        let payload = &captured[..captured.len().min(meta.payload_len as usize)];
        Self {
            key: StreamKey::of(meta),
            context,
            time,
            seq: meta.tcp_seq,
            ack: (meta.tcp_flags & TCP_ACK != 0).then_some(meta.tcp_ack),
            flags: meta.tcp_flags,
            payload,
            missing: meta.payload_len - payload.len() as u32,
        }
    }
}

/// What was lost on the way from segments to messages, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLosses {
    /// Connections forgotten because there were more than [`StreamLimits::connections`].
    pub evicted_streams: u64,
    /// Connections forgotten because all together held more than [`StreamLimits::bytes`].
    pub evicted_bytes: u64,
    /// Connections that fell silent inside a message or waiting for a segment.
    pub idle: u64,
    /// Runs of bytes that were never captured and were given up.
    pub gaps: u64,
    /// Runs of bytes that the capture's snap length cut off.
    pub cut: u64,
    /// Messages that began but never ended: by a gap, a cut, or the end of their connection.
    pub broken: u64,
    /// Times that it was no longer known where messages start.
    pub desync: u64,
    /// Segments that came after what follows them had been read, at the start of a capture inside
    /// a connection.
    pub before_start: u64,
}

/// The connections. See the [module](self).
#[derive(Debug)]
pub struct StreamTable<C> {
    limits: StreamLimits,
    slots: Slots<C>,
    losses: StreamLosses,
}

impl<C: Copy> StreamTable<C> {
    /// An empty table.
    pub fn new(limits: StreamLimits) -> Self {
        let limits = StreamLimits {
            connections: limits.connections.clamp(1, slots::MAX),
            ahead: limits.ahead.min(1 << 30),
            ..limits
        };
        Self { limits, slots: Slots::default(), losses: StreamLosses::default() }
    }

    /// Takes a segment and hands each message that is complete to `emit`, without its length, with
    /// the context of the latest segment of its half-stream.
    ///
    /// A message of less than 12 bytes is handed over too, one of 0 bytes is not. A segment that
    /// holds whole messages and comes in order is read in place.
    pub fn segment(&mut self, segment: &Segment<'_, C>, mut emit: impl FnMut(&C, Message<'_>)) {
        self.expire(segment.time, &mut emit);
        let (key, side) = segment.key.connection();
        let index = match self.slots.find(&key) {
            Some(index) => index,
            None if segment.flags & TCP_RST != 0 || Arrival::of(segment).is_bare() => return,
            None => {
                while self.slots.len() >= self.limits.connections {
                    let Some(oldest) = self.slots.oldest() else { break };
                    self.losses.evicted_streams += 1;
                    self.forget(oldest, &mut emit);
                }
                self.slots.insert(key, segment.time)
            }
        };
        let slot = self.slots.touch(index);
        let (limits, losses) = (&self.limits, &mut self.losses);
        if segment.time.saturating_sub(slot.last) > limits.idle {
            losses.idle += u64::from(slot.connection.is_unfinished());
            slot.connection.give_up(losses, &mut emit);
            slot.connection = Connection::new();
        }
        slot.last = slot.last.max(segment.time);
        slot.connection.arrive(side, segment, limits, losses, &mut emit);
        self.slots.account(index, &self.limits);
        while self.slots.bytes() > self.limits.bytes {
            let Some(holder) = self.slots.oldest_holder() else { break };
            self.losses.evicted_bytes += 1;
            self.forget(holder, &mut emit);
        }
    }

    /// Whether the time of a gap is over before `now`.
    #[inline]
    pub fn is_due(&self, now: i64) -> bool {
        self.slots.due(now).is_some()
    }

    /// Gives up the gaps whose time is over before `now`; messages behind them go to `emit`.
    ///
    /// It is to be called as time passes, also where no segment comes.
    #[inline]
    pub fn expire(&mut self, now: i64, emit: &mut impl FnMut(&C, Message<'_>)) {
        while let Some(index) = self.slots.due(now) {
            let slot = self.slots.get_mut(index);
            slot.connection.expire(now, &self.limits, &mut self.losses, emit);
            self.slots.account(index, &self.limits);
        }
    }

    /// The earliest time of what waits for earlier segments, at the latest; `None` where nothing
    /// waits. No message of an earlier time will be handed over.
    pub fn waits_since(&self) -> Option<i64> {
        self.slots.waits_since()
    }

    /// Forgets the connections that were silent for longer than [`StreamLimits::idle`] at `now`.
    ///
    /// Whole messages behind a gap that nothing filled are handed to `emit` first.
    pub fn advance(&mut self, now: i64, mut emit: impl FnMut(&C, Message<'_>)) {
        self.expire(now, &mut emit);
        while let Some(index) = self.slots.oldest() {
            let slot = self.slots.get(index);
            if now.saturating_sub(slot.last) <= self.limits.idle {
                break;
            }
            self.losses.idle += u64::from(slot.connection.is_unfinished());
            self.forget(index, &mut emit);
        }
    }

    /// Forgets all connections, as at the end of a capture; `emit` as for [`Self::advance`].
    pub fn finish(&mut self, mut emit: impl FnMut(&C, Message<'_>)) {
        while let Some(index) = self.slots.oldest() {
            self.losses.idle += u64::from(self.slots.get(index).connection.is_unfinished());
            self.forget(index, &mut emit);
        }
    }

    /// What was lost since this was asked last.
    pub fn take_losses(&mut self) -> StreamLosses {
        std::mem::take(&mut self.losses)
    }

    /// Connections in the table.
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory held for unfinished messages, waiting segments and messages held back.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// Forgets a connection; what it has of whole messages goes to `emit`.
    fn forget(&mut self, index: slots::Index, emit: &mut impl FnMut(&C, Message<'_>)) {
        let mut slot = self.slots.remove(index);
        slot.connection.give_up(&mut self.losses, emit);
    }
}

/// Whether a segment opens its half-stream.
fn is_syn(flags: u8) -> bool {
    flags & TCP_SYN != 0
}
