//! Runs the kernel programs on packets of every shape with `BPF_PROG_TEST_RUN`. What they count and
//! copy must match what user space makes of the same bytes.

mod bench;
mod decision;
#[path = "../support/mod.rs"]
mod support;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use bench::{Bench, Gso, HOSTS, LEAST, PIECE, PROGRAMS, RING_SIZE, bench};
use pktvisor_common::abi::{Kind, MORE, RECORD_PAYLOAD, SAMPLE_HEADER, Start};
use pktvisor_common::direction::Direction;
use pktvisor_common::flow::{FlowKey, mix};
use pktvisor_common::outcome::Outcome;
use pktvisor_common::sampling::Rate;
use pktvisord::aggregate::settings::Tunnels;
use support::dns::{A, Message, NOERROR};
use support::frame::{self, ACK, Flow};
use support::random::Random;
use support::shapes::{address, frames, packets, tunnelled, wrapped};

#[test]
fn matches_user_space_on_every_shape_and_length() {
    let Some(mut bench) = bench(HOSTS) else { return };
    for program in PROGRAMS {
        let bytes = match program.start {
            Start::Ethernet => frames(),
            Start::Ip => packets(),
        };
        for packet in bytes {
            // Every cut within the headers, and some beyond them.
            let cuts = (LEAST..packet.len().min(130)).chain((130..packet.len()).step_by(401));
            for cut in cuts.chain([packet.len()]) {
                bench.check(program, &packet[..cut], Gso::default());
            }
        }
    }
}

/// Indices of one XDP and one TC program, for tests that do not depend on the hook.
const BOTH: [usize; 2] = [0, 2];

#[test]
fn matches_user_space_on_every_link_layer_wrapping() {
    let Some(mut bench) = bench(HOSTS) else { return };
    for program in BOTH {
        for packet in wrapped() {
            for cut in (LEAST..packet.len().min(150)).chain([packet.len()]) {
                bench.check(PROGRAMS[program], &packet[..cut], Gso::default());
            }
        }
    }
}

#[test]
fn matches_user_space_on_every_tunnel() {
    let Some(mut bench) = bench(HOSTS) else { return };
    for tunnels in [Tunnels::Outer, Tunnels::Inner] {
        bench.tunnels = tunnels;
        bench.configure();
        for program in BOTH {
            for packet in tunnelled() {
                let cuts = (LEAST..packet.len().min(240)).chain([packet.len()]);
                // Every cut of short packets, and every seventh of longer ones.
                let every = packet.len() < 200;
                for cut in cuts.filter(|cut| every || *cut == packet.len() || cut % 7 == 0) {
                    bench.check(PROGRAMS[program], &packet[..cut], Gso::default());
                }
            }
        }
    }
}

#[test]
fn matches_user_space_on_random_packets_in_tunnels() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let mut random = Random::new(12);
    let seeds = [wrapped(), tunnelled()].concat();
    for round in 0..10_000 {
        if round % 5_000 == 0 {
            bench.tunnels = if round == 0 { Tunnels::Inner } else { Tunnels::Outer };
            bench.configure();
        }
        let mut packet = random.pick(&seeds).clone();
        for _ in 0..random.below(4) {
            let at = random.below(packet.len().min(120) as u64) as usize;
            packet[at] = match random.percent(50) {
                true => random.next() as u8,
                false => *random.pick(&[0, 1, 8, 0x10, 0x30, 0x45, 0x60, 17, 47, 0x81, 0x88]),
            };
        }
        bench.check(PROGRAMS[BOTH[round % 2]], &packet, Gso::default());
    }
}

#[test]
fn copies_super_packet_of_dns_whole() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("192.0.2.1"), 53, address("198.51.100.7"), 5000);
    let part = RECORD_PAYLOAD as usize;
    // Only with XDP does a test run take packets this long, in pieces.
    for length in [part - 1, part, part + 1, 2 * part, 2 * part + 1, 60_000] {
        let payload: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let stream = frame::ethernet(&frame::tcp(&flow, 1, ACK, &payload));
        bench.check(PROGRAMS[1], &stream, Gso::default());
        let (_, led) = bench.run(PROGRAMS[1], &stream, Gso::default());
        assert_eq!(led.records.len(), length.div_ceil(part), "{length}");
        let of_records: Vec<u8> =
            led.records.iter().flat_map(|(_, _, bytes)| &bytes[54..]).copied().collect();
        assert_eq!(of_records, payload, "{length}");
        let more: Vec<bool> =
            led.records.iter().map(|(_, header, _)| header.unwrap().has(MORE)).collect();
        assert!(more.iter().rev().skip(1).all(|more| *more) && !more[more.len() - 1]);
        assert_eq!(led.counted.outcomes[Outcome::Dns as usize], 1, "{length}");
    }
}

#[test]
fn matches_user_space_on_random_packets() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let mut random = Random::new(11);
    let seeds = frames();
    for _ in 0..20_000 {
        let mut packet = random.pick(&seeds).clone();
        for _ in 0..random.below(6) {
            let end = if random.percent(80) { packet.len().min(80) } else { packet.len() };
            let at = random.below(end as u64) as usize;
            packet[at] = if random.percent(50) {
                random.next() as u8
            } else {
                *random.pick(&[0, 1, 0xff, 0x45, 0x60, 17, 6, 44, 51])
            };
        }
        packet.truncate(LEAST + random.below(packet.len() as u64) as usize);
        bench.check(*random.pick(&PROGRAMS), &packet, Gso::default());
    }
}

#[test]
fn takes_direction_from_the_hook_without_host() {
    let Some(mut bench) = bench("") else { return };
    for program in PROGRAMS {
        for packet in if program.start == Start::Ip { packets() } else { frames() } {
            bench.check(program, &packet, Gso::default());
        }
    }
}

#[test]
fn matches_many_ranges_of_host() {
    let ranges: Vec<String> = (0..40)
        .flat_map(|at| [format!("192.0.2.{at}/32"), format!("2001:db8::{at:x}/128")])
        .chain(["10.0.0.0/8".into(), "fd00::/8".into()])
        .collect();
    let Some(mut bench) = bench(&ranges.join(",")) else { return };
    let flow = |src: &str, dst: &str| {
        frame::ethernet(&frame::udp(&Flow::new(address(src), 9, address(dst), 10), b"x"))
    };
    let direction = |bench: &mut Bench, src, dst| {
        let (_, led) = bench.run(PROGRAMS[2], &flow(src, dst), Gso::default());
        Direction::from_number(led.records[0].1.unwrap().direction)
    };
    assert_eq!(direction(&mut bench, "198.51.100.1", "192.0.2.39"), Direction::In);
    assert_eq!(direction(&mut bench, "192.0.2.39", "198.51.100.1"), Direction::Out);
    assert_eq!(direction(&mut bench, "192.0.2.40", "198.51.100.1"), Direction::Unknown);
    assert_eq!(direction(&mut bench, "10.9.8.7", "198.51.100.1"), Direction::Out);
    assert_eq!(direction(&mut bench, "2001:db8:1::1", "2001:db8::27"), Direction::In);
    assert_eq!(direction(&mut bench, "fd12::1", "2001:db8:1::28"), Direction::Out);
    // Ranges that are no longer in HOST are removed.
    bench.hosts = ranges[2..].join(",").parse().unwrap();
    bench.configure();
    assert_eq!(direction(&mut bench, "192.0.2.0", "198.51.100.1"), Direction::Unknown);
    assert_eq!(direction(&mut bench, "2001:db8:1::1", "2001:db8::27"), Direction::In);
}

#[test]
fn super_packet_stands_for_its_segments() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("192.0.2.1"), 443, address("198.51.100.7"), 5000);
    let stream = frame::ethernet(&frame::tcp(&flow, 1, ACK, &[0; 3_000]));
    for (size, segments, n) in
        [(1_448, 3, 3), (1_448, 0, 3), (1_000, 0, 3), (0, 0, 1), (3_000, 1, 1)]
    {
        let gso = Gso { size, segments };
        let (_, led) = bench.run(PROGRAMS[3], &stream, gso);
        assert_eq!(led.counted.tcp, n, "{gso:?}");
        assert_eq!(led.counted.bytes[1], 3_000 + n * 54, "{gso:?}");
        assert_eq!(led.records[0].1.unwrap().n, n as u16);
        bench.check(PROGRAMS[3], &stream, gso);
    }
}

#[test]
fn reads_jumbo_frames_across_pieces() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("198.51.100.7"), 4242, address("192.0.2.1"), 53);
    for length in [PIECE - 60, PIECE, 4_090, 4_100, 8_000] {
        let frame = frame::ethernet(&frame::udp(&flow, &vec![9; length]));
        bench.check(PROGRAMS[1], &frame, Gso::default());
    }
}

#[test]
fn samples_dns_by_flow_and_id() {
    let Some(mut bench) = bench(HOSTS) else { return };
    bench.dns = Rate::of(1, 3);
    bench.configure();
    let mut taken = 0;
    for id in 0..600 {
        let flow = Flow::new(address("198.51.100.7"), 4242, address("192.0.2.1"), 53);
        let query = Message::query(id, "example.org", A);
        let packets = [
            frame::ethernet(&frame::udp(&flow, &query.octets())),
            frame::ethernet(&frame::udp(&flow.reversed(), &query.reply(NOERROR, 1).octets())),
        ];
        let of_pair = packets.map(|packet| {
            bench.check(PROGRAMS[2], &packet, Gso::default());
            bench.run(PROGRAMS[0], &packet, Gso::default()).1.records.len()
        });
        assert_eq!(of_pair[0], of_pair[1], "a query and its reply go together");
        taken += of_pair[0];
    }
    assert!((140..260).contains(&taken), "{taken} of 600, a third is asked for");
}

/// An attacker who knows, for one key, which flows are sampled and to which ring they go learns
/// nothing about another key.
#[test]
fn another_key_samples_and_spreads_other_flows() {
    let Some(mut bench) = bench(HOSTS) else { return };
    bench.dns = Rate::of(1, 2);
    let query = Message::query(7, "example.org", A).octets();
    let packets: Vec<Vec<u8>> = (0..400)
        .map(|port| Flow::new(address("198.51.100.7"), 4_000 + port, address("192.0.2.1"), 53))
        .map(|flow| frame::ethernet(&frame::udp(&flow, &query)))
        .collect();
    let mut rings_under = |seed: u64| -> Vec<Option<usize>> {
        bench.flow_key = FlowKey::of([mix(seed), mix(seed + 1)]);
        bench.configure();
        let ring = |packet: &Vec<u8>| {
            bench.check(PROGRAMS[0], packet, Gso::default());
            let (_, led) = bench.run(PROGRAMS[0], packet, Gso::default());
            led.records.first().map(|&(ring, ..)| ring)
        };
        packets.iter().map(ring).collect()
    };
    let (one, other) = (rings_under(1), rings_under(2));
    assert_eq!(rings_under(1), one);
    let pairs = || one.iter().zip(&other);
    let sampled_alike = pairs().filter(|(a, b)| a.is_some() == b.is_some()).count();
    assert!((130..270).contains(&sampled_alike), "{sampled_alike} of 400");
    let both = pairs().filter(|(a, b)| a.is_some() && b.is_some()).count();
    let spread_alike = pairs().filter(|(a, b)| a.is_some() && a == b).count();
    assert!(spread_alike < both / 2, "{spread_alike} of {both}");
}

#[test]
fn samples_other_packets_at_random() {
    let Some(mut bench) = bench(HOSTS) else { return };
    bench.rest = Rate::of(1, 5);
    bench.configure();
    let flow = Flow::new(address("192.0.2.1"), 443, address("198.51.100.7"), 5000);
    let packet = frame::ethernet(&frame::tcp(&flow, 1, ACK, &[0; 100]));
    let (mut taken, mut stands_for) = (0, 0);
    for _ in 0..5_000 {
        let (_, led) = bench.run(PROGRAMS[2], &packet, Gso::default());
        assert_eq!(led.counted.total(), 1);
        let outcome = if led.records.is_empty() { Outcome::NotSampled } else { Outcome::Headers };
        assert_eq!(led.counted.outcomes[outcome as usize], 1);
        for (_, header, _) in led.records {
            taken += 1;
            stands_for += header.unwrap().weight;
        }
    }
    assert!((850..1_150).contains(&taken), "{taken} of 5000, a fifth is asked for");
    assert_eq!(stands_for, taken * 5);
}

#[test]
fn counts_records_that_a_full_ring_drops() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("198.51.100.7"), 4242, address("192.0.2.1"), 53);
    let packet = frame::ethernet(&frame::udp(&flow, &Message::query(1, "example.org", A).octets()));
    let before = bench.probe.counters().read().unwrap();
    let rounds = 20_000u32;
    let loaded = bench.probe.programs().program_mut("pktvisor_in").unwrap();
    let program = <&mut SchedClassifier>::try_from(loaded).unwrap();
    let options =
        TestRunOptions { data_in: Some(&packet), repeat: rounds, ..TestRunOptions::default() };
    program.test_run(options).unwrap();
    let counted = bench.probe.counters().read().unwrap().since(&before);
    let read: usize = bench
        .rings
        .iter_mut()
        .map(|ring| std::iter::from_fn(|| ring.next().map(drop)).count())
        .sum();
    let dns = Kind::Dns as usize;
    let (sent, lost): (u64, u64) = (
        counted.sent.iter().map(|ring| ring[dns]).sum(),
        counted.lost.iter().map(|ring| ring[dns]).sum(),
    );
    assert_eq!(sent, read as u64);
    assert_eq!(sent + lost, u64::from(rounds));
    assert!(lost > 0, "the rings hold {RING_SIZE} bytes only");
    assert_eq!(counted.outcomes[Outcome::Dns as usize], sent);
    assert_eq!(counted.outcomes[Outcome::RingFull as usize], lost);
    assert_eq!(counted.total(), u64::from(rounds));
    assert_eq!(SAMPLE_HEADER, 24);
}
