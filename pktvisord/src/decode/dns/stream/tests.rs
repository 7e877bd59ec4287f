mod bounds;

use pktvisor_common::packet::{TCP_FIN, TCP_RST, TCP_SYN};

use super::*;

pub(super) const SECOND: i64 = 1_000_000_000;

pub(super) const LIMITS: StreamLimits = StreamLimits {
    connections: 8,
    bytes: 200_000,
    idle: Span::from_seconds(60),
    gap: Span::from_seconds(2),
    reorder: Span::from_millis(50),
    ahead: 70_000,
};

/// One half-stream of a table. Its sequence numbers count from the first byte.
struct Sender {
    table: StreamTable<u16>,
    key: StreamKey,
    first: u32,
    time: i64,
}

impl Sender {
    fn new(limits: StreamLimits) -> Self {
        Self { table: StreamTable::new(limits), key: key(1), first: 1001, time: SECOND }
    }

    fn opened() -> Self {
        let mut sender = Self::new(LIMITS);
        assert!(sender.syn().is_empty());
        sender
    }

    fn syn(&mut self) -> Vec<Vec<u8>> {
        self.send(u32::MAX, TCP_SYN, &[])
    }

    fn data(&mut self, at: u32, payload: &[u8]) -> Vec<Vec<u8>> {
        self.send(at, 0, payload)
    }

    fn send(&mut self, at: u32, flags: u8, payload: &[u8]) -> Vec<Vec<u8>> {
        self.send_cut(at, flags, payload, 0)
    }

    fn send_cut(&mut self, at: u32, flags: u8, payload: &[u8], missing: u32) -> Vec<Vec<u8>> {
        let (key, seq) = (self.key, self.first.wrapping_add(at));
        let time = Timestamp::from_nanos(self.time);
        let mut messages = Vec::new();
        let (context, ack) = (key.src_port, None);
        let segment = Segment { key, context, time, seq, ack, flags, payload, missing };
        self.table.segment(&segment, |_, message| messages.push(message.bytes.to_vec()));
        messages
    }

    /// Lets the time pass in which segments before the first captured one may arrive.
    fn settle(&mut self) -> Vec<Vec<u8>> {
        self.time += LIMITS.reorder.as_nanos() + 1;
        let mut messages = Vec::new();
        let now = Timestamp::from_nanos(self.time);
        self.table.expire(now, &mut |_, message| messages.push(message.bytes.to_vec()));
        messages
    }

    fn losses(&mut self) -> StreamLosses {
        self.table.take_losses()
    }
}

pub(super) fn key(port: u16) -> StreamKey {
    StreamKey { src: [1; 16], dst: [2; 16], src_port: port, dst_port: 53, ipv6: true }
}

/// A query whose name has one label of `label` bytes.
pub(super) fn query(id: u8, label: u8) -> Vec<u8> {
    let mut query = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, label];
    query.extend(std::iter::repeat_n(b'a' + id % 26, label.into()));
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// A reply of `len` bytes with one question and one answer.
pub(super) fn reply(id: u8, len: u16) -> Vec<u8> {
    let mut reply = vec![0, id, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
    reply.resize(len.into(), 0xee);
    reply
}

pub(super) fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for message in messages {
        stream.extend((message.len() as u16).to_be_bytes());
        stream.extend(message);
    }
    stream
}

#[test]
fn whole_messages_of_a_segment_are_read_in_place() {
    let mut sender = Sender::opened();
    let messages = vec![query(1, 3), query(2, 63), reply(3, 700)];
    assert_eq!(sender.data(0, &framed(&messages)), messages);
    assert_eq!(sender.table.bytes(), 0);
    assert_eq!(sender.losses(), StreamLosses::default());
}

#[test]
fn message_completes_with_its_last_segment() {
    let messages = vec![reply(1, u16::MAX)];
    let stream = framed(&messages);
    for size in [1, 2, 13, 1448] {
        let mut sender = Sender::opened();
        let mut got = Vec::new();
        for (index, segment) in stream.chunks(size).enumerate() {
            assert!(got.is_empty(), "complete before the last segment");
            got = sender.data((index * size) as u32, segment);
            assert!(sender.table.bytes() <= stream.len());
        }
        assert_eq!(got, messages);
        assert_eq!(sender.table.bytes(), 0);
    }
}

#[test]
fn out_of_order_segments_are_reordered() {
    let messages = vec![query(1, 9), query(2, 9), query(3, 9)];
    let stream = framed(&messages);
    let mut sender = Sender::opened();
    assert!(sender.data(60, &stream[60..]).is_empty());
    assert!(sender.data(40, &stream[40..60]).is_empty());
    assert!(sender.data(5, &stream[5..40]).is_empty());
    assert_eq!(sender.data(0, &stream[..5]), messages);
    assert_eq!(sender.table.bytes(), 0);
    assert_eq!(sender.losses(), StreamLosses::default());
}

#[test]
fn retransmitted_bytes_count_once() {
    let messages = vec![query(1, 9), query(2, 9)];
    let stream = framed(&messages);
    let mut sender = Sender::opened();
    assert_eq!(sender.data(0, &stream), messages);
    assert!(sender.data(0, &stream).is_empty());
    assert!(sender.data(7, &stream[7..30]).is_empty());
    // A keep-alive repeats the byte before the next one.
    assert!(sender.data(stream.len() as u32 - 1, &[0]).is_empty());
    assert_eq!(sender.losses(), StreamLosses::default());
}

#[test]
fn first_captured_bytes_win_in_overlaps() {
    let stream = framed(&[query(1, 9), query(2, 9)]);
    let forged = vec![0xff; stream.len()];
    let mut sender = Sender::opened();
    // In order, then again with more data after it.
    assert!(sender.data(0, &stream[..10]).is_empty());
    let mut again = forged[..10].to_vec();
    again.extend(&stream[10..20]);
    assert!(sender.data(0, &again).is_empty());
    // Waiting, then covered from both sides.
    assert!(sender.data(30, &stream[30..40]).is_empty());
    let mut over = stream[20..30].to_vec();
    over.extend(&forged[30..40]);
    over.extend(&stream[40..]);
    assert_eq!(sender.data(20, &over), [query(1, 9), query(2, 9)]);
}

#[test]
fn sequence_numbers_wrap() {
    let messages = vec![query(1, 9), reply(2, 300), query(3, 9)];
    let stream = framed(&messages);
    for first in [u32::MAX - 5, u32::MAX - 200, u32::MAX, 0, i32::MAX as u32 - 100] {
        let mut sender = Sender { first, ..Sender::new(LIMITS) };
        sender.syn();
        assert_eq!(sender.data(0, &stream[..40]), messages[..1]);
        assert!(sender.data(150, &stream[150..]).is_empty());
        assert_eq!(sender.data(40, &stream[40..150]), messages[1..]);
    }
}

#[test]
fn capture_may_start_inside_a_connection() {
    let messages = vec![query(1, 9), query(2, 9)];
    let mut sender = Sender::new(LIMITS);
    assert!(sender.data(0, &framed(&messages)).is_empty(), "earlier segments may still come");
    assert_eq!(sender.settle(), messages);
    assert_eq!(sender.losses(), StreamLosses::default());

    // Length and message in separate segments.
    let stream = framed(&messages[..1]);
    let mut sender = Sender::new(LIMITS);
    assert!(sender.data(0, &stream[..2]).is_empty());
    assert!(sender.data(2, &stream[2..]).is_empty());
    assert_eq!(sender.settle(), messages[..1]);
}

#[test]
fn capture_may_start_inside_a_message() {
    let messages = vec![reply(1, 900), query(2, 9)];
    let stream = framed(&messages);
    let mut sender = Sender::new(LIMITS);
    // The rest of the first message does not look like a message, so its bytes are skipped.
    assert!(sender.data(500, &stream[500..800]).is_empty());
    assert!(sender.settle().is_empty());
    assert!(sender.data(800, &stream[800..902]).is_empty());
    assert_eq!(sender.data(902, &stream[902..]), messages[1..]);
    assert_eq!(sender.losses(), StreamLosses { desync: 1, ..StreamLosses::default() });

    // The capture starts after the length.
    let mut sender = Sender::new(LIMITS);
    assert!(sender.data(2, &stream[2..902]).is_empty());
    assert!(sender.settle().is_empty());
    assert_eq!(sender.data(902, &stream[902..]), messages[1..]);

    // A start that is too short to be judged is dropped when more of it arrives.
    let mut sender = Sender::new(LIMITS);
    assert!(sender.data(890, &stream[890..902]).is_empty());
    assert!(sender.settle().is_empty());
    assert_eq!(sender.data(902, &stream[902..]), messages[1..]);
    assert_eq!(sender.losses().desync, 1);
}

#[test]
fn directions_are_independent() {
    let mut sender = Sender::new(LIMITS);
    sender.syn();
    let client = sender.key;
    sender.key =
        StreamKey { src: client.dst, dst: client.src, src_port: 53, dst_port: 1, ipv6: true };
    sender.first = 77;
    sender.syn();
    // The reply is captured before the query.
    assert_eq!(sender.data(0, &framed(&[reply(1, 90)])), [reply(1, 90)]);
    (sender.key, sender.first) = (client, 1001);
    assert_eq!(sender.data(0, &framed(&[query(1, 9)])), [query(1, 9)]);
    assert_eq!(sender.table.connections(), 1);
}

#[test]
fn syn_may_carry_data_and_be_retransmitted() {
    let stream = framed(&[query(1, 9), query(2, 9)]);
    let mut sender = Sender::new(LIMITS);
    assert_eq!(sender.send(u32::MAX, TCP_SYN, &stream[..35]), [query(1, 9)]);
    assert!(sender.syn().is_empty());
    assert!(sender.send(u32::MAX, TCP_SYN, &stream[..35]).is_empty());
    assert_eq!(sender.data(0, &stream), [query(2, 9)]);
    assert_eq!(sender.losses(), StreamLosses::default());
}

#[test]
fn new_syn_starts_new_connection() {
    let stream = framed(&[query(1, 9)]);
    let mut sender = Sender::opened();
    assert!(sender.data(0, &stream[..20]).is_empty());
    sender.first = 500;
    sender.syn();
    assert_eq!(sender.data(0, &stream), [query(1, 9)]);
    assert_eq!(sender.losses(), StreamLosses { broken: 1, ..StreamLosses::default() });
}

#[test]
fn fin_ends_stream_once_all_bytes_have_arrived() {
    let stream = framed(&[query(1, 9), query(2, 9)]);
    let mut sender = Sender::opened();
    assert!(sender.send(20, TCP_FIN, &stream[20..]).is_empty());
    assert_eq!(sender.data(0, &stream[..20]), [query(1, 9), query(2, 9)]);
    // Retransmissions are recognized afterwards.
    assert!(sender.send(20, TCP_FIN, &stream[20..]).is_empty());
    assert!(sender.send(stream.len() as u32, TCP_FIN, &[]).is_empty());
    assert_eq!(sender.losses(), StreamLosses::default());
    // Another connection with the same ports, with and without a SYN.
    sender.first = 70_000;
    sender.syn();
    assert_eq!(sender.send(0, TCP_FIN, &framed(&[query(3, 9)])), [query(3, 9)]);
    sender.first = 700_000_000;
    assert!(sender.data(0, &framed(&[query(4, 9)])).is_empty());
    assert_eq!(sender.settle(), [query(4, 9)]);
    sender.first = 0;
    assert!(sender.data(0, &framed(&[query(5, 9)])).is_empty());
    assert_eq!(sender.settle(), [query(5, 9)]);
}

#[test]
fn rst_ends_stream_at_once() {
    let stream = framed(&[query(1, 9), query(2, 9), query(3, 9)]);
    let mut sender = Sender::opened();
    assert!(sender.data(0, &stream[..20]).is_empty());
    assert!(sender.data(29, &stream[29..]).is_empty());
    // Too far from the position of the stream to be its own.
    assert!(sender.send(1 << 30, TCP_RST, &[]).is_empty());
    assert_eq!(sender.send(20, TCP_RST, &[]), [query(2, 9), query(3, 9)]);
    assert_eq!(sender.losses(), StreamLosses { gaps: 1, broken: 1, ..StreamLosses::default() });
    assert_eq!(sender.table.bytes(), 0);
}

#[test]
fn empty_and_short_frames_do_not_break_the_stream() {
    let mut sender = Sender::opened();
    let messages = vec![vec![], query(1, 9), vec![7; 5], vec![], query(2, 9)];
    let expected = [query(1, 9), vec![7; 5], query(2, 9)];
    assert_eq!(sender.data(0, &framed(&messages)), expected);

    let mut sender = Sender::opened();
    let mut got = Vec::new();
    for (at, byte) in framed(&messages).iter().enumerate() {
        got.extend(sender.data(at as u32, &[*byte]));
    }
    assert_eq!(got, expected);
}

#[test]
fn gap_inside_a_message_loses_that_message() {
    let stream = framed(&[query(1, 9), reply(2, 500), query(3, 9)]);
    let mut sender = Sender::opened();
    assert_eq!(sender.data(0, &stream[..60]), [query(1, 9)]);
    assert!(sender.data(300, &stream[300..]).is_empty());
    sender.time += 3 * SECOND;
    assert_eq!(sender.data(300, &stream[300..]), [query(3, 9)]);
    assert_eq!(sender.losses(), StreamLosses { gaps: 1, broken: 1, ..StreamLosses::default() });
}

#[test]
fn resynchronizes_after_gap_over_a_message_boundary() {
    let messages = vec![query(1, 9), reply(2, 500), reply(3, 500), query(4, 9)];
    let stream = framed(&messages);
    let mut sender = Sender::opened();
    assert_eq!(sender.data(0, &stream[..60]), messages[..1]);
    // Inside the third message, then at the start of the fourth.
    assert!(sender.data(600, &stream[600..1033]).is_empty());
    assert!(sender.data(1033, &stream[1033..]).is_empty());
    sender.time += 3 * SECOND;
    assert_eq!(sender.data(1033, &stream[1033..]), messages[3..]);
    let expected = StreamLosses { gaps: 1, broken: 1, desync: 1, ..StreamLosses::default() };
    assert_eq!(sender.losses(), expected);
}

#[test]
fn gap_is_given_up_when_data_is_too_far_ahead() {
    let messages = vec![reply(1, 60_000), reply(2, 60_000), query(3, 9)];
    let stream = framed(&messages);
    let mut sender = Sender::opened();
    let mut got = Vec::new();
    for (index, segment) in stream.chunks(1000).enumerate().filter(|(index, _)| *index != 5) {
        got.extend(sender.data(index as u32 * 1000, segment));
    }
    assert_eq!(got, messages[1..]);
    assert_eq!(sender.losses(), StreamLosses { gaps: 1, broken: 1, ..StreamLosses::default() });

    // A jump beyond everything that waits.
    let mut sender = Sender::opened();
    assert!(sender.data(0, &stream[..30]).is_empty());
    assert!(sender.data(40, &stream[40..50]).is_empty());
    assert_eq!(sender.data(1 << 20, &framed(&[query(9, 9)])), [query(9, 9)]);
    assert_eq!(sender.losses().gaps, 2);
    assert_eq!(sender.table.bytes(), 0);
}

#[test]
fn waiting_segments_are_bounded() {
    let mut sender = Sender::opened();
    for index in 1..1000 {
        sender.data(index * 3, &[0]);
    }
    assert!(sender.table.bytes() < 30_000);
    assert!(sender.losses().gaps > 500);
}

#[test]
fn truncated_bytes_are_skipped_at_once() {
    let stream = framed(&[query(1, 9), reply(2, 500), query(3, 9), query(4, 9)]);
    let mut sender = Sender::opened();
    // The truncated bytes end inside the second message.
    let start = stream[31..96].to_vec();
    assert_eq!(sender.send_cut(0, 0, &stream[..96], 304), [query(1, 9)]);
    assert_eq!(sender.data(400, &stream[400..]), [start.clone(), query(3, 9), query(4, 9)]);
    assert_eq!(sender.losses(), StreamLosses { cut: 1, ..StreamLosses::default() });

    // The truncated segment arrives out of order. Its missing bytes are not waited for.
    let mut sender = Sender::opened();
    assert!(sender.send_cut(96, 0, &stream[96..192], 208).is_empty());
    assert!(sender.data(400, &stream[400..]).is_empty());
    let whole = stream[31..192].to_vec();
    assert_eq!(sender.data(0, &stream[..96]), [query(1, 9), whole, query(3, 9), query(4, 9)]);
    assert_eq!(sender.losses(), StreamLosses { cut: 1, ..StreamLosses::default() });

    // The truncated bytes extend over a message boundary.
    let mut sender = Sender::opened();
    assert_eq!(
        sender.send_cut(0, 0, &stream[..96], stream.len() as u32 - 96),
        [query(1, 9), start]
    );
    let rest = framed(&[query(5, 9)]);
    assert_eq!(sender.data(stream.len() as u32, &rest), [query(5, 9)]);
    let expected = StreamLosses { cut: 1, desync: 1, ..StreamLosses::default() };
    assert_eq!(sender.losses(), expected);
}

#[test]
fn end_of_capture_gives_up_all_gaps() {
    let stream = framed(&[query(1, 9), query(2, 9), query(3, 9)]);
    let mut sender = Sender::opened();
    assert!(sender.data(0, &stream[..10]).is_empty());
    assert!(sender.data(20, &stream[20..]).is_empty());
    let mut messages = Vec::new();
    sender.table.finish(|_, message| messages.push(message.bytes.to_vec()));
    assert_eq!(messages, [query(2, 9), query(3, 9)]);
    assert_eq!(sender.table.connections(), 0);
}

#[test]
fn bytes_missing_before_fin_are_a_gap() {
    let mut sender = Sender::opened();
    assert!(sender.send(29, TCP_FIN, &[]).is_empty());
    sender.table.finish(|_, _| unreachable!("nothing was captured"));
    assert_eq!(sender.losses(), StreamLosses { idle: 1, gaps: 1, ..StreamLosses::default() });
}

#[test]
fn segments_without_data_create_no_stream() {
    let mut sender = Sender::new(LIMITS);
    for flags in [0, TCP_FIN, TCP_RST, TCP_RST | TCP_SYN, 0x10] {
        assert!(sender.send(5, flags, &[]).is_empty());
    }
    assert!(sender.send(5, TCP_RST, &framed(&[query(1, 9)])).is_empty());
    assert_eq!(sender.table.connections(), 0);
}

#[test]
fn first_segments_of_a_capture_may_be_out_of_order() {
    let messages = vec![query(1, 9), reply(2, 300), query(3, 9)];
    let stream = framed(&messages);
    let mut sender = Sender::new(LIMITS);
    for (start, end) in [(200, 300), (0, 20), (300, stream.len()), (20, 200)] {
        assert!(sender.data(start as u32, &stream[start..end]).is_empty());
    }
    assert_eq!(sender.settle(), messages);
    assert_eq!(sender.losses(), StreamLosses::default());
    // A segment that arrives later than that is counted.
    let mut sender = Sender::new(LIMITS);
    assert!(sender.data(29, &stream[29..]).is_empty());
    assert_eq!(sender.settle(), messages[1..]);
    assert!(sender.data(0, &stream[..29]).is_empty());
    assert_eq!(sender.losses(), StreamLosses { before_start: 1, ..StreamLosses::default() });
    // A SYN that arrives after later segments.
    let mut sender = Sender::new(LIMITS);
    assert!(sender.data(0, &stream).is_empty());
    assert_eq!(sender.syn(), messages);
}
