//! DNS over TCP from segments.

use pktvisor_common::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use pktvisor_common::time::{Span, Timestamp};
use pktvisord::decode::dns::stream::{Segment, StreamKey, StreamLimits, StreamLosses, StreamTable};

use super::input::Input;

/// Plays segments from the input: arbitrary ones, or those of a stream that completes in the end.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.u8().is_multiple_of(2) {
        any_segments(input);
    } else {
        delivered(input);
    }
}

fn key(port: u8) -> StreamKey {
    StreamKey { src: [1; 16], dst: [2; 16], src_port: port.into(), dst_port: 53, ipv6: true }
}

/// Checks that arbitrary segments stay within the limits, and that no byte is delivered twice.
fn any_segments(mut input: Input<'_>) {
    let limits = StreamLimits {
        connections: 3,
        bytes: 2048,
        idle: Span::from_nanos(1000),
        gap: Span::from_nanos(200),
        reorder: Span::from_nanos(20),
        ahead: 1024,
    };
    let mut table = StreamTable::new(limits);
    let mut time = 0;
    let mut ends = [0_u32; 4];
    let (mut sent, mut got) = (0, 0);
    while !input.is_empty() {
        let kind = input.u8();
        let end = &mut ends[usize::from(kind & 3)];
        let flags = match kind >> 2 & 7 {
            4 => TCP_SYN,
            5 => TCP_FIN,
            6 => TCP_RST,
            7 => input.u8(),
            _ => 0,
        };
        let seq = match kind >> 5 & 3 {
            0 | 1 => *end,
            2 => end.wrapping_add_signed((input.u8() as i8).into()),
            _ => input.u32(),
        };
        let missing = if kind & 0x80 == 0 { 0 } else { input.u8().into() };
        time += i64::from(input.u8());
        let len = input.u8();
        let payload = input.take(len.into());
        let syn = u32::from(flags & TCP_SYN != 0);
        *end = seq.wrapping_add(syn + payload.len() as u32 + missing);
        sent += payload.len();
        let ack = (flags & TCP_ACK != 0).then_some(*end);
        let (key, now) = (key(kind & 3), Timestamp::from_nanos(time));
        let segment = Segment { key, context: (), time: now, seq, ack, flags, payload, missing };
        table.segment(&segment, |(), message| {
            assert!(!message.bytes.is_empty() && message.bytes.len() <= message.length);
            got += message.bytes.len();
        });
        assert!(table.connections() <= limits.connections && table.bytes() <= limits.bytes);
        if time % 8 == 0 {
            table.advance(now, |(), message| got += message.bytes.len());
        }
    }
    table.finish(|(), message| got += message.bytes.len());
    assert!(got <= sent);
    assert_eq!((table.connections(), table.bytes()), (0, 0));
}

/// Plays parts of a stream in any order, some repeated, then all of it in order. Exactly its
/// messages must be delivered.
fn delivered(mut input: Input<'_>) {
    let mut stream = Vec::new();
    let mut messages = Vec::new();
    for _ in 0..=input.u8() % 4 {
        let len = input.u16() % 3000;
        let mut message = input.take((len / 4).into()).to_vec();
        message.resize(len.into(), len as u8);
        stream.extend(len.to_be_bytes());
        stream.extend(&message);
        messages.extend(Some(message).filter(|message| !message.is_empty()));
    }
    let isn = input.u32();
    let mut segments = Vec::new();
    while !input.is_empty() && segments.len() < 200 {
        let start = usize::from(input.u16()) % stream.len();
        let len = usize::from(input.u8()) * 4;
        segments.push((start, (start + len).min(stream.len())));
    }
    let places = (0..stream.len()).step_by(1000);
    segments.extend(places.map(|start| (start, (start + 1000).min(stream.len()))));

    let mut table = StreamTable::new(StreamLimits::default());
    let mut got = Vec::new();
    let syn = Segment {
        key: key(0),
        context: (),
        time: Timestamp::EPOCH,
        seq: isn,
        ack: None,
        flags: TCP_SYN,
        payload: &[],
        missing: 0,
    };
    table.segment(&syn, |(), _| unreachable!("no octet was sent"));
    for (start, end) in segments {
        let seq = isn.wrapping_add(1 + start as u32);
        let flags = if end == stream.len() { TCP_FIN } else { 0 };
        let payload = &stream[start..end];
        let segment = Segment { seq, flags, payload, ..syn };
        table.segment(&segment, |(), message| got.push(message.bytes.to_vec()));
    }
    assert_eq!(got, messages);
    assert_eq!(table.bytes(), 0);
    assert_eq!(table.take_losses(), StreamLosses::default());
}
