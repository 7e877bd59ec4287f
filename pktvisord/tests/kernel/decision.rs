//! All inputs decide alike: the same packets give the same summary through the kernel programs and
//! from a capture file.

use std::collections::BTreeMap;
use std::sync::Arc;

use pktvisor_common::api::{self, MetricsView};
use pktvisor_common::sketch::key::FleetKey;
use pktvisord::aggregate::flows::Share;
use pktvisord::aggregate::geo::{Geo, GeoDatabases};
use pktvisord::aggregate::host::HostSpec;
use pktvisord::aggregate::scanner::Piece;
use pktvisord::aggregate::settings::{Settings, Tunnels};
use pktvisord::aggregate::worker::Worker;
use pktvisord::decode::block::{Block, LinkType, PacketRecord};
use pktvisord::store::Store;
use pktvisord::store::minutes::Retention;
use pktvisord::time::{SECOND, Span, Timestamp};

use crate::bench::{Bench, Gso, HOSTS, PROGRAMS, Program, bench, is_taken};
use crate::support::dns::{A, Message, NOERROR};
use crate::support::frame::{self, ACK, Flow};
use crate::support::shapes::{self, address};

/// Time of the first packet: the start of a minute, so that all packets are in one minute.
const NOW: Timestamp = Timestamp::from_minute(28_000_000);

fn settings(tunnels: Tunnels) -> Arc<Settings> {
    Arc::new(Settings {
        hosts: HOSTS.parse::<HostSpec>().unwrap().into(),
        tunnels,
        ..Settings::default()
    })
}

fn worker(settings: &Arc<Settings>, spread: bool) -> Worker {
    let store = Store::inline(1, Retention { periods: 5, single: false });
    let (settings, share) = (Arc::clone(settings), Share { worker: 0, of: 1 });
    let mut worker = match spread {
        true => Worker::of_spread_packets(settings, store.intake(), share),
        false => Worker::alone(settings, store.intake()),
    };
    worker.advance(NOW);
    worker
}

fn view(mut worker: Worker) -> MetricsView {
    let mut geo = Geo::new(Arc::new(GeoDatabases::default()), FleetKey::default());
    worker.end_input();
    let mut view = worker.snapshot(NOW + SECOND).finish(NOW + SECOND, &mut geo).0.view();
    // Rates differ: the kernel's counters are read once a second.
    view.packets.rates = api::PacketRates::default();
    view
}

/// Returns packets for every path of the decision.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = [shapes::frames(), shapes::wrapped(), shapes::tunnelled()].concat();
    for (host, remote) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")] {
        let (host, remote) = (address(host), address(remote));
        // Both ports may be ephemeral ports of a client: it is DNS only if the payload parses as a
        // message.
        let message = Message::query(9, "doubtful.example", A);
        for (payload, reply) in [
            (message.octets(), message.reply(NOERROR, 1).octets()),
            (vec![0x55; 60], vec![0xaa; 60]),
        ] {
            let flow = Flow::new(remote, 40_001, host, 53_000);
            frames.push(frame::ethernet(&frame::udp(&flow, &payload)));
            frames.push(frame::ethernet(&frame::udp(&flow.reversed(), &reply)));
        }
        for (port, payload) in [(40_002, message.framed()), (40_003, vec![0x55; 60])] {
            let flow = Flow::new(remote, port, host, 53_000);
            frames.push(frame::ethernet(&frame::tcp(&flow, 1, ACK, &payload)));
        }
        // A tunnel from such a port, and one between a DNS port and a tunnel's port.
        let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &frames[0]].concat();
        for port in [53_000, 53] {
            let flow = Flow::new(remote, port, host, 4_789);
            frames.push(frame::ethernet(&frame::udp(&flow, &vxlan)));
        }
        // Frames that are shorter than their IP length.
        let query = Flow::new(remote, 4_243, host, 53);
        let long = Message::query(10, "cut.example", A).reply(NOERROR, 20).octets();
        for cut in [54, 60, 80, 120] {
            let mut udp = frame::ethernet(&frame::udp(&query.reversed(), &long));
            udp.truncate(cut + 20 * usize::from(host.is_ipv6()));
            frames.push(udp);
            let mut tcp = frame::ethernet(&frame::tcp(&query, 1, ACK, &message.framed()));
            tcp.truncate(cut + 20 * usize::from(host.is_ipv6()));
            frames.push(tcp);
        }
    }
    frames
}

/// Returns the summary of frames that went through a kernel program.
fn by_kernel(
    bench: &mut Bench,
    program: Program,
    settings: &Arc<Settings>,
    frames: &[Vec<u8>],
) -> MetricsView {
    let mut worker = worker(settings, true);
    for (frame, nanoseconds) in frames.iter().zip(0..) {
        let time = NOW + Span::from_nanos(nanoseconds);
        let (_, led) = bench.run(program, frame, Gso::default());
        let decided: u64 = led.counted.outcomes.iter().sum();
        assert_eq!(decided + led.counted.undecided, led.counted.total(), "{frame:?}");
        worker.add_counted(&led.counted, Some(time));
        for (_, header, bytes) in led.records {
            worker.sample(&header.unwrap(), &bytes, time);
        }
    }
    view(worker)
}

/// Returns the summary of the same frames from a file.
fn by_file(settings: &Arc<Settings>, frames: &[Vec<u8>]) -> MetricsView {
    let mut worker = worker(settings, false);
    let mut block = Block::default();
    for (frame, nanoseconds) in frames.iter().zip(0..) {
        let time = NOW + Span::from_nanos(nanoseconds);
        let length = frame.len() as u32;
        block.packets.push(PacketRecord {
            time,
            offset: block.data.len() as u32,
            captured: length,
            wire_len: length,
            link: LinkType::Ethernet,
        });
        block.data.extend(frame);
    }
    let packets = 0..frames.len();
    let latest = NOW + Span::from_nanos(frames.len() as i64);
    let block = Arc::new(block);
    let piece = Piece { block, packets, before: 0, since: NOW, latest, is_outlier: false };
    worker.read(&piece);
    view(worker)
}

fn sum(outcomes: &BTreeMap<String, u64>) -> u64 {
    outcomes.values().sum()
}

#[test]
fn kernel_and_file_decide_alike() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let frames: Vec<Vec<u8>> =
        frames().into_iter().filter(|frame| is_taken(PROGRAMS[2], frame)).collect();
    for tunnels in [Tunnels::Outer, Tunnels::Inner] {
        bench.tunnels = tunnels;
        bench.configure();
        let settings = settings(tunnels);
        let of_file = by_file(&settings, &frames);
        assert_eq!(of_file.packets.total, frames.len() as u64);
        assert_eq!(sum(&of_file.capture.outcomes), of_file.packets.total);
        let some = ["dns", "headers", "non_ip", "fragment", "truncated", "malformed"];
        for outcome in some {
            assert!(of_file.capture.outcomes[outcome] > 0, "{outcome}");
        }
        let tunnels_left = of_file.capture.outcomes["tunnel"];
        match tunnels {
            Tunnels::Outer => assert!(tunnels_left > 200, "{tunnels_left}"),
            // Tunnels whose content is not read, and tunnels nested too deeply.
            Tunnels::Inner => assert!((1..100).contains(&tunnels_left), "{tunnels_left}"),
        }
        let text = |view: &MetricsView| serde_json::to_string_pretty(view).unwrap();
        let (of_file, of_kernel) =
            (text(&of_file), text(&by_kernel(&mut bench, PROGRAMS[2], &settings, &frames)));
        let differ: Vec<_> = of_file
            .lines()
            .zip(of_kernel.lines())
            .filter(|(file, kernel)| file != kernel)
            .collect();
        assert!(of_file == of_kernel, "{tunnels:?}: file and kernel differ: {differ:#?}");
    }
}

#[test]
fn payload_alone_decides_on_doubtful_ports() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("198.51.100.7"), 40_001, address("192.0.2.1"), 53_000);
    let message = Message::query(9, "doubtful.example", A);
    let frames = [message.octets(), vec![0x55; 60]]
        .map(|payload| frame::ethernet(&frame::udp(&flow, &payload)));
    let settings = settings(Tunnels::Outer);
    for view in
        [by_file(&settings, &frames), by_kernel(&mut bench, PROGRAMS[2], &settings, &frames)]
    {
        let expected = BTreeMap::from([("dns".to_owned(), 1), ("headers".to_owned(), 1)]);
        assert_eq!(view.capture.outcomes, expected);
        assert_eq!(view.dns.wire_packets.total, 1);
    }
}

#[test]
fn super_packets_give_the_same_messages_as_a_file() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("198.51.100.7"), 4_242, address("192.0.2.1"), 53);
    let mut frames = Vec::new();
    let (mut query_seq, mut reply_seq) = (1, 1);
    for (round, answers) in [(0u16, 3_500), (10, 1_200), (20, 40)] {
        let ids = round..round + 3;
        let query = |id: u16| Message::query(id, &format!("n{id}.example"), A);
        let queries: Vec<u8> = ids.clone().flat_map(|id| query(id).framed()).collect();
        let replies: Vec<u8> =
            ids.flat_map(|id| query(id).reply(NOERROR, answers).framed()).collect();
        frames.push(frame::ethernet(&frame::tcp(&flow, query_seq, ACK, &queries)));
        query_seq += queries.len() as u32;
        // Up to as many bytes as one test run takes.
        for part in replies.chunks(61_000) {
            frames.push(frame::ethernet(&frame::tcp(&flow.reversed(), reply_seq, ACK, part)));
            reply_seq += part.len() as u32;
        }
    }
    // Over UDP, such a message needs a jumbo frame.
    let query = Message::query(99, "large.example", A);
    frames.push(frame::ethernet(&frame::udp(&flow, &query.octets())));
    let reply = query.reply(NOERROR, 500).octets();
    frames.push(frame::ethernet(&frame::udp(&flow.reversed(), &reply)));
    let settings = settings(Tunnels::Outer);
    let of_file = by_file(&settings, &frames);
    assert_eq!(of_file.dns.wire_packets.replies, 10);
    assert_eq!(of_file.dns.xact.counts.total, 10);
    assert_eq!(by_kernel(&mut bench, PROGRAMS[1], &settings, &frames), of_file);
}
