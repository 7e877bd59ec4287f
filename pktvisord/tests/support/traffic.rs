//! Generated traffic of every kind with the true counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::capture::{Capture, Folder, MICROSECOND, SECOND, START};
use super::dns::{
    A, AAAA, Edns, HTTPS, MX, Message, NOERROR, NS, NXDOMAIN, QR, REFUSED, SERVFAIL, TXT,
};
use super::frame::{self, ACK, FIN, Flow, RST, SYN};
use super::random::Random;

/// HOST of the traffic, for `-H`: its servers and its resolvers.
pub const HOSTS: &str = "192.0.2.0/24,2001:db8::/64";

/// Number of distinct names: more than sketches count exactly.
const NAMES: u64 = 30_000;
/// Number of distinct remote addresses of each IP version: more than sketches count exactly.
const REMOTES: u64 = 20_000;
/// Lowest port of a client. All are above those of mDNS and LLMNR and below 53000.
const FIRST_PORT: u16 = 6_000;
/// Number of answers in a reply that is fragmented.
const LARGE: u16 = 60;
const FRAGMENT: usize = 400;

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;

/// True counts of some traffic.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub packets: u64,
    pub bytes: u64,
    pub fragments: u64,
    pub dns_udp: u64,
    pub dns_tcp: u64,
    pub queries: u64,
    pub replies: u64,
    pub names: BTreeSet<String>,
    pub addresses: BTreeSet<IpAddr>,
    pub qname2: Counts,
    pub qname3: Counts,
    pub noerror: Counts,
    pub nodata: Counts,
    pub nxdomain: Counts,
    pub refused: Counts,
    pub srvfail: Counts,
    pub reply_bytes: Counts,
    pub ipv4: Counts,
    pub ipv6: Counts,
    pub address_bytes: Counts,
}

/// Traffic with its true counts.
pub struct Traffic {
    pub capture: Capture,
    pub truth: Truth,
    random: Random,
}

/// Generates about `packets` packets from `start` on, spread over `duration` nanoseconds.
pub fn traffic(seed: u64, packets: u64, start: i64, duration: i64) -> Traffic {
    let mut traffic =
        Traffic { capture: Capture::default(), truth: Truth::default(), random: Random::new(seed) };
    while traffic.truth.packets < packets {
        let at = traffic.random.below(duration as u64 / MICROSECOND as u64) as i64;
        traffic.event(start + at * MICROSECOND);
    }
    traffic.capture.sort();
    // A few packets are out of order, as in a capture of several queues. TCP segments stay in
    // order: a SYN after its data cannot be distinguished from another stream.
    let packets = &mut traffic.capture.packets;
    let minute = |&(time, _): &(i64, Vec<u8>)| time / (60 * SECOND);
    let turns =
        packets.windows(2).enumerate().filter(|(_, pair)| minute(&pair[0]) != minute(&pair[1]));
    // Also swap the last packets of a minute with the first ones of the next.
    let turns: Vec<usize> = turns.flat_map(|(at, _)| at - 4..=at).collect();
    let turns = turns.into_iter().filter(|&at| at + 5 < packets.len());
    for at in (500..packets.len() - 5).step_by(250).chain(turns.collect::<Vec<_>>()) {
        if !is_tcp(&packets[at].1) && !is_tcp(&packets[at + 5].1) {
            packets.swap(at, at + 5);
        }
    }
    traffic
}

/// Returns the traffic that tests share: a little over four minutes, starting within a minute.
pub fn minutes() -> Traffic {
    traffic(7, 200_000, START + 20 * SECOND + SECOND / 2, 250 * SECOND)
}

/// Stores a capture of a few seconds. Returns its folder and path.
pub fn stored() -> (Folder, String) {
    let folder = Folder::new();
    let bytes = traffic(3, 5_000, START, 20 * SECOND).capture.pcap();
    let file = folder.store("traffic.pcap", &bytes);
    (folder, file)
}

impl Traffic {
    fn event(&mut self, time: i64) {
        match self.random.below(100) {
            0..60 => self.dns_over_udp(time),
            60..64 => self.dns_over_tcp(time),
            64..84 => self.other_tcp(time),
            84..94 => {
                let flow = self.flow(443);
                let payload = vec![0x40; self.random.below(1200) as usize];
                self.send(time, &frame::udp(&flow, &payload), &flow);
            }
            94..97 => {
                let flow = self.flow(0);
                self.send(time, &frame::echo(flow.src, flow.dst), &flow);
            }
            97..99 => {
                // Neither end is HOST.
                let flow = Flow::new(self.remote(false), 4000, self.remote(false), 53);
                let name = self.name();
                let query = Message::query(9, &name, A);
                self.message(&query);
                self.send(time, &frame::udp(&flow, &query.octets()), &flow);
            }
            _ => {
                let arp = frame::arp();
                self.truth.packets += 1;
                self.truth.bytes += arp.len() as u64;
                self.capture.push(time, arp);
            }
        }
    }

    fn remote(&mut self, ipv6: bool) -> IpAddr {
        let number = self.random.skewed(REMOTES) as u32;
        if ipv6 {
            let [a, b] = [(number >> 16) as u16, number as u16];
            return Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, a, b).into();
        }
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn host(&mut self, ipv6: bool) -> IpAddr {
        let number = self.random.below(20) as u8 + 1;
        if ipv6 {
            return Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into();
        }
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    /// Returns a flow between HOST and a remote address, opened by either side.
    fn flow(&mut self, service: u16) -> Flow {
        let ipv6 = self.random.percent(40);
        let (host, remote) = (self.host(ipv6), self.remote(ipv6));
        let port = FIRST_PORT + self.random.below(40_000) as u16;
        let (client, server) =
            if self.random.percent(70) { (remote, host) } else { (host, remote) };
        Flow::new(client, port, server, service)
    }

    fn name(&mut self) -> String {
        let number = self.random.skewed(NAMES);
        let www = if number.is_multiple_of(3) { "WWW." } else { "" };
        format!("{www}h{number}.z{}.test", number % 9_000)
    }

    fn query(&mut self) -> Message {
        let id = self.random.next() as u16;
        let name = self.name();
        let qtype = *self.random.pick(&[A, A, A, AAAA, AAAA, HTTPS, MX, TXT, NS]);
        let mut query = Message::query(id, &name, qtype);
        if self.random.percent(50) {
            let udp_size = *self.random.pick(&[512, 1232, 1400, 4096]);
            let dnssec_ok = self.random.percent(30);
            query.edns = Some(Edns { udp_size, dnssec_ok, ..Edns::default() });
        }
        query
    }

    fn reply(&mut self, query: &Message) -> Message {
        match self.random.below(20) {
            0..3 => query.reply(NXDOMAIN, 0),
            3 => query.reply(SERVFAIL, 0),
            4 => query.reply(REFUSED, 0),
            5 => query.reply(NOERROR, 0),
            _ => query.reply(NOERROR, self.random.below(6) as u16 + 1),
        }
    }

    /// Returns a latency from 100 µs to 2 s, mostly short.
    fn latency(&mut self) -> i64 {
        (100 + self.random.skewed(2_000_000) as i64) * MICROSECOND
    }

    fn dns_over_udp(&mut self, time: i64) {
        let flow = self.flow(53);
        let query = self.query();
        self.truth.dns_udp += 1;
        self.message(&query);
        self.send(time, &frame::udp(&flow, &query.octets()), &flow);
        if self.random.percent(8) {
            return;
        }
        let mut reply = self.reply(&query);
        let large = self.random.percent(2);
        if large {
            reply = query.reply(NOERROR, LARGE);
        }
        let (time, flow) = (time + self.latency(), flow.reversed());
        self.truth.dns_udp += 1;
        self.message(&reply);
        let packet = frame::udp(&flow, &reply.octets());
        if !large {
            self.send(time, &packet, &flow);
            return;
        }
        for (at, part) in (0..).zip(frame::fragments(&packet, query.id, FRAGMENT)) {
            self.truth.fragments += 1;
            self.send(time + at * MICROSECOND, &part, &flow);
        }
    }

    fn dns_over_tcp(&mut self, time: i64) {
        let flow = self.flow(53);
        let query = self.query();
        let reply = self.reply(&query);
        for message in [&query, &reply] {
            self.truth.dns_tcp += 1;
            self.message(message);
        }
        let (client, server) = (self.random.next() as u32, self.random.next() as u32);
        let (query, reply) = (query.framed(), reply.framed());
        let (first, second) = reply.split_at(reply.len() / 2);
        let (behind_query, behind_reply) =
            (client.wrapping_add(1 + query.len() as u32), server.wrapping_add(1));
        let back = flow.reversed();
        let wait = self.latency();
        for (at, flow, sequence, flags, payload) in [
            (0, flow, client, SYN, &[][..]),
            (1, back, server, SYN | ACK, &[]),
            (2, flow, client.wrapping_add(1), ACK, &query),
            (3, back, behind_reply, ACK, first),
            (4, back, behind_reply.wrapping_add(first.len() as u32), ACK, second),
            (5, flow, behind_query, FIN | ACK, &[]),
        ] {
            let time = time + at * MICROSECOND + if at < 3 { 0 } else { wait };
            self.send(time, &frame::tcp(&flow, sequence, flags, payload), &flow);
        }
    }

    fn other_tcp(&mut self, time: i64) {
        let flow = self.flow(443);
        let payload = vec![0x17; self.random.below(1400) as usize];
        let flags = *self.random.pick(&[ACK, ACK, ACK, SYN, FIN | ACK, RST]);
        let sequence = self.random.next() as u32;
        self.send(time, &frame::tcp(&flow, sequence, flags, &payload), &flow);
    }

    /// Adds a message to the true counts.
    fn message(&mut self, message: &Message) {
        let truth = &mut self.truth;
        let name = message.name.to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        for (counts, keep) in [(&mut truth.qname2, 2), (&mut truth.qname3, 3)] {
            if let Some(cut) = labels.len().checked_sub(keep) {
                let dot = if cut > 0 { "." } else { "" };
                *counts.entry(format!("{dot}{}", labels[cut..].join("."))).or_default() += 1;
            }
        }
        if message.flags & QR == 0 {
            truth.queries += 1;
        } else {
            truth.replies += 1;
            let bytes = message.octets().len() as u64;
            *truth.reply_bytes.entry(name.clone()).or_default() += bytes;
            let outcome = match message.flags & 0xf {
                NXDOMAIN => &mut truth.nxdomain,
                SERVFAIL => &mut truth.srvfail,
                REFUSED => &mut truth.refused,
                _ => &mut truth.noerror,
            };
            *outcome.entry(name.clone()).or_default() += 1;
            if message.flags & 0xf == NOERROR && message.answers == 0 {
                *truth.nodata.entry(name.clone()).or_default() += 1;
            }
        }
        truth.names.insert(name);
    }

    fn send(&mut self, time: i64, packet: &[u8], flow: &Flow) {
        let frame = frame::ethernet(packet);
        let truth = &mut self.truth;
        truth.packets += 1;
        truth.bytes += frame.len() as u64;
        truth.addresses.extend([flow.src, flow.dst]);
        let remote = match (is_host(flow.src), is_host(flow.dst)) {
            (_, true) => Some(flow.src),
            (true, false) => Some(flow.dst),
            (false, false) => None,
        };
        if let Some(remote) = remote {
            let counts = if remote.is_ipv4() { &mut truth.ipv4 } else { &mut truth.ipv6 };
            *counts.entry(remote.to_string()).or_default() += 1;
            *truth.address_bytes.entry(remote.to_string()).or_default() += frame.len() as u64;
        }
        self.capture.push(time, frame);
    }
}

/// Returns true if a frame without VLAN tags carries TCP.
fn is_tcp(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame[23] == frame::TCP,
        [0x86, 0xdd] => frame[20] == frame::TCP,
        _ => false,
    }
}

/// Returns true if an address is in [`HOSTS`].
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [192, 0, 2],
        IpAddr::V6(address) => address.segments()[..4] == [0x2001, 0xdb8, 0, 0],
    }
}
