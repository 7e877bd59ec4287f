//! DNS over TCP: turns captured segments into messages.
//!
//! Over TCP, two bytes with its length precede each message (RFC 1035 section 4.2.2, RFC 7766 section 8),
//! independent of segment boundaries. [`StreamTable`] keeps a half-stream for each direction of a
//! connection and puts its bytes in order. It handles duplicate, reordered and overlapping segments, where
//! the bytes captured first win, and sequence numbers that wrap. It steps over bytes that the capture
//! missed if the length of the broken message tells where the next one starts. Otherwise, and if the
//! capture starts inside a connection, it looks for the next segment whose start looks like a message.
//!
//! A gap is given up shortly after the peer has acknowledged it: the peer received the bytes, so the
//! capture missed them. A message has the time of the segment that completes it, whenever it is emitted,
//! and the messages of both directions of a connection are emitted in the order of their times.
//!
//! The table has no clock: time comes with the segments. The table is bounded in connections, bytes and
//! age, and counts what it evicts or cannot read by reason in [`StreamLosses`].

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

use crate::time::{Span, Timestamp};

/// Bounds of a [`StreamTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Maximum connections, at least 1. A new connection evicts the one that was silent for longest.
    pub connections: usize,
    /// Maximum bytes of memory held over all connections for unfinished messages, for segments that wait
    /// for earlier ones and for messages held back. The holder that was silent for longest is evicted
    /// first.
    pub bytes: usize,
    /// Nanoseconds after which a silent connection is removed.
    pub idle: Span,
    /// Maximum nanoseconds that a segment waits for earlier ones.
    pub gap: Span,
    /// Nanoseconds that a segment waits for earlier ones once the peer has acknowledged them, because a
    /// capture of several queues can show the acknowledgement first. At the start of a capture inside a
    /// connection, the time to wait for earlier segments.
    pub reorder: Span,
    /// Maximum bytes that a segment may lie ahead before the gap is given up; at most 2^30.
    pub ahead: u32,
}

impl Default for StreamLimits {
    /// 8192 connections, 8 MiB, 60 s idle, 2 s for a gap, 50 ms once acknowledged, 256 KiB ahead.
    fn default() -> Self {
        Self {
            connections: 8_192,
            bytes: 8 << 20,
            idle: Span::from_seconds(60),
            gap: Span::from_seconds(2),
            reorder: Span::from_millis(50),
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
    /// True if the addresses are IPv6.
    pub ipv6: bool,
}

impl StreamKey {
    /// Returns the key of a TCP packet.
    pub fn of(meta: &PacketMeta) -> Self {
        Self {
            src: meta.src,
            dst: meta.dst,
            src_port: meta.src_port,
            dst_port: meta.dst_port,
            ipv6: meta.version == IpVersion::V6,
        }
    }

    /// Returns the key that both directions of the connection share, and the direction of this one.
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

/// A captured TCP segment; `C` is the caller's context.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, C> {
    /// Key of its half-stream.
    pub key: StreamKey,
    /// Context that is returned with the messages of the half-stream.
    pub context: C,
    /// Capture time in nanoseconds since the Unix epoch.
    pub time: Timestamp,
    /// Sequence number (RFC 9293) of the segment's first byte, or of its SYN.
    pub seq: u32,
    /// Acknowledgement number, if the segment has one.
    pub ack: Option<u32>,
    /// Flags as in [`PacketMeta::tcp_flags`].
    pub flags: u8,
    /// Captured bytes of the payload.
    pub payload: &'a [u8],
    /// Number of payload bytes after `payload` that the capture truncated.
    pub missing: u32,
}

impl<'a, C> Segment<'a, C> {
    /// Returns the segment in `packet`, whose walk is `meta`.
    pub fn of(meta: &PacketMeta, packet: &'a [u8], time: Timestamp, context: C) -> Self {
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

/// Losses between segments and messages, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLosses {
    /// Connections evicted because there were more than [`StreamLimits::connections`].
    pub evicted_streams: u64,
    /// Connections evicted because all together held more than [`StreamLimits::bytes`].
    pub evicted_bytes: u64,
    /// Connections that fell silent inside a message or while a segment waited for earlier ones.
    pub idle: u64,
    /// Runs of bytes that were never captured and were given up.
    pub gaps: u64,
    /// Runs of bytes that the capture's snap length truncated.
    pub cut: u64,
    /// Messages that began but never ended: by a gap, a truncation, or the end of their connection.
    pub broken: u64,
    /// Number of times that the position of message boundaries was lost.
    pub desync: u64,
    /// Segments at the start of a capture inside a connection that arrived after later bytes had been
    /// read.
    pub before_start: u64,
}

/// The table of connections. See the [module](self).
#[derive(Debug)]
pub struct StreamTable<C> {
    limits: StreamLimits,
    slots: Slots<C>,
    losses: StreamLosses,
}

impl<C: Copy> StreamTable<C> {
    /// Creates an empty table.
    pub fn new(limits: StreamLimits) -> Self {
        let limits = StreamLimits {
            connections: limits.connections.clamp(1, slots::MAX),
            ahead: limits.ahead.min(1 << 30),
            ..limits
        };
        Self { limits, slots: Slots::default(), losses: StreamLosses::default() }
    }

    /// Processes a segment. Passes each complete message to `emit`, without its length, and with the
    /// context of the latest segment of its half-stream.
    ///
    /// Messages of less than 12 bytes are emitted too, those of 0 bytes are not. A segment that holds
    /// whole messages and arrives in order is read in place.
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
        if segment.time - slot.last > limits.idle {
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

    /// Returns true if the time of a gap is over before `now`.
    #[inline]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.slots.due(now).is_some()
    }

    /// Gives up the gaps whose time is over before `now` and passes the messages after them to `emit`.
    ///
    /// Call it as time passes, even if no segments arrive.
    #[inline]
    pub fn expire(&mut self, now: Timestamp, emit: &mut impl FnMut(&C, Message<'_>)) {
        while let Some(index) = self.slots.due(now) {
            let slot = self.slots.get_mut(index);
            slot.connection.expire(now, &self.limits, &mut self.losses, emit);
            self.slots.account(index, &self.limits);
        }
    }

    /// Returns a lower bound of the capture times of waiting segments; `None` if none wait. No message
    /// with an earlier time will be emitted.
    pub fn waits_since(&self) -> Option<Timestamp> {
        self.slots.waits_since()
    }

    /// Removes the connections that were silent for longer than [`StreamLimits::idle`] at `now`.
    ///
    /// Complete messages after a gap that was not filled are passed to `emit` first.
    pub fn advance(&mut self, now: Timestamp, mut emit: impl FnMut(&C, Message<'_>)) {
        self.expire(now, &mut emit);
        while let Some(index) = self.slots.oldest() {
            let slot = self.slots.get(index);
            if now - slot.last <= self.limits.idle {
                break;
            }
            self.losses.idle += u64::from(slot.connection.is_unfinished());
            self.forget(index, &mut emit);
        }
    }

    /// Removes all connections, as at the end of a capture; `emit` as for [`Self::advance`].
    pub fn finish(&mut self, mut emit: impl FnMut(&C, Message<'_>)) {
        while let Some(index) = self.slots.oldest() {
            self.losses.idle += u64::from(self.slots.get(index).connection.is_unfinished());
            self.forget(index, &mut emit);
        }
    }

    /// Returns the losses since the last call.
    pub fn take_losses(&mut self) -> StreamLosses {
        std::mem::take(&mut self.losses)
    }

    /// Returns the number of connections in the table.
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Returns the bytes of memory held for unfinished messages, waiting segments and messages held back.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// Removes a connection and passes its complete messages to `emit`.
    fn forget(&mut self, index: slots::Index, emit: &mut impl FnMut(&C, Message<'_>)) {
        let mut slot = self.slots.remove(index);
        slot.connection.give_up(&mut self.losses, emit);
    }
}

/// Returns true if a segment opens its half-stream.
fn is_syn(flags: u8) -> bool {
    flags & TCP_SYN != 0
}
