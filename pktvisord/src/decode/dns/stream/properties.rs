//! Property tests of reassembly: compares with the messages and bytes that were sent.

use pktvisor_common::flow::mix;
use pktvisor_common::packet::TCP_SYN;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const LIMITS: StreamLimits = StreamLimits {
    connections: 4,
    bytes: 1 << 20,
    idle: Span::from_millis(1),
    gap: Span::from_millis(1),
    reorder: Span::from_nanos(1_000),
    ahead: 1 << 18,
};

/// A part of the bytes sent, as a segment. `missing` counts its bytes truncated by a snap length.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: usize,
    end: usize,
    missing: usize,
}

fn key(port: u16) -> StreamKey {
    StreamKey { src: [1; 16], dst: [2; 16], src_port: port, dst_port: 53, ipv6: false }
}

/// A message that looks like one, but whose bytes look like none from any other offset.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 17_usize..200, 1 => 200_usize..5000, 1 => 60_000_usize..=65_535];
    (len, any::<[u8; 2]>(), any::<bool>(), any::<u64>()).prop_map(|(len, id, reply, seed)| {
        let mut message =
            vec![id[0], id[1], if reply { 0x84 } else { 1 }, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend([0, 0, 1, 0, 1]);
        // Bits of an opcode that does not exist, and no repetition.
        let noise = (0..).map(|at: u64| (mix(seed ^ mix(at)) as u8) | 0x78);
        message.extend(noise.take(len - message.len()));
        message
    })
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for message in messages {
        stream.extend((message.len() as u16).to_be_bytes());
        stream.extend(message);
    }
    stream
}

/// Cuts `len` bytes at random places and at every multiple of 1500 bytes.
fn cut(len: usize, cuts: &[Index]) -> Vec<Part> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len)).collect();
    places.extend((1500..len).step_by(1500));
    places.extend([0, len]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|ends| Part { start: ends[0], end: ends[1], missing: 0 }).collect()
}

/// Feeds parts of a stream that starts with a SYN at sequence number `first - 1`.
fn play(first: u32, stream: &[u8], parts: &[Part]) -> (Vec<Vec<u8>>, StreamLosses) {
    let mut table = StreamTable::new(LIMITS);
    let mut messages = Vec::new();
    let mut segment = Segment {
        key: key(7),
        context: (),
        time: Timestamp::EPOCH,
        seq: first.wrapping_sub(1),
        ack: None,
        flags: TCP_SYN,
        payload: &[],
        missing: 0,
    };
    table.segment(&segment, |(), _| unreachable!("a SYN without data"));
    for part in parts {
        segment.flags = 0;
        segment.seq = first.wrapping_add(part.start as u32);
        segment.payload = &stream[part.start..part.end - part.missing];
        segment.missing = part.missing as u32;
        table.segment(&segment, |(), message| note(&mut messages, message));
        assert!(table.bytes() <= LIMITS.bytes);
    }
    table.finish(|(), message| note(&mut messages, message));
    assert_eq!((table.connections(), table.bytes()), (0, 0));
    (messages, table.take_losses())
}

/// Records a whole message and ignores one truncated by a snap length.
fn note(messages: &mut Vec<Vec<u8>>, message: Message<'_>) {
    assert!(message.bytes.len() <= message.length);
    if message.bytes.len() == message.length {
        messages.push(message.bytes.to_vec());
    }
}

/// Returns true if all of `some` occur in `all` in the same order.
fn in_order(some: &[Vec<u8>], all: &[Vec<u8>]) -> bool {
    let mut all = all.iter();
    some.iter().all(|message| all.any(|other| other == message))
}

proptest! {
    #[test]
    fn complete_delivery_yields_all_messages(
        messages in vec(message(), 1..8),
        cuts in vec(any::<Index>(), 0..40),
        again in vec((any::<Index>(), any::<Index>()), 0..10),
        delays in vec(prop_oneof![Just(0), 0_usize..3000, 0_usize..100_000], 1..50),
        first in prop_oneof![any::<u32>(), Just(u32::MAX - 30)],
    ) {
        let stream = framed(&messages);
        let mut parts = cut(stream.len(), &cuts);
        // Overlapping and repeated parts.
        for (start, end) in again {
            let (start, end) = (start.index(stream.len()), end.index(stream.len()));
            let (start, end) = (start.min(end), start.max(end).min(start.min(end) + 3000) + 1);
            parts.push(Part { start, end, missing: 0 });
        }
        // Shuffled, but by less than the maximum that may wait.
        let delays = delays.iter().cycle();
        let mut late: Vec<_> = parts.into_iter().zip(delays).collect();
        late.sort_by_key(|(part, delay)| part.start + *delay);
        let parts: Vec<Part> = late.into_iter().map(|(part, _)| part).collect();
        let (got, losses) = play(first, &stream, &parts);
        prop_assert_eq!(got, messages);
        prop_assert_eq!(losses, StreamLosses::default());
    }

    #[test]
    fn losses_lose_messages_but_invent_none(
        messages in vec(message(), 1..20),
        cuts in vec(any::<Index>(), 0..60),
        lost in vec(any::<Index>(), 1..10),
        short in vec((any::<Index>(), any::<Index>()), 0..10),
        swaps in vec(any::<Index>(), 0..20),
        first in any::<u32>(),
    ) {
        let stream = framed(&messages);
        let mut parts = cut(stream.len(), &cuts);
        for (place, missing) in short {
            let place = place.index(parts.len());
            let part = &mut parts[place];
            part.missing = missing.index(part.end - part.start + 1);
        }
        for place in lost {
            if parts.len() > 1 {
                parts.remove(place.index(parts.len()));
            }
        }
        for place in swaps {
            let place = place.index(parts.len());
            let next = (place + 1).min(parts.len() - 1);
            parts.swap(place, next);
        }
        let (got, _) = play(first, &stream, &parts);
        prop_assert!(in_order(&got, &messages), "{} of {} messages", got.len(), messages.len());
    }

    #[test]
    fn messages_before_the_first_loss_are_read(
        messages in vec(message(), 1..8),
        cuts in vec(any::<Index>(), 0..40),
        lost in any::<Index>(),
    ) {
        let stream = framed(&messages);
        let mut parts = cut(stream.len(), &cuts);
        let lost = lost.index(parts.len());
        let start = parts.remove(lost).start;
        let mut end = 0;
        let whole = messages.iter().take_while(|message| {
            end += 2 + message.len();
            end <= start
        });
        let whole: Vec<_> = whole.cloned().collect();
        let (got, losses) = play(5, &stream, &parts);
        prop_assert!(got.starts_with(&whole));
        prop_assert_eq!(losses.gaps, u64::from(lost < parts.len()));
    }

    #[test]
    fn capture_from_the_middle_invents_no_messages(
        messages in vec(message(), 1..20),
        cuts in vec(any::<Index>(), 0..60),
        from in any::<Index>(),
    ) {
        let stream = framed(&messages);
        let parts = cut(stream.len(), &cuts);
        let mut table = StreamTable::new(LIMITS);
        let mut got = Vec::new();
        for part in &parts[from.index(parts.len())..] {
            let payload = &stream[part.start..part.end];
            let seq = part.start as u32;
            let key = key(7);
            let segment =
                Segment { key, context: (), time: Timestamp::EPOCH, seq, ack: None, flags: 0, payload, missing: 0 };
            table.segment(&segment, |(), message| note(&mut got, message));
        }
        prop_assert!(in_order(&got, &messages));
    }

    #[test]
    fn table_stays_within_its_bounds(
        segments in vec(
            (0_u16..8, 0_i64..400_000, 0_u32..3000, any::<u8>(), vec(0_u8..4, 0..300), 0_u32..300),
            0..300,
        ),
        wild in vec((any::<Index>(), any::<u32>(), any::<u32>(), any::<i64>()), 0..3),
    ) {
        let limits = StreamLimits { bytes: 3000, ahead: 2000, ..LIMITS };
        let mut table = StreamTable::new(limits);
        let mut now = Timestamp::EPOCH;
        for (at, (port, elapsed, seq, flags, payload, missing)) in segments.iter().enumerate() {
            now = now + Span::from_nanos(*elapsed);
            // SYN, FIN and RST are rare, because otherwise no stream would live long.
            let flags = if at % 8 == 0 { *flags } else { 0 };
            let mut segment = Segment {
                key: key(*port),
                context: (),
                time: now,
                seq: *seq,
                ack: (at % 3 == 0).then_some(*seq),
                flags,
                payload,
                missing: if at % 5 == 0 { *missing } else { 0 },
            };
            for (place, seq, missing, time) in &wild {
                if place.index(segments.len()) == at {
                    (segment.seq, segment.missing, segment.time) = (*seq, *missing, Timestamp::from_nanos(*time));
                }
            }
            table.segment(&segment, |(), message| assert!(!message.bytes.is_empty()));
            prop_assert!(table.connections() <= limits.connections);
            prop_assert!(table.bytes() <= limits.bytes);
            if at % 16 == 0 {
                table.advance(now, |(), _| {});
            }
        }
        table.finish(|(), _| {});
        prop_assert_eq!((table.connections(), table.bytes()), (0, 0));
    }
}
