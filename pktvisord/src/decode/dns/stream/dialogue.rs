//! Tests of both directions of a connection with gaps: the order and the times of messages.

use pktvisor_common::packet::TCP_SYN;

use super::tests::{LIMITS, SECOND, framed, key, query, reply};
use super::*;

/// A connection whose client and server are both captured from the start.
struct Dialogue {
    table: StreamTable<u16>,
    /// Current time in nanoseconds.
    time: i64,
}

/// The sender of a segment.
#[derive(Clone, Copy)]
enum From {
    Client,
    Server,
}

impl Dialogue {
    fn opened() -> Self {
        let mut dialogue = Self { table: StreamTable::new(LIMITS), time: SECOND };
        dialogue.send(From::Client, u32::MAX, TCP_SYN, None, &[]);
        dialogue.send(From::Server, u32::MAX, TCP_SYN, Some(0), &[]);
        dialogue
    }

    fn send(
        &mut self,
        from: From,
        seq: u32,
        flags: u8,
        ack: Option<u32>,
        payload: &[u8],
    ) -> Vec<(i64, Vec<u8>)> {
        let client = key(1);
        let server =
            StreamKey { src: client.dst, dst: client.src, src_port: 53, dst_port: 1, ipv6: true };
        let key = match from {
            From::Client => client,
            From::Server => server,
        };
        let (context, time) = (key.src_port, Timestamp::from_nanos(self.time));
        let segment = Segment { key, context, time, seq, ack, flags, payload, missing: 0 };
        let mut got = Vec::new();
        self.table.segment(&segment, |_, message| {
            got.push((message.time.as_nanos(), message.bytes.to_vec()));
        });
        got
    }

    fn expire(&mut self) -> Vec<(i64, Vec<u8>)> {
        let mut got = Vec::new();
        self.table.expire(Timestamp::from_nanos(self.time), &mut |_, message: Message<'_>| {
            got.push((message.time.as_nanos(), message.bytes.to_vec()));
        });
        got
    }
}

#[test]
fn message_has_time_of_its_own_segment() {
    let messages = [query(1, 9), query(2, 9), query(3, 9)];
    let stream = framed(&messages);
    let length = stream.len() as u32 / 3;
    let mut dialogue = Dialogue::opened();
    let part = |at: u32| &stream[(at * length) as usize..((at + 1) * length) as usize];
    assert_eq!(dialogue.send(From::Client, 0, 0, None, part(0)), [(SECOND, query(1, 9))]);
    dialogue.time += 5;
    assert!(dialogue.send(From::Client, 2 * length, 0, None, part(2)).is_empty());
    // The acknowledgement shows that the peer has the bytes that the capture missed.
    dialogue.time += 5;
    assert!(dialogue.send(From::Server, 0, 0, Some(3 * length), &[]).is_empty());
    dialogue.time += LIMITS.reorder.as_nanos();
    assert!(dialogue.expire().is_empty(), "it may still come");
    dialogue.time += 1;
    assert_eq!(dialogue.expire(), [(SECOND + 5, query(3, 9))]);
    assert_eq!(dialogue.table.take_losses().gaps, 1);
}

#[test]
fn reply_does_not_overtake_its_query() {
    let stream = framed(&[query(1, 9), query(2, 9)]);
    let length = stream.len() as u32 / 2;
    let mut dialogue = Dialogue::opened();
    // The first query is not captured, but the second is. Its reply comes before the gap is given up.
    assert!(dialogue.send(From::Client, length, 0, None, &stream[length as usize..]).is_empty());
    dialogue.time += 10;
    let replies = framed(&[reply(1, 50), reply(2, 50)]);
    assert!(dialogue.send(From::Server, 0, 0, Some(2 * length), &replies).is_empty());
    dialogue.time += LIMITS.reorder.as_nanos() + 1;
    let late = SECOND + 10;
    let expected = [(SECOND, query(2, 9)), (late, reply(1, 50)), (late, reply(2, 50))];
    assert_eq!(dialogue.expire(), expected);
    assert_eq!(dialogue.table.bytes(), 0);
    // Segments that fill a gap in time are read as if they had arrived in order.
    dialogue.time += 10;
    let more = framed(&[query(3, 9), query(4, 9)]);
    let (seq, now) = (2 * length, dialogue.time);
    assert!(
        dialogue.send(From::Client, seq + length, 0, None, &more[length as usize..]).is_empty()
    );
    dialogue.time += 1;
    let got = dialogue.send(From::Client, seq, 0, None, &more[..length as usize]);
    assert_eq!(got, [(now, query(4, 9)), (now + 1, query(3, 9))], "each at its own time");
}

#[test]
fn acknowledgement_may_precede_its_segments() {
    let stream = framed(&[query(1, 9), query(2, 9)]);
    let mut dialogue = Dialogue::opened();
    let end = stream.len() as u32;
    assert!(dialogue.send(From::Server, 0, 0, Some(end), &[]).is_empty());
    dialogue.time += 1;
    assert!(dialogue.send(From::Client, 10, 0, None, &stream[10..]).is_empty());
    dialogue.time += 1;
    assert!(dialogue.expire().is_empty());
    assert_eq!(dialogue.send(From::Client, 0, 0, None, &stream[..10]).len(), 2);
    assert_eq!(dialogue.table.take_losses(), StreamLosses::default());
}

#[test]
fn held_back_messages_are_bounded() {
    let mut dialogue = Dialogue::opened();
    let waiting = framed(&[query(1, 9)]);
    assert!(dialogue.send(From::Client, 100, 0, None, &waiting).is_empty());
    dialogue.time += 1;
    let answer = framed(&[reply(2, 30)]);
    let mut got = 0;
    for number in 0..1_000 {
        got += dialogue.send(From::Server, number * answer.len() as u32, 0, None, &answer).len();
        assert!(number as usize + 1 - got.min(number as usize + 1) <= 257, "{number}");
    }
    assert_eq!(got, 1_001, "all, and what waited");
    assert_eq!(dialogue.table.take_losses().gaps, 1);
}
