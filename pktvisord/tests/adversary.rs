//! Packets of someone who has read the source: what they add up to stays right, whatever they cost.
//!
//! `cargo xtask bench adversary` measures what they cost.

mod support;

use std::net::Ipv6Addr;

use pktvisor_common::api::MetricsView;
use support::capture::{Capture, Folder, MILLISECOND, START};
use support::dns::{A, Message, NOERROR};
use support::frame::{self, Flow};
use support::program::{run, view};
use xxhash_rust::xxh3::xxh3_64;

const SERVER: &str = "2001:db8:53::53";
/// Low bits that the hashes of colliding keys have in common, and how many keys there are.
const COLLIDING_BITS: u32 = 10;
const COLLIDING: usize = 1_000;

fn flow(client: Ipv6Addr, port: u16) -> Flow {
    Flow::new(client.into(), port, SERVER.parse().expect("an address"), 53)
}

fn client(number: u64) -> Ipv6Addr {
    Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(number))
}

/// Packets of one millisecond each, as a file.
fn file(packets: &[Vec<u8>]) -> Vec<u8> {
    let times = (0..).map(|at| START + at * MILLISECOND);
    let packets = times.zip(packets.iter().map(|packet| frame::ethernet(packet))).collect();
    Capture { packets }.pcap()
}

fn summary(packets: &[Vec<u8>]) -> MetricsView {
    let folder = Folder::new();
    let file = folder.store("capture.pcap", &file(packets));
    view(&run(&["--summary", "-H", SERVER, &file]))
}

/// A query whose questions all ask for the first one's name, which is long, by pointers.
fn pointers_to_one_name(count: u16) -> Vec<u8> {
    let mut message = [&[0, 1, 1, 0][..], &count.to_be_bytes(), &[0; 6]].concat();
    message.extend([&[63][..], &[b'a'; 63]].concat().repeat(3));
    message.extend([0, 0, 1, 0, 1]);
    message.extend([0xc0, 12, 0, 1, 0, 1].repeat(usize::from(count) - 1));
    message
}

#[test]
fn keys_whose_public_hashes_collide_all_count() {
    let collides = |key: &[u8]| xxh3_64(key).trailing_zeros() >= COLLIDING_BITS;
    let wire = |name: &str| [&[name.len() as u8], name.as_bytes()].concat();
    let names = (0..).map(|number: u64| format!("{number:x}"));
    let names = names.filter(|name| collides(&wire(name))).take(COLLIDING);
    let clients = (0..).map(client).filter(|client| collides(&client.octets())).take(COLLIDING);
    let query = |(name, client): (String, Ipv6Addr)| {
        frame::udp(&flow(client, 4_000), &Message::query(1, &name, A).octets())
    };
    let view = summary(&names.zip(clients).map(query).collect::<Vec<_>>());
    let many = COLLIDING as u64;
    assert_eq!(view.dns.cardinality.qname, many);
    assert_eq!(view.dns.wire_packets.queries, many);
    assert_eq!(view.packets.cardinality.src_ips_in, many);
}

#[test]
fn names_behind_pointers_are_read_as_far_as_their_effort_goes() {
    let view =
        |count| summary(&[frame::udp(&flow(client(1), 4_000), &pointers_to_one_name(count))]);
    let few = view(3);
    assert_eq!(few.capture.evictions.get("dns_records_unread"), None);
    assert_eq!(few.dns.top_qtype[0].estimate, 3);
    let many = view(60);
    assert_eq!(many.capture.evictions["dns_records_unread"], 1);
    assert!((3..20).contains(&many.dns.top_qtype[0].estimate));
    assert_eq!(many.dns.wire_packets.malformed, 0);
}

/// Tables hash by keys that each process makes anew, and nothing that is shown depends on them.
#[test]
fn ten_runs_show_the_same() {
    let mut packets = Vec::new();
    for number in 0..2_000_u64 {
        let id = number as u16;
        let to = flow(client(number % 700), 4_000 + id % 90);
        let question = Message::query(id, &format!("name{}.example", number % 300), A);
        let (query, reply) = (question.octets(), question.reply(NOERROR, 1).octets());
        match number % 5 {
            // Without a question, twice, too early, without a query.
            0 => {
                let header = [&reply[..4], &[0; 8]].concat();
                packets.extend(
                    [(&to, query), (&to.reversed(), header)]
                        .map(|(flow, message)| frame::udp(flow, &message)),
                );
            }
            1 => packets.extend(
                [(&to, &query), (&to.reversed(), &reply), (&to.reversed(), &reply)]
                    .map(|(flow, message)| frame::udp(flow, message)),
            ),
            2 => packets.extend([frame::udp(&to.reversed(), &reply), frame::udp(&to, &query)]),
            3 => packets.push(frame::udp(&to.reversed(), &reply)),
            _ => packets.push(frame::udp(&to, &query)),
        }
    }
    let folder = Folder::new();
    let file = folder.store("capture.pcap", &file(&packets));
    let shown = || run(&["--summary", "-H", SERVER, "--workers", "2", &file]).stdout;
    let first = shown();
    assert!(!first.is_empty());
    for _ in 1..10 {
        assert_eq!(first, shown());
    }
}
