//! Tests of eviction.

use super::*;

#[test]
fn full_table_evicts_longest_silent_stream() {
    let mut sender = Sender::new(LIMITS);
    let stream = framed(&[query(1, 9)]);
    for port in 0..9 {
        sender.key = key(port);
        sender.syn();
        assert!(sender.data(0, &stream[..9]).is_empty());
        // The first one is used again each time.
        sender.key = key(0);
        sender.data(0, &stream[..9]);
    }
    assert_eq!(sender.table.connections(), 8);
    assert_eq!(
        sender.losses(),
        StreamLosses { evicted_streams: 1, broken: 1, ..StreamLosses::default() }
    );
    assert_eq!(sender.data(9, &stream[9..]), [query(1, 9)]);
    sender.key = key(1);
    assert!(sender.data(9, &stream[9..]).is_empty());
}

#[test]
fn byte_limit_evicts_longest_silent_holder() {
    let stream = framed(&[reply(1, 60_000)]);
    let mut sender = Sender::new(LIMITS);
    for port in 0..6 {
        sender.key = key(port);
        sender.syn();
        if port == 1 {
            assert_eq!(sender.data(0, &framed(&[query(1, 9)])), [query(1, 9)]);
            continue;
        }
        assert!(sender.data(0, &stream[..50_000]).is_empty());
        assert!(sender.table.bytes() <= LIMITS.bytes);
    }
    // Streams 0 and 2 were evicted. Stream 1 holds nothing and stayed.
    assert_eq!(
        sender.losses(),
        StreamLosses { evicted_bytes: 2, broken: 2, ..StreamLosses::default() }
    );
    assert_eq!(sender.table.connections(), 4);
    sender.key = key(5);
    assert_eq!(sender.data(50_000, &stream[50_000..]), [reply(1, 60_000)]);
}

#[test]
fn silent_streams_are_removed() {
    let stream = framed(&[query(1, 9), query(2, 9)]);
    let mut sender = Sender::opened();
    assert_eq!(sender.data(0, &stream[..29]), [query(1, 9)]);
    sender.key = key(2);
    sender.syn();
    assert!(sender.data(29, &stream[29..]).is_empty());

    let mut messages = Vec::new();
    let mut note = |port: &u16, message: Message<'_>| {
        messages.push((*port, message.time.as_nanos(), message.bytes.to_vec()));
    };
    sender.table.advance(Timestamp::from_nanos(61 * SECOND), &mut note);
    assert_eq!(sender.table.connections(), 2);
    sender.table.advance(Timestamp::from_nanos(61 * SECOND + 1), &mut note);
    assert_eq!(sender.table.connections(), 0);
    assert_eq!(sender.table.bytes(), 0);
    assert_eq!(messages, [(2, SECOND, query(2, 9))]);
    let expected = StreamLosses { gaps: 1, desync: 1, ..StreamLosses::default() };
    assert_eq!(sender.losses(), expected);
}

#[test]
fn stream_silent_too_long_restarts_without_advance() {
    let stream = framed(&[query(1, 9)]);
    let mut sender = Sender::opened();
    assert!(sender.data(0, &stream[..20]).is_empty());
    sender.time += 61 * SECOND;
    assert!(sender.data(0, &stream).is_empty());
    assert_eq!(sender.settle(), [query(1, 9)]);
    let losses = sender.losses();
    assert_eq!((losses.idle, losses.broken), (1, 1));
}
