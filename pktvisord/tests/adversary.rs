//! Packets of someone who has read the source: what they add up to stays right, whatever they cost.
//!
//! `cargo xtask bench adversary` measures what they cost.

mod support;

use std::net::Ipv6Addr;

use pktvisor_common::api::MetricsView;
use pktvisor_common::sketch::key::FleetKey;
use support::capture::{Capture, Folder, MILLISECOND, START};
use support::dns::{A, Message, NOERROR};
use support::frame::{self, Flow};
use support::program::{run, view};
use xxhash_rust::xxh3::xxh3_64;

const SERVER: &str = "2001:db8:53::53";
/// Low bits that the hashes of colliding keys have in common, and how many keys there are.
const COLLIDING_BITS: u32 = 10;
const COLLIDING: usize = 1_000;

/// Registers of a distinct count, and of how many keys each gets the best.
const REGISTERS: u64 = 1 << 14;
const TRIED: u64 = REGISTERS << 6;
/// Keys of others, beside those of the attacker.
const OTHERS: u64 = 20_000;
/// Names whose hashes by XXH3-64 with seed 0 are one: that was the key of names once.
const OF_ONE_HASH: u64 = 65_000;
/// A key of a fleet.
const FLEET_KEY: &[u8] = b"c0ffee5eed0123456789abcdef314159";

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
    summary_with(&[], packets)
}

fn summary_with(options: &[&str], packets: &[Vec<u8>]) -> MetricsView {
    let folder = Folder::new();
    let file = folder.store("capture.pcap", &file(packets));
    view(&run(&[options, &["--summary", "-H", SERVER, &file]].concat()))
}

/// The name in wire form, without its final empty label.
fn wire(name: &str) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes()].concat()
}

/// Of many numbers, for each register of a distinct count that has no fleet key, the one whose key
/// moves it most.
fn forged(key: impl Fn(u64) -> Vec<u8>) -> Vec<u64> {
    let public = FleetKey::default();
    let mut best = vec![(0, 0); REGISTERS as usize];
    for number in OTHERS..OTHERS + TRIED {
        let hash = public.hash(&key(number));
        let best = &mut best[(hash >> 50) as usize];
        *best = (*best).max(((hash << 14).leading_zeros(), number));
    }
    best.into_iter().map(|(_, number)| number).filter(|&number| number > 0).collect()
}

fn query_of(client: Ipv6Addr, name: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(name);
    message.extend([0, 0, 1, 0, 1]);
    frame::udp(&flow(client, 4_000), &message)
}

/// An attacker sends the 16,384 names from the 16,384 addresses that raise distinct counts most, where
/// their keys are public. Those who have a fleet key count what there is.
#[test]
fn keys_that_are_chosen_move_no_distinct_count_of_those_who_have_a_fleet_key() {
    let name = |number: u64| wire(&format!("{number:x}"));
    let names = forged(name);
    let clients = forged(|number| client(number).octets().to_vec());
    let chosen = names.len().min(clients.len()) as u64;
    assert!(chosen > REGISTERS * 9 / 10, "{chosen}");
    // Those of others come twice, as most do.
    let of_others = (0..2 * OTHERS).map(|at| (at % OTHERS, at % OTHERS));
    let packets: Vec<Vec<u8>> = of_others
        .chain(names.into_iter().zip(clients))
        .map(|(number, from)| query_of(client(from), &name(number)))
        .collect();
    let truth = OTHERS + chosen;
    let folder = Folder::new();
    let key = folder.store("key", FLEET_KEY);
    let counts = |options: &[&str]| {
        let view = summary_with(options, &packets);
        [view.dns.cardinality.qname, view.packets.cardinality.src_ips_in]
    };
    for count in counts(&["--fleet-key", &key]) {
        let error = count.abs_diff(truth) as f64 / truth as f64 * 100.0;
        assert!(error < 3.0 * 0.81, "{count} of {truth}");
    }
    for count in counts(&[]) {
        assert!(count > truth * 5 / 4, "the attack has no effect: {count} of {truth}");
        assert!(count <= packets.len() as u64, "more than there were packets: {count}");
    }
}

/// Bytes 16 to 23 of a label of 63 bytes make the product zero that XXH3 multiplies the next eight
/// by (kSecret + 32), so that those are free.
#[test]
fn names_of_one_hash_by_the_key_of_old_all_count() {
    const SECRET: [u8; 8] = [0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78];
    let name = |number: u64| {
        let mut name = [b'x'; 64];
        name[0] = 63;
        name[16..24].copy_from_slice(&SECRET);
        name[24..32].copy_from_slice(format!("{number:08x}").as_bytes());
        name
    };
    let hash = |number| xxh3_64(&name(number));
    assert!((1..99).all(|number| hash(number) == hash(0)));
    let packets: Vec<Vec<u8>> =
        (0..OF_ONE_HASH).map(|number| query_of(client(1), &name(number))).collect();
    let folder = Folder::new();
    let key = folder.store("key", FLEET_KEY);
    for options in [&["--fleet-key", &key][..], &[]] {
        let count = summary_with(options, &packets).dns.cardinality.qname;
        let error = count.abs_diff(OF_ONE_HASH) as f64 / OF_ONE_HASH as f64 * 100.0;
        assert!(error < 3.0 * 0.81, "{count} with {options:?}");
    }
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
    let collides = |key: &[u8]| FleetKey::default().hash(key).trailing_zeros() >= COLLIDING_BITS;
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
