//! The programs in the kernel, run on packets of every shape by `BPF_PROG_TEST_RUN`: what they
//! count and copy has to be what user space makes of the same octets.

mod support;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use pktvisor_common::abi::{
    CONFIG_WORDS, Counters, HostMode, Kind, MORE, ProbeConfig, RECORD_PAYLOAD, RangeV4, RangeV6,
    SAMPLE_HEADER, SampleHeader, Start, UNDECIDED,
};
use pktvisor_common::classify::{Dns, classify, enter_tunnels};
use pktvisor_common::direction::Direction;
use pktvisor_common::flow::{address_hash, flow_hash};
use pktvisor_common::outcome::Outcome;
use pktvisor_common::packet::tunnel::MAX_TUNNELS;
use pktvisor_common::packet::{
    Fragment, IpVersion, PacketMeta, TCP_FIN, TCP_RST, TCP_SYN, Transport, walk_ethernet, walk_ip,
};
use pktvisor_common::probe::{available, captured, direction, ring, segments};
use pktvisor_common::sampling::Rate;
use pktvisord::capture::ebpf::probe::{Probe, Ring, Terms};
use pktvisord::host::HostSpec;
use pktvisord::settings::{DEFAULT_DNS_PORTS, DnsPorts, Tunnels};
use support::dns::{A, Message, NOERROR};
use support::frame::{self, ACK, Flow};
use support::has_rights;
use support::random::Random;
use support::shapes::{address, frames, packets};
use support::tool::skipped;

const RINGS: usize = 4;
const RING_SIZE: u32 = 1 << 20;
const HOSTS: &str = "192.0.2.0/24,2001:db8::/64";
/// The fewest octets that a test run takes: an Ethernet header.
const LEAST: usize = 14;
/// The most octets in the first piece of a packet of the test run.
const PIECE: usize = 3_520;

/// A program and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Program {
    name: &'static str,
    start: Start,
    hook: Direction,
    xdp: bool,
}

const PROGRAMS: [Program; 6] = [
    Program { name: "pktvisor_xdp", start: Start::Ethernet, hook: Direction::In, xdp: true },
    Program { name: "pktvisor_xdpf", start: Start::Ethernet, hook: Direction::In, xdp: true },
    Program { name: "pktvisor_in", start: Start::Ethernet, hook: Direction::In, xdp: false },
    Program { name: "pktvisor_out", start: Start::Ethernet, hook: Direction::Out, xdp: false },
    Program { name: "pktvisor_in_ip", start: Start::Ip, hook: Direction::In, xdp: false },
    Program { name: "pktvisor_out_ip", start: Start::Ip, hook: Direction::Out, xdp: false },
];

/// Segments that a packet stands for, as a `__sk_buff` says: payload of each, and how many.
#[derive(Clone, Copy, Debug, Default)]
struct Gso {
    size: u32,
    segments: u32,
}

/// The programs, loaded, and what they go by.
struct Bench {
    probe: Probe,
    rings: Vec<Ring>,
    hosts: HostSpec,
    ports: DnsPorts,
    dns: Rate,
    rest: Rate,
    tunnels: Tunnels,
}

/// What one packet led to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Led {
    counted: Counters,
    /// Ring, header and octets of each record; its time is 0.
    records: Vec<(usize, Option<SampleHeader>, Vec<u8>)>,
}

impl Bench {
    fn new(hosts: &str) -> Option<Self> {
        if !has_rights() {
            return None;
        }
        let mut probe = Probe::load(RINGS, RING_SIZE).expect("the kernel takes the programs");
        for program in PROGRAMS {
            let loaded = probe.programs().program_mut(program.name).expect("it is in the object");
            let result = if program.xdp {
                <&mut Xdp>::try_from(loaded).expect("an XDP program").load()
            } else {
                <&mut SchedClassifier>::try_from(loaded).expect("a TC program").load()
            };
            result.unwrap_or_else(|error| panic!("{}: {error:?}", program.name));
        }
        let rings = probe.take_rings().expect("rings map");
        let hosts = if hosts.is_empty() { HostSpec::default() } else { hosts.parse().unwrap() };
        let ports = DnsPorts::new(&DEFAULT_DNS_PORTS);
        let (dns, rest, tunnels) = (Rate::ALL, Rate::ALL, Tunnels::Outer);
        let mut bench = Self { probe, rings, hosts, ports, dns, rest, tunnels };
        bench.configure();
        Some(bench)
    }

    fn configure(&mut self) {
        let Self { ref hosts, ref ports, dns, rest, tunnels, .. } = *self;
        self.probe.configure(&Terms { hosts, ports, dns, rest, tunnels }).unwrap();
    }

    /// Runs a program on a packet. Returns its verdict and what it led to.
    fn run(&mut self, program: Program, packet: &[u8], gso: Gso) -> (i32, Led) {
        let before = self.probe.counters().read().unwrap();
        let mut context = [0u8; 192];
        context[164..168].copy_from_slice(&gso.segments.to_ne_bytes());
        context[176..180].copy_from_slice(&gso.size.to_ne_bytes());
        let mut options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
        let mut out = vec![0; packet.len()];
        options.data_out = Some(&mut out);
        let loaded = self.probe.programs().program_mut(program.name).unwrap();
        let result = if program.xdp {
            <&mut Xdp>::try_from(loaded).unwrap().test_run(options)
        } else {
            options.ctx_in = Some(&context);
            <&mut SchedClassifier>::try_from(loaded).unwrap().test_run(options)
        };
        let result = result.unwrap_or_else(|error| panic!("{program:?} {packet:?}: {error:?}"));
        assert_eq!(out, packet, "the packet is left as it was");
        let mut led =
            Led { counted: self.probe.counters().read().unwrap().since(&before), ..Led::default() };
        for (at, ring) in self.rings.iter_mut().enumerate() {
            while let Some(record) = ring.next() {
                let (mut header, octets) = SampleHeader::read(&record).expect("a whole record");
                assert!(header.time > 0);
                header.time = 0;
                led.records.push((at, Some(header), octets.to_vec()));
            }
        }
        (result.return_value as i32, led)
    }

    /// What user space makes of the same octets.
    fn expect(&self, program: Program, packet: &[u8], gso: Gso) -> Led {
        let config = self.config();
        let length = packet.len();
        let meta = match program.start {
            Start::Ethernet => walk_ethernet(packet, length),
            Start::Ip => walk_ip(packet, length),
        };
        let meta = match self.tunnels {
            Tunnels::Outer => meta,
            Tunnels::Inner => enter_tunnels(self.ports.bits(), packet, length, meta),
        };
        let (n, wire_len) = segments(&meta, length as u32, gso.size, gso.segments);
        let direction = match self.hosts.is_empty() {
            false => direction(&config, &meta),
            true if meta.version == IpVersion::None => Direction::Unknown,
            true => program.hook,
        };
        let by_host = self.hosts.direction(&meta);
        assert!(self.hosts.is_empty() || direction == by_host, "ranges in the kernel are HOST's");
        let flow = match meta.fragment {
            Fragment::None => flow_hash(&meta),
            _ => address_hash(&meta),
        };
        let id = || {
            let at = usize::from(meta.payload_offset);
            packet.get(at..at + 2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]))
        };
        let (rules, chance) = (config.rules(), || panic!("chance is left out of this test"));
        let held = available(&meta, length as u32);
        let decision = classify(&rules, &meta, held, || flow, id, chance);
        let ring = ring(flow, config.ring_mask) as usize;
        let mut led = Led { counted: counted(&meta, direction, n, wire_len), ..Led::default() };
        led.counted.deep_samples = if decision.weight > 0 { u64::from(n) } else { 0 };
        let undecided = decision.dns == Dns::Doubtful;
        match undecided {
            true => led.counted.undecided = u64::from(n),
            false => led.counted.outcomes[decision.outcome as usize] = u64::from(n),
        }
        if let Some(kind) = decision.record {
            let captured = captured(kind, &meta, length as u32) as usize;
            let (headers, payload) =
                packet[..captured].split_at(captured.min(meta.payload_offset.into()));
            let part = if kind == Kind::Dns { RECORD_PAYLOAD as usize } else { usize::MAX };
            let mut offset = 0;
            loop {
                let rest = &payload[offset..];
                let (now, more) = (&rest[..rest.len().min(part)], rest.len() > part);
                let octets = [headers, now].concat();
                let flag = |is: bool, flag: u32| if is { flag } else { 0 };
                let header = SampleHeader {
                    time: 0,
                    wire_len,
                    weight: decision.weight,
                    offset: offset as u32,
                    n: n as u16,
                    captured: octets.len() as u16,
                    kind: kind as u8,
                    direction: direction as u8,
                    start: program.start as u8,
                    tag: 0,
                    flags: flag(more, MORE) | flag(undecided && offset == 0, UNDECIDED),
                };
                led.counted.sent[ring][kind as usize] += 1;
                led.records.push((ring, Some(header), octets));
                offset += now.len();
                if !more {
                    break;
                }
            }
        }
        led
    }

    fn config(&self) -> ProbeConfig {
        let v4: Vec<RangeV4> = self.hosts.ranges_v4().collect();
        let v6: Vec<RangeV6> = self.hosts.ranges_v6().collect();
        let config = ProbeConfig {
            dns: self.dns,
            rest: self.rest,
            host_mode: HostMode::Ranges as u32,
            ring_mask: RINGS as u32 - 1,
            hosts_v4: std::array::from_fn(|at| v4.get(at).copied().unwrap_or_default()),
            hosts_v6: std::array::from_fn(|at| v6.get(at).copied().unwrap_or_default()),
            ranges_v4: v4.len() as u32,
            ranges_v6: v6.len() as u32,
            tunnels: if self.tunnels == Tunnels::Inner { MAX_TUNNELS as u32 } else { 0 },
            padding: 0,
            dns_ports: *self.ports.bits(),
        };
        assert_eq!(config.words().len(), CONFIG_WORDS);
        config
    }

    /// Runs a packet through a program and compares.
    fn check(&mut self, program: Program, packet: &[u8], gso: Gso) {
        if !is_taken(program, packet) {
            return;
        }
        let (verdict, led) = self.run(program, packet, gso);
        assert_eq!(verdict, if program.xdp { 2 } else { -1 }, "{program:?}");
        let expected = self.expect(program, packet, gso);
        assert_eq!(led, expected, "{program:?} {gso:?} {packet:?}");
    }
}

/// Whether a test run takes it: it has to fit one page, unless the program takes pieces, and for TC
/// programs an IP header has to be whole, if there is one by the Ethernet header.
fn is_taken(program: Program, packet: &[u8]) -> bool {
    if packet.len() > PIECE && program.name != "pktvisor_xdpf" {
        return false;
    }
    program.xdp
        || match packet[12..14] {
            [0x08, 0x00] => packet.len() >= 34,
            [0x86, 0xdd] => packet.len() >= 54,
            _ => true,
        }
}

fn counted(meta: &PacketMeta, direction: Direction, n: u32, wire_len: u32) -> Counters {
    let n = u64::from(n);
    let mut counted = Counters::default();
    counted.packets[direction as usize] = n;
    counted.octets[direction as usize] = u64::from(wire_len);
    match meta.version {
        IpVersion::V4 => counted.ipv4 = n,
        IpVersion::V6 => counted.ipv6 = n,
        IpVersion::None => {}
    }
    match meta.transport {
        Transport::Udp => counted.udp = n,
        Transport::Tcp => counted.tcp = n,
        Transport::Icmp => counted.icmp = n,
        Transport::Other => {}
    }
    let flag = |flag: u8| if meta.tcp_flags & flag != 0 && !meta.malformed { n } else { 0 };
    (counted.syn, counted.fin, counted.rst) = (flag(TCP_SYN), flag(TCP_FIN), flag(TCP_RST));
    counted.fragments = if meta.fragment == Fragment::None { 0 } else { n };
    counted.malformed = if meta.malformed { n } else { 0 };
    counted
}

fn bench(hosts: &str) -> Option<Bench> {
    let bench = Bench::new(hosts);
    if bench.is_none() {
        skipped("programs are loaded into the kernel by root only");
    }
    bench
}

#[test]
fn packets_of_every_shape_at_every_length() {
    let Some(mut bench) = bench(HOSTS) else { return };
    for program in PROGRAMS {
        let octets = match program.start {
            Start::Ethernet => frames(),
            Start::Ip => packets(),
        };
        for packet in octets {
            // Every cut within the headers, and some behind them.
            let cuts = (LEAST..packet.len().min(130)).chain((130..packet.len()).step_by(401));
            for cut in cuts.chain([packet.len()]) {
                bench.check(program, &packet[..cut], Gso::default());
            }
        }
    }
}

#[test]
fn random_packets() {
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
fn without_host_the_hook_tells_the_direction() {
    let Some(mut bench) = bench("") else { return };
    for program in PROGRAMS {
        for packet in if program.start == Start::Ip { packets() } else { frames() } {
            bench.check(program, &packet, Gso::default());
        }
    }
}

#[test]
fn many_ranges_of_host_go_into_tries() {
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
    // What is no longer HOST is forgotten.
    bench.hosts = ranges[2..].join(",").parse().unwrap();
    bench.configure();
    assert_eq!(direction(&mut bench, "192.0.2.0", "198.51.100.1"), Direction::Unknown);
    assert_eq!(direction(&mut bench, "2001:db8:1::1", "2001:db8::27"), Direction::In);
}

#[test]
fn a_super_packet_stands_for_its_segments() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("192.0.2.1"), 443, address("198.51.100.7"), 5000);
    let stream = frame::ethernet(&frame::tcp(&flow, 1, ACK, &[0; 3_000]));
    for (size, segments, n) in
        [(1_448, 3, 3), (1_448, 0, 3), (1_000, 0, 3), (0, 0, 1), (3_000, 1, 1)]
    {
        let gso = Gso { size, segments };
        let (_, led) = bench.run(PROGRAMS[3], &stream, gso);
        assert_eq!(led.counted.tcp, n, "{gso:?}");
        assert_eq!(led.counted.octets[1], 3_000 + n * 54, "{gso:?}");
        assert_eq!(led.records[0].1.unwrap().n, n as u16);
        bench.check(PROGRAMS[3], &stream, gso);
    }
}

#[test]
fn pieces_of_a_jumbo_frame_are_put_together() {
    let Some(mut bench) = bench(HOSTS) else { return };
    let flow = Flow::new(address("198.51.100.7"), 4242, address("192.0.2.1"), 53);
    for length in [PIECE - 60, PIECE, 4_090, 4_100, 8_000] {
        let frame = frame::ethernet(&frame::udp(&flow, &vec![9; length]));
        bench.check(PROGRAMS[1], &frame, Gso::default());
    }
}

#[test]
fn dns_is_sampled_by_its_flow_and_id() {
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

#[test]
fn others_are_sampled_at_random() {
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
fn a_full_ring_is_counted() {
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
    assert!(lost > 0, "the rings hold {RING_SIZE} octets only");
    assert_eq!(counted.outcomes[Outcome::Dns as usize], sent);
    assert_eq!(counted.outcomes[Outcome::RingFull as usize], lost);
    assert_eq!(counted.total(), u64::from(rounds));
    assert_eq!(SAMPLE_HEADER, 32);
}
