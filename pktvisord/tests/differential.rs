//! Compares the daemon with `tshark` on generated traffic. tshark shares no code with the daemon.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;

use pktvisor_common::api::{Histogram, MetricsView, Quantiles, TopEntry};
use support::capture::{Capture, Folder, MICROSECOND, START};
use support::dns::{A, AAAA, HTTPS, MX, Message, NOERROR, NS, TXT};
use support::frame::{self, ACK, FIN, Flow, SYN};
use support::program::{run, view};
use support::random::Random;
use support::tshark;

const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const HOSTSPEC: &str = "192.0.2.1,2001:db8::1";
const SESSIONS: u32 = 4_000;
const QTYPES: [(u16, &str); 9] = [
    (A, "A"),
    (AAAA, "AAAA"),
    (NS, "NS"),
    (MX, "MX"),
    (TXT, "TXT"),
    (33, "SRV"),
    (48, "DNSKEY"),
    (HTTPS, "HTTPS"),
    (1234, "TYPE1234"),
];
const RCODES: [(u16, &str); 6] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SRVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
];

/// Generates sessions between clients and HOST.
struct Sessions {
    capture: Capture,
    random: Random,
    time: i64,
    vlans: Vec<u16>,
    /// The last id. Each query has its own, because tshark tells the queries of a stream apart only
    /// by the id.
    id: u16,
}

impl Sessions {
    fn send(&mut self, wait: i64, packet: &[u8]) {
        self.time += wait * MICROSECOND;
        self.capture.push(self.time, frame::tagged(&self.vlans, packet));
    }

    /// Adds a session of a random kind that starts at `time`. Its number gives the client a port of
    /// its own.
    fn session(&mut self, number: u32, time: i64) {
        self.time = time;
        let tags = *self.random.pick(&[0, 0, 0, 1, 2]);
        self.vlans = (0..tags).map(|tag| 100 + tag).collect();
        let ipv6 = self.random.percent(40);
        let server: IpAddr = HOST[usize::from(ipv6)].parse().unwrap();
        let address = self.random.skewed(300) + 1;
        let client: IpAddr = match ipv6 {
            true => format!("2001:db8:7::{address:x}").parse().unwrap(),
            false => format!("10.0.{}.{}", address / 256, address % 256).parse().unwrap(),
        };
        let to = |service| Flow::new(client, 10_000 + number as u16, server, service);
        match self.random.below(100) {
            0..60 => self.dns_over_udp(to(53)),
            60..80 => self.dns_over_tcp(to(53)),
            80..85 => {
                let flow = to(80);
                let sequence = self.random.next() as u32;
                self.send(0, &frame::tcp(&flow, sequence, SYN, b""));
                self.send(90, &frame::tcp(&flow.reversed(), 7, frame::RST | ACK, b""));
            }
            85..90 => self.send(0, &frame::udp(&to(4500), &[0xff; 100])),
            90..94 => self.send(0, &frame::echo(client, server)),
            94..96 => {
                self.send(0, &frame::ip(client, server, 47, &[0x20, 0, 0x65, 0x58, 0, 0, 0, 0]));
            }
            _ => self.capture.push(time, frame::arp()),
        }
    }

    fn query(&mut self) -> Message {
        let number = self.random.skewed(500);
        let name = match number % 7 {
            0 => format!("TLD{number}"),
            1 => format!("name{number}.Test"),
            2 => format!("www.name{number}.test"),
            3 => format!("a.b.c.d.name{number}.example"),
            4 if number < 20 => String::new(),
            _ => format!("x{number}.sub.zone{}.test", number % 20),
        };
        let (qtype, _) = *self.random.pick(&QTYPES);
        self.id = self.id.wrapping_add(1);
        let mut query = Message::query(self.id, &name, qtype);
        if self.random.percent(50) {
            let udp_size = *self.random.pick(&[512, 1232, 4096]);
            query.edns = Some(support::dns::Edns { udp_size, ..Default::default() });
        }
        query
    }

    fn reply(&mut self, query: &Message) -> Message {
        match self.random.pick(&RCODES).0 {
            NOERROR => query.reply(NOERROR, self.random.below(5) as u16),
            rcode => query.reply(rcode, 0),
        }
    }

    fn dns_over_udp(&mut self, flow: Flow) {
        let query = self.query();
        self.send(0, &frame::udp(&flow, &query.octets()));
        if self.random.percent(10) {
            return;
        }
        let wait = 20 + self.random.skewed(400_000) as i64;
        if self.random.percent(95) {
            let reply = self.reply(&query);
            return self.send(wait, &frame::udp(&flow.reversed(), &reply.octets()));
        }
        // A large reply in fragments, sometimes in reverse order. All have the same time, because
        // the daemon takes the time of the fragment at offset 0 and tshark that of the last one
        // seen.
        let packet = frame::udp(&flow.reversed(), &query.reply(NOERROR, 90).octets());
        let mut fragments = frame::fragments(&packet, query.id, 560);
        if self.random.percent(50) {
            fragments.reverse();
        }
        for (at, fragment) in fragments.iter().enumerate() {
            self.send(if at == 0 { wait } else { 0 }, fragment);
        }
    }

    fn dns_over_tcp(&mut self, flow: Flow) {
        let queries: Vec<Message> = (0..=self.random.below(4)).map(|_| self.query()).collect();
        let replies: Vec<Message> = queries
            .iter()
            .map(
                |query| {
                    if self.random.percent(20) { query.reply(0, 90) } else { self.reply(query) }
                },
            )
            .collect();
        let (client, server) = (self.random.next() as u32, self.random.next() as u32);
        let back = flow.reversed();
        self.send(0, &frame::tcp(&flow, client, SYN, b""));
        self.send(40, &frame::tcp(&back, server, SYN | ACK, b""));
        self.send(40, &frame::tcp(&flow, client.wrapping_add(1), ACK, b""));
        for (flow, isn, messages) in [(flow, client, queries), (back, server, replies)] {
            let stream: Vec<u8> = messages.iter().flat_map(Message::framed).collect();
            self.stream(&flow, isn.wrapping_add(1), &stream);
        }
        self.send(40, &frame::tcp(&flow, client, FIN | ACK, b""));
    }

    /// Sends a stream in segments of random size, sometimes with one twice or two swapped.
    fn stream(&mut self, flow: &Flow, mut sequence: u32, mut stream: &[u8]) {
        let mut segments = Vec::new();
        let most = *self.random.pick(&[20, 200, 1_400]);
        while !stream.is_empty() {
            let length = (self.random.below(most) as usize + 1).min(stream.len());
            let (part, rest) = stream.split_at(length);
            segments.push(frame::tcp(flow, sequence, ACK, part));
            sequence = sequence.wrapping_add(length as u32);
            stream = rest;
        }
        let many = segments.len() as u64;
        if self.random.percent(20) {
            let twice = self.random.below(many) as usize;
            segments.insert(twice + 1, segments[twice].clone());
        }
        // Swapped segments have the same time: the daemon gives a message the time of its own
        // segment, tshark that of the one before.
        let mut late = None;
        if self.random.percent(20) && segments.len() > 1 {
            let at = self.random.below(segments.len() as u64 - 1) as usize;
            segments.swap(at, at + 1);
            late = Some(at + 1);
        }
        for (at, segment) in segments.iter().enumerate() {
            let wait = if late == Some(at) { 0 } else { 50 + self.random.below(3_000) as i64 };
            self.send(wait, segment);
        }
    }
}

fn sessions(seed: u64) -> Capture {
    let (capture, random) = (Capture::default(), Random::new(seed));
    let mut sessions = Sessions { capture, random, time: 0, vlans: Vec::new(), id: 0 };
    for number in 0..SESSIONS {
        let at = sessions.random.below(100_000_000) as i64;
        sessions.session(number, START + at * MICROSECOND);
    }
    sessions.capture.sort();
    sessions.capture
}

type Counts = BTreeMap<String, u64>;

fn count(counts: &mut Counts, name: impl Into<String>) {
    *counts.entry(name.into()).or_default() += 1;
}

#[track_caller]
fn assert_top(list: &str, ours: &[TopEntry], counts: &Counts) {
    let mut theirs: Vec<(&str, u64)> =
        counts.iter().map(|(name, &count)| (name.as_str(), count)).collect();
    theirs.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    theirs.truncate(10);
    let ours: Vec<(&str, u64)> =
        ours.iter().map(|entry| (entry.name.as_str(), entry.estimate)).collect();
    assert_eq!(ours, theirs, "{list}");
}

fn captured() -> Option<(Folder, String, MetricsView)> {
    if !tshark::is_there() {
        return None;
    }
    let folder = Folder::new();
    let file = folder.store("sessions.pcap", &sessions(11).pcap());
    let view = view(&run(&["-H", HOSTSPEC, "--summary", &file]));
    Some((folder, file, view))
}

#[test]
fn counts_packets_like_tshark() {
    let Some((_folder, file, view)) = captured() else { return };
    // Headers only, without reassembly of fragments.
    let options = ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"];
    let fields = [
        "frame.protocols",
        "frame.len",
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "ip.flags.mf",
        "ip.frag_offset",
        "ipv6.fraghdr.nxt",
        "tcp.flags.syn",
        "tcp.flags.fin",
        "tcp.flags.reset",
    ];
    let mut counts = Counts::new();
    let (mut ipv4, mut ipv6, mut bytes) = (Counts::new(), Counts::new(), 0);
    for frame in tshark::fields(&file, &options, &fields) {
        let [protocols, length, src4, dst4, src6, dst6, more, offset, fraghdr, syn, fin, reset] =
            &frame[..]
        else {
            panic!("{frame:?}")
        };
        bytes += length.parse::<u64>().unwrap();
        let has = |name: &str| protocols.split(':').any(|protocol| protocol == name);
        for name in ["ip", "ipv6", "udp", "tcp", "icmp", "icmpv6", "arp"] {
            if has(name) {
                count(&mut counts, name);
            }
        }
        let set = |flag: &str| matches!(flag, "1" | "True");
        for (name, holds) in [
            ("fragment", set(more) || !matches!(offset.as_str(), "" | "0") || !fraghdr.is_empty()),
            ("syn", set(syn)),
            ("fin", set(fin)),
            ("reset", set(reset)),
            ("in", HOST.contains(&dst4.as_str()) || HOST.contains(&dst6.as_str())),
            ("out", HOST.contains(&src4.as_str()) || HOST.contains(&src6.as_str())),
        ] {
            if holds {
                count(&mut counts, name);
            }
        }
        for (top, src, dst) in [(&mut ipv4, src4, dst4), (&mut ipv6, src6, dst6)] {
            if !src.is_empty() {
                count(top, if HOST.contains(&dst.as_str()) { src } else { dst });
            }
        }
    }
    let theirs = |name: &str| counts.get(name).copied().unwrap_or(0);
    let packets = &view.packets;
    let flags = &packets.protocol.tcp;
    for (name, ours, theirs) in [
        ("ipv4", packets.ipv4, theirs("ip")),
        ("ipv6", packets.ipv6, theirs("ipv6")),
        ("non_ip", packets.non_ip, theirs("arp")),
        ("udp", packets.udp, theirs("udp")),
        ("tcp", packets.tcp, theirs("tcp")),
        ("icmp", packets.icmp, theirs("icmp") + theirs("icmpv6")),
        ("fragments", packets.fragments, theirs("fragment")),
        ("syn", flags.syn, theirs("syn")),
        ("fin", flags.fin, theirs("fin")),
        ("rst", flags.rst, theirs("reset")),
        ("in", packets.inbound, theirs("in")),
        ("out", packets.outbound, theirs("out")),
        ("bytes", packets.bytes.total, bytes),
        ("addresses", packets.cardinality.src_ips_in, (ipv4.len() + ipv6.len()) as u64),
    ] {
        assert!(theirs > 0, "there are {name}");
        assert_eq!(ours, theirs, "{name}");
    }
    assert_eq!(packets.other_l4, packets.total - packets.udp - packets.tcp);
    assert_top("top_ipv4", &packets.top_ipv4, &ipv4);
    assert_top("top_ipv6", &packets.top_ipv6, &ipv6);
}

/// Returns the name of a number that was sent.
fn named(names: &[(u16, &str)], number: &str) -> String {
    let number: u16 = number.parse().unwrap();
    let known = names.iter().find(|(known, _)| *known == number);
    known.expect("a number that was sent").1.to_owned()
}

#[test]
fn counts_dns_messages_like_tshark() {
    let Some((_folder, file, view)) = captured() else { return };
    let options = ["-o", "tcp.reassemble_out_of_order:TRUE"];
    let fields = [
        "frame.protocols",
        "dns.flags.response",
        "dns.qry.name",
        "dns.qry.type",
        "dns.flags.rcode",
        "dns.time",
    ];
    let (mut counts, mut times) = (Counts::new(), Vec::new());
    let [mut names, mut qname2, mut qname3, mut qtypes, mut rcodes] =
        [(); 5].map(|()| Counts::new());
    for frame in tshark::fields(&file, &options, &fields) {
        let [protocols, responses, questions, types, codes, latencies] = &frame[..] else {
            panic!("{frame:?}")
        };
        let listed = |field: &str| field.split(',').filter(|part| !part.is_empty()).count();
        let tcp = protocols.split(':').any(|protocol| protocol == "tcp");
        for response in responses.split(',').filter(|part| !part.is_empty()) {
            count(
                &mut counts,
                if matches!(response, "1" | "True") { "replies" } else { "queries" },
            );
            count(&mut counts, if tcp { "tcp" } else { "udp" });
        }
        assert_eq!(listed(responses), listed(questions), "a question each: {frame:?}");
        for name in questions.split(',').filter(|name| !name.is_empty()) {
            let name = if name == "<Root>" { "." } else { &name.to_ascii_lowercase() };
            count(&mut names, name);
            let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
            let cut = |keep: usize| {
                let cut = labels.len().checked_sub(keep)?;
                let dot = if cut > 0 { "." } else { "" };
                Some(format!("{dot}{}", labels[cut..].join(".")))
            };
            count(&mut qname2, cut(2).unwrap_or_else(|| name.to_owned()));
            cut(3).into_iter().for_each(|name| count(&mut qname3, name));
        }
        types.split(',').filter(|part| !part.is_empty()).for_each(|number| {
            count(&mut qtypes, named(&QTYPES, number));
        });
        codes.split(',').filter(|part| !part.is_empty()).for_each(|number| {
            count(&mut rcodes, named(&RCODES, number));
        });
        let seconds = latencies.split(',').filter(|part| !part.is_empty());
        times.extend(seconds.map(|time| (time.parse::<f64>().unwrap() * 1e6).round() as u64));
    }
    let (dns, wire) = (&view.dns, &view.dns.wire_packets);
    for (name, ours) in
        [("queries", wire.queries), ("replies", wire.replies), ("tcp", wire.tcp), ("udp", wire.udp)]
    {
        assert_eq!(ours, counts[name], "{name}");
    }
    assert_eq!(dns.cardinality.qname, names.len() as u64);
    assert_top("top_qname2", &dns.top_qname2, &qname2);
    assert_top("top_qname3", &dns.top_qname3, &qname3);
    assert_top("top_qtype", &dns.top_qtype, &qtypes);
    assert_top("top_rcode", &dns.top_rcode, &rcodes);
    times.sort_unstable();
    assert_eq!(dns.xact.counts.orphans, 0);
    assert_eq!(dns.xact.inbound.total, times.len() as u64);
    assert_quantiles(dns.xact.inbound.quantiles_us.unwrap(), &times);
    assert_histogram(dns.xact.inbound.histogram_us.as_ref().unwrap(), &times);
}

#[track_caller]
fn assert_quantiles(ours: Quantiles, sorted: &[u64]) {
    let ours = [(50, ours.p50), (90, ours.p90), (95, ours.p95), (99, ours.p99)];
    for (percent, ours) in ours {
        let theirs = sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
        assert!(ours.abs_diff(theirs) <= theirs / 100, "p{percent}: {ours}, but {theirs} is true");
    }
}

#[track_caller]
fn assert_histogram(ours: &Histogram, sorted: &[u64]) {
    let up_to = |bound: u64| sorted.partition_point(|&time| time <= bound) as u64;
    let mut below = 0;
    for (&bound, &count) in ours.le.iter().zip(&ours.count) {
        assert_eq!(count, up_to(bound) - below, "up to {bound} µs");
        below = up_to(bound);
    }
    assert_eq!(below, sorted.len() as u64);
}
