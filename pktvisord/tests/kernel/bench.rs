//! Loads the programs, runs them on packets, and computes the results that user space expects.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use pktvisor_common::abi::{
    CONFIG_WORDS, Counters, HostMode, IP, Kind, MORE, ProbeConfig, RECORD_PAYLOAD, RangeV4,
    RangeV6, SampleHeader, Start, UNDECIDED,
};
use pktvisor_common::classify::{Dns, Record, classify, enter_tunnels};
use pktvisor_common::direction::Direction;
use pktvisor_common::flow::FlowKey;
use pktvisor_common::kernel::{SNAPS, direction, ring, segments};
use pktvisor_common::packet::tunnel::MAX_TUNNELS;
use pktvisor_common::packet::{
    Fragment, IpVersion, PacketMeta, TCP_FIN, TCP_RST, TCP_SYN, Transport, walk_ethernet, walk_ip,
};
use pktvisor_common::sampling::Rate;
use pktvisord::aggregate::host::HostSpec;
use pktvisord::aggregate::settings::{DEFAULT_DNS_PORTS, DnsPorts, Tunnels};
use pktvisord::input::kernel::probe::{Probe, Ring, Terms};

use crate::support::has_rights;
use crate::support::tool::skipped;

pub(crate) const RINGS: usize = 4;
pub(crate) const RING_SIZE: u32 = 1 << 20;
pub(crate) const HOSTS: &str = "192.0.2.0/24,2001:db8::/64";
/// Minimum packet of a test run in bytes: an Ethernet header.
pub(crate) const LEAST: usize = 14;
/// Maximum bytes in the first piece of a packet in a test run.
pub(crate) const PIECE: usize = 3_520;

/// A program and the hook that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub name: &'static str,
    pub start: Start,
    pub hook: Direction,
    pub xdp: bool,
}

pub(crate) const PROGRAMS: [Program; 6] = [
    Program { name: "pktvisor_xdp", start: Start::Ethernet, hook: Direction::In, xdp: true },
    Program { name: "pktvisor_xdpf", start: Start::Ethernet, hook: Direction::In, xdp: true },
    Program { name: "pktvisor_in", start: Start::Ethernet, hook: Direction::In, xdp: false },
    Program { name: "pktvisor_out", start: Start::Ethernet, hook: Direction::Out, xdp: false },
    Program { name: "pktvisor_in_ip", start: Start::Ip, hook: Direction::In, xdp: false },
    Program { name: "pktvisor_out_ip", start: Start::Ip, hook: Direction::Out, xdp: false },
];

/// Segments of a packet as in `__sk_buff`: payload bytes of each, and their number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gso {
    pub size: u32,
    pub segments: u32,
}

/// The loaded programs and their configuration.
pub(crate) struct Bench {
    pub probe: Probe,
    pub rings: Vec<Ring>,
    pub hosts: HostSpec,
    pub ports: DnsPorts,
    pub dns: Rate,
    pub rest: Rate,
    pub tunnels: Tunnels,
    pub flow_key: FlowKey,
}

/// Results of one packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Led {
    pub counted: Counters,
    /// Ring, header and bytes of each record. The time is set to 0.
    pub records: Vec<(usize, Option<SampleHeader>, Vec<u8>)>,
}

impl Bench {
    pub(crate) fn new(hosts: &str) -> Option<Self> {
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
        let flow_key = FlowKey::of([0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]);
        let mut bench = Self { probe, rings, hosts, ports, dns, rest, tunnels, flow_key };
        bench.configure();
        Some(bench)
    }

    pub(crate) fn configure(&mut self) {
        let Self { ref hosts, ref ports, dns, rest, tunnels, flow_key, .. } = *self;
        self.probe.configure(&Terms { hosts, ports, dns, rest, tunnels, flow_key }).unwrap();
    }

    /// Runs a program on a packet. Returns the verdict and the results.
    pub(crate) fn run(&mut self, program: Program, packet: &[u8], gso: Gso) -> (i32, Led) {
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
                let (mut header, bytes) = SampleHeader::read(&record).expect("a whole record");
                assert!(header.time > 0);
                header.time = 0;
                led.records.push((at, Some(header), bytes.to_vec()));
            }
        }
        (result.return_value as i32, led)
    }

    /// Returns the results that user space computes from the same bytes.
    pub(crate) fn expect(&self, program: Program, packet: &[u8], gso: Gso) -> Led {
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
            Fragment::None => config.flow_key.flow(&meta),
            _ => config.flow_key.addresses(&meta),
        };
        let id = || {
            let at = usize::from(meta.payload_offset);
            packet.get(at..at + 2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]))
        };
        let (rules, chance) = (config.rules(), || panic!("chance is left out of this test"));
        let decision = classify(&rules, &SNAPS, &meta, length as u32, || flow, id, chance);
        let ring = ring(flow, config.ring_mask) as usize;
        let mut led = Led { counted: counted(&meta, direction, n, wire_len), ..Led::default() };
        led.counted.deep_samples = if decision.weight > 0 { u64::from(n) } else { 0 };
        let undecided = decision.dns == Dns::Doubtful;
        match undecided {
            true => led.counted.undecided = u64::from(n),
            false => led.counted.outcomes[decision.outcome as usize] = u64::from(n),
        }
        if let Some(Record { kind, bytes }) = decision.record {
            let captured = bytes as usize;
            let (headers, payload) =
                packet[..captured].split_at(captured.min(meta.payload_offset.into()));
            let part = if kind == Kind::Dns { RECORD_PAYLOAD as usize } else { usize::MAX };
            let mut offset = 0;
            loop {
                let rest = &payload[offset..];
                let (now, more) = (&rest[..rest.len().min(part)], rest.len() > part);
                let bytes = [headers, now].concat();
                let flag = |is: bool, flag: u8| if is { flag } else { 0 };
                let header = SampleHeader {
                    time: 0,
                    wire_len,
                    weight: decision.weight,
                    n: n as u16,
                    captured: bytes.len() as u16,
                    kind: kind as u8,
                    direction: direction as u8,
                    part: (offset / RECORD_PAYLOAD as usize) as u8,
                    flags: flag(program.start == Start::Ip, IP)
                        | flag(more, MORE)
                        | flag(undecided && offset == 0, UNDECIDED),
                };
                led.counted.sent[ring][kind as usize] += 1;
                led.records.push((ring, Some(header), bytes));
                offset += now.len();
                if !more {
                    break;
                }
            }
        }
        led
    }

    pub(crate) fn config(&self) -> ProbeConfig {
        let v4: Vec<RangeV4> = self.hosts.ranges_v4().collect();
        let v6: Vec<RangeV6> = self.hosts.ranges_v6().collect();
        let config = ProbeConfig {
            dns: self.dns,
            rest: self.rest,
            flow_key: self.flow_key,
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

    /// Runs a program on a packet and compares the results with those of user space.
    pub(crate) fn check(&mut self, program: Program, packet: &[u8], gso: Gso) {
        if !is_taken(program, packet) {
            return;
        }
        let (verdict, led) = self.run(program, packet, gso);
        assert_eq!(verdict, if program.xdp { 2 } else { -1 }, "{program:?}");
        let expected = self.expect(program, packet, gso);
        assert_eq!(led, expected, "{program:?} {gso:?} {packet:?}");
    }
}

/// Returns true if a test run accepts the packet. It must fit one page, unless the program takes
/// pieces. For TC programs, an IP header must be complete if the EtherType announces one.
pub(crate) fn is_taken(program: Program, packet: &[u8]) -> bool {
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

pub(crate) fn counted(meta: &PacketMeta, direction: Direction, n: u32, wire_len: u32) -> Counters {
    let n = u64::from(n);
    let mut counted = Counters::default();
    counted.packets[direction as usize] = n;
    counted.bytes[direction as usize] = u64::from(wire_len);
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

pub(crate) fn bench(hosts: &str) -> Option<Bench> {
    let bench = Bench::new(hosts);
    if bench.is_none() {
        skipped("programs are loaded into the kernel by root only");
    }
    bench
}
