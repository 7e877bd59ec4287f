//! Both directions of a connection. Their messages are emitted in the order of their times.
//!
//! While one direction waits for a segment, messages of the other direction that are later than the waiting
//! segments are held back, so that a reply never overtakes its query.

use super::framing::Message;
use super::half::{Arrival, HalfStream};
use super::{Segment, StreamLimits, StreamLosses};
use crate::time::Timestamp;

/// Maximum messages held back. They are sorted with each segment, so more of them would cost more than
/// a segment may. Beyond the limit, the gaps that hold them back are given up.
const MAX_HELD: usize = 256;

/// A direction of a connection: 0 or 1.
pub(super) type Side = usize;

/// A message held back.
#[derive(Debug)]
struct Held {
    side: Side,
    time: Timestamp,
    length: usize,
    bytes: Box<[u8]>,
}

/// A connection; `C` is the caller's context of the segments of one direction.
#[derive(Debug)]
pub(super) struct Connection<C> {
    halves: [Option<HalfStream>; 2],
    /// Context of the latest segment of each direction.
    contexts: [Option<C>; 2],
    held: Vec<Held>,
}

impl<C: Copy> Connection<C> {
    /// Creates a connection without segments.
    pub(super) fn new() -> Self {
        Self { halves: [None, None], contexts: [None, None], held: Vec::new() }
    }

    /// Returns the bytes of memory held beyond the connection itself.
    pub(super) fn held(&self) -> usize {
        let messages: usize = self.held.iter().map(|held| held.bytes.len()).sum();
        let halves: usize = self.halves.iter().flatten().map(HalfStream::held).sum();
        halves + messages + self.held.capacity() * size_of::<Held>()
    }

    /// Returns true if a direction is inside a message or waits for bytes.
    pub(super) fn is_unfinished(&self) -> bool {
        self.halves.iter().flatten().any(HalfStream::is_unfinished)
    }

    /// Returns a lower bound of the time since which segments wait for earlier ones; `None` if none do.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        self.halves.iter().flatten().filter_map(HalfStream::waits_since).min()
    }

    /// Returns the deadline of the next gap.
    pub(super) fn deadline(&self, limits: &StreamLimits) -> Option<Timestamp> {
        self.halves.iter().flatten().filter_map(|half| half.deadline(limits)).min()
    }

    /// Processes a segment of the direction `side`.
    pub(super) fn arrive(
        &mut self,
        side: Side,
        segment: &Segment<'_, C>,
        limits: &StreamLimits,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(&C, Message<'_>),
    ) {
        let (context, arrival) = (segment.context, Arrival::of(segment));
        self.contexts[side] = Some(context);
        if let (Some(ack), Some(peer)) = (segment.ack, &mut self.halves[1 - side]) {
            peer.acknowledge(ack, segment.time);
        }
        let in_order = self.held.is_empty() && self.waits_since().is_none();
        let half = match &mut self.halves[side] {
            None if arrival.is_bare() => return,
            half => half.get_or_insert_with(|| HalfStream::starting(&arrival, limits)),
        };
        if in_order {
            half.arrive(arrival, limits, losses, &mut |message| emit(&context, message));
        } else {
            let held = &mut self.held;
            half.arrive(arrival, limits, losses, &mut |message| hold(held, side, message));
            if held.len() > MAX_HELD {
                for (side, half) in self.halves.iter_mut().enumerate() {
                    let Some(half) = half else { continue };
                    half.skip_gaps(losses, &mut |message| hold(held, side, message));
                }
            }
            self.release(emit);
        }
    }

    /// Gives up the gaps whose deadline is before `now`.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        limits: &StreamLimits,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(&C, Message<'_>),
    ) {
        for (side, half) in self.halves.iter_mut().enumerate() {
            let (Some(half), held) = (half, &mut self.held) else { continue };
            half.expire(now, limits, losses, &mut |message| hold(held, side, message));
        }
        self.release(emit);
    }

    /// Gives up all gaps and open messages.
    pub(super) fn give_up(
        &mut self,
        losses: &mut StreamLosses,
        emit: &mut dyn FnMut(&C, Message<'_>),
    ) {
        for (side, half) in self.halves.iter_mut().enumerate() {
            let (Some(half), held) = (half, &mut self.held) else { continue };
            half.give_up(losses, &mut |message| hold(held, side, message));
        }
        self.release(emit);
    }

    /// Emits the messages that are no later than the segments waiting in either direction.
    fn release(&mut self, emit: &mut dyn FnMut(&C, Message<'_>)) {
        if self.held.is_empty() {
            return;
        }
        self.held.sort_by_key(|held| held.time);
        let until = self.waits_since().unwrap_or(Timestamp::MAX);
        let ready = self.held.partition_point(|held| held.time <= until);
        for Held { side, time, length, bytes } in self.held.drain(..ready) {
            if let Some(context) = &self.contexts[side] {
                emit(context, Message { bytes: &bytes, length, time });
            }
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

fn hold(held: &mut Vec<Held>, side: Side, message: Message<'_>) {
    let Message { bytes, length, time } = message;
    held.push(Held { side, time, length, bytes: bytes.into() });
}
