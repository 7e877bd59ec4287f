//! Packets of an attacker who has read the source. The counts stay right, whatever the packets
//! cost.
//!
//! `cargo xtask bench adversary` measures the cost.

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
/// Low bits that the hashes of colliding keys share, and the number of these keys.
const COLLIDING_BITS: u32 = 10;
const COLLIDING: usize = 1_000;

/// Registers of a distinct count, and the number of keys tried for all of them.
const REGISTERS: u64 = 1 << 14;
const TRIED: u64 = REGISTERS << 6;
/// Keys of other clients, beside those of the attacker.
const OTHERS: u64 = 20_000;
/// Number of names with one hash by XXH3-64 with seed 0, which distinct counts used before.
const OF_ONE_HASH: u64 = 65_000;
/// A fleet key.
const FLEET_KEY: &[u8] = b"c0ffee5eed0123456789abcdef314159";

fn flow(client: Ipv6Addr, port: u16) -> Flow {
    Flow::new(client.into(), port, SERVER.parse().expect("an address"), 53)
}

fn client(number: u64) -> Ipv6Addr {
    Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(number))
}

/// Returns a capture file of the packets, one millisecond apart.
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

/// Returns a one-label name in wire format, without the final empty label.
fn wire(name: &str) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes()].concat()
}

/// For each register of a distinct count under the public key, returns the number whose key raises
/// it most.
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

/// An attacker sends the up to 16,384 names and addresses that raise distinct counts most under the
/// public key. Under a fleet key the counts stay right.
#[test]
fn chosen_keys_raise_no_distinct_count_under_a_fleet_key() {
    let name = |number: u64| wire(&format!("{number:x}"));
    let names = forged(name);
    let clients = forged(|number| client(number).octets().to_vec());
    let chosen = names.len().min(clients.len()) as u64;
    assert!(chosen > REGISTERS * 9 / 10, "{chosen}");
    // Keys of other clients come twice, as most keys do.
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

/// Bytes 16 to 23 of a label of 63 bytes cancel the secret (kSecret + 32), so one factor of a
/// product of XXH3 is zero. The next eight bytes, which are the other factor, do not change the
/// hash.
#[test]
fn counts_names_that_collide_under_xxh3() {
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

/// Returns a query with many questions. All but the first are pointers to the first name, which is
/// long.
fn pointers_to_one_name(count: u16) -> Vec<u8> {
    let mut message = [&[0, 1, 1, 0][..], &count.to_be_bytes(), &[0; 6]].concat();
    message.extend([&[63][..], &[b'a'; 63]].concat().repeat(3));
    message.extend([0, 0, 1, 0, 1]);
    message.extend([0xc0, 12, 0, 1, 0, 1].repeat(usize::from(count) - 1));
    message
}

#[test]
fn counts_keys_whose_public_hashes_collide() {
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
fn bounds_the_effort_for_names_behind_pointers() {
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

/// Tables hash by keys that are new in each process. The output must not depend on them.
#[test]
fn ten_runs_give_the_same_output() {
    let mut packets = Vec::new();
    for number in 0..2_000_u64 {
        let id = number as u16;
        let to = flow(client(number % 700), 4_000 + id % 90);
        let question = Message::query(id, &format!("name{}.example", number % 300), A);
        let (query, reply) = (question.octets(), question.reply(NOERROR, 1).octets());
        match number % 5 {
            // A reply without a question, two replies, a reply before its query, a reply without a
            // query.
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
