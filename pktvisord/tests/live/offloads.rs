//! DNS over TCP counts once per message, whatever super-packets carry it. Tested with segmentation
//! by the network card (TSO, GSO) and joined segments (GRO), as on most hosts, and without.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use pktvisor_common::api::MetricsView;

use crate::support::dns::{A, Message, NOERROR};
use crate::support::net::{DNS_PORT, Pair, Statistics};
use crate::{Watch, can_run, modes, outcomes_sum_up};

/// Payload bytes of a full segment with TCP timestamps.
const SEGMENT: u64 = 1_448;
/// Bytes of one answer of [`Message`].
const ANSWER: usize = 16;

/// Answers the queries on one connection with messages of about `bytes` bytes. Sends the answers of
/// `together` queries at once. Returns the bytes sent.
fn serve(pair: &Pair, bytes: usize, together: usize) -> JoinHandle<u64> {
    let port: u16 = DNS_PORT.parse().unwrap();
    let listener = TcpListener::bind((pair.v4.as_str(), port)).expect("a port for DNS");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut waiting, mut sent) = (Vec::new(), 0);
        while let Some(message) = read(&mut stream) {
            let id = u16::from_be_bytes([message[0], message[1]]);
            let answers = (bytes / ANSWER) as u16;
            let reply = Message::query(id, &name(id), A).reply(NOERROR, answers).framed();
            waiting.push(reply);
            if waiting.len() == together {
                let all = waiting.drain(..).flatten().collect::<Vec<u8>>();
                sent += all.len() as u64;
                stream.write_all(&all).expect("the client takes it");
            }
        }
        sent
    })
}

/// Sends `count` queries over one connection from the second host, `together` at once.
fn ask(pair: &Pair, count: u16, together: usize) {
    let ids: Vec<u16> = (0..count).collect();
    let port: u16 = DNS_PORT.parse().unwrap();
    pair.do_there(|| {
        let mut stream = TcpStream::connect((pair.v4.as_str(), port)).expect("a server");
        for ids in ids.chunks(together) {
            let query = |id: &u16| Message::query(*id, &name(*id), A).framed();
            let queries: Vec<u8> = ids.iter().flat_map(query).collect();
            stream.write_all(&queries).expect("the server takes it");
            for id in ids {
                let reply = read(&mut stream).expect("a reply");
                assert_eq!(reply[..2], id.to_be_bytes());
            }
        }
    });
}

fn name(id: u16) -> String {
    format!("n{id}.example.org")
}

/// Reads the next message of a stream; `None` at its end.
fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// Runs a client and a server while the daemon watches. Returns the view, the interface's counters,
/// and the bytes of the replies.
fn exchange(
    mode: &str,
    offloads: bool,
    count: u16,
    bytes: usize,
    together: usize,
) -> (MetricsView, Statistics, u64) {
    let pair = Pair::new(offloads, 1500);
    let watch = Watch::start(&pair, &["--capture", mode, "-H", &pair.v4]);
    let server = serve(&pair, bytes, together);
    ask(&pair, count, together);
    let sent = server.join().expect("it ends");
    let (view, since) = watch.settled(&pair);
    (view, since, sent)
}

#[track_caller]
fn counts_once(view: &MetricsView, count: u16, what: &str) {
    let count = u64::from(count);
    let wire = &view.dns.wire_packets;
    assert_eq!((wire.queries, wire.replies), (count, count), "{what}: {:?}", view.capture);
    assert_eq!((wire.tcp, wire.malformed), (2 * count, 0), "{what}");
    assert_eq!(view.dns.rates.total.map(|rates| rates.p99 <= 2 * count), Some(true), "{what}");
    let counts = &view.dns.xact.counts;
    assert_eq!((counts.total, counts.orphans), (count, 0), "{what}: {counts:?}");
    assert_eq!(view.dns.xact.inbound.total, count, "{what}");
    assert_eq!(view.dns.cardinality.qname, count, "{what}");
    let entries = view.dns.top_qname3.iter().chain(&view.dns.top_noerror);
    assert!(entries.clone().count() > 0 && entries.map(|entry| entry.estimate).max() <= Some(2));
    assert_eq!(view.capture.tcp_reassembly_errors, 0, "{what}: {:?}", view.capture);
    assert_eq!(view.capture.ring_full + view.capture.kernel_drops, 0, "{what}");
    assert!(!view.capture.outcomes.contains_key("truncated"), "{what}: {:?}", view.capture);
    outcomes_sum_up(view);
}

/// Returns the modes that see packets as the kernel has them, including super-packets.
fn with_super_packets() -> Vec<&'static str> {
    [&modes()[1..], &["libpcap"]].concat()
}

#[test]
fn counts_large_replies_over_tcp_once() {
    if !can_run() {
        return;
    }
    for mode in with_super_packets() {
        // One by one, and all in one stretch, which fills super-packets of 64 KiB.
        for (bytes, together) in [(4_000, 1), (20_000, 1), (20_000, 50)] {
            // Without offloads, the last case is enough.
            let offloads: &[bool] = if together == 1 { &[true] } else { &[true, false] };
            for &offloads in offloads {
                let what = format!("{mode}, {bytes} bytes, {together}, offloads {offloads}");
                let (view, since, sent) = exchange(mode, offloads, 50, bytes, together);
                counts_once(&view, 50, &what);
                let segments = sent.div_ceil(SEGMENT);
                if offloads {
                    assert!(since.tx_packets < segments, "{what}: the test has super-packets");
                } else {
                    assert!(since.tx_packets >= segments, "{what}: there are none");
                }
                // A super-packet counts as its segments, except with libpcap.
                if mode != "libpcap" {
                    assert!(view.packets.outbound >= segments, "{what}: {segments} segments");
                }
            }
        }
    }
}

#[test]
fn counts_pipelined_queries_over_tcp_once() {
    if !can_run() {
        return;
    }
    for mode in with_super_packets() {
        for offloads in [true, false] {
            let (view, _, _) = exchange(mode, offloads, 200, 60, 200);
            counts_once(&view, 200, &format!("{mode}, offloads {offloads}"));
        }
    }
}
