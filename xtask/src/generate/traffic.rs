//! Generates packets and their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Kind;
use super::dns::{Names, Query, flood_name};
use super::pcap;
use super::random::{Random, Zipf, scatter};
use super::tcp::Connection;
use super::wire::{self, HOST_V4, HOST_V6};

/// Time of the first packet in nanoseconds of unix time: the start of 2025, a full minute.
const START: u64 = 1_735_689_600 * 1_000_000_000;
/// Number of distinct query names.
const NAMES: u64 = 200_000;
/// Number of distinct remote hosts.
const SOURCES: u64 = 50_000;
/// Number of TCP connections open at a time.
const CONNECTIONS: usize = 256;

/// Writes a capture of `packets` packets of `kind`.
pub(super) fn write(kind: Kind, packets: u64, seed: u64, out: &mut impl Write) -> io::Result<()> {
    pcap::write_header(out)?;
    let mut traffic = Traffic::new(kind, seed);
    for _ in 0..packets {
        let (time, frame) = traffic.next_packet();
        pcap::write_packet(out, time, &frame)?;
    }
    Ok(())
}

/// A packet to be written later. Packets of equal time are written in the order of their numbers.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    /// Nanoseconds of unix time.
    time: u64,
    number: u64,
    frame: Vec<u8>,
}

/// A part of mixed traffic.
#[derive(Clone, Copy)]
enum Part {
    Dns,
    Tcp,
    Other,
}

/// The parts of mixed traffic, each with its share in percent of the packets.
const PARTS: [(Part, u64); 3] = [(Part::Dns, 60), (Part::Tcp, 30), (Part::Other, 10)];

/// Generates packets in the order of time.
struct Traffic {
    kind: Kind,
    random: Random,
    /// Time of the next event, such as a query with its reply, or a TCP segment.
    now: u64,
    pending: BinaryHeap<Reverse<Pending>>,
    /// Packets generated so far, including those pending.
    made: u64,
    /// The same by part, in the order of [`PARTS`].
    made_by_part: [u64; 3],
    names: Names,
    ranks: Zipf,
    sources: Zipf,
    connections: Vec<Connection>,
}

impl Traffic {
    fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            random: Random::new(seed),
            now: START,
            pending: BinaryHeap::new(),
            made: 0,
            made_by_part: [0; 3],
            names: Names::new(NAMES),
            ranks: Zipf::new(NAMES),
            sources: Zipf::new(SOURCES),
            connections: Vec::new(),
        }
    }

    /// Returns the next packet and its time.
    fn next_packet(&mut self) -> (u64, Vec<u8>) {
        loop {
            // Events only generate packets at their time or later, so no earlier packet can follow.
            if self.pending.peek().is_some_and(|Reverse(packet)| packet.time < self.now)
                && let Some(Reverse(packet)) = self.pending.pop()
            {
                return (packet.time, packet.frame);
            }
            let before = self.made;
            self.event();
            // Advances by a random time whose mean is that of these packets at the kind's rate.
            let made = self.made - before;
            self.now += 1 + self.random.below(2 * made * self.kind.gap());
        }
    }

    /// Generates the packets of one event.
    fn event(&mut self) {
        match self.kind {
            Kind::Dns => self.dns(),
            Kind::Flood => self.flood(),
            Kind::Mixed => self.mixed(),
        }
    }

    /// Generates an event of the part that is furthest behind its share.
    fn mixed(&mut self) {
        let behind = |&(at, (_, share)): &(usize, (Part, u64))| {
            (share * (self.made + 1)) as i64 - (100 * self.made_by_part[at]) as i64
        };
        let (at, (part, _)) =
            PARTS.into_iter().enumerate().max_by_key(behind).expect("there are parts");
        let before = self.made;
        match part {
            Part::Dns => self.dns(),
            Part::Tcp => self.tcp(),
            Part::Other => self.other(),
        }
        self.made_by_part[at] += self.made - before;
    }

    /// Generates a query, in 85 % of cases to the host, and in 97 % its reply.
    fn dns(&mut self) {
        let peer = self.peer();
        let inbound = self.random.percent(85);
        let rank = self.ranks.draw(&mut self.random);
        let (client, server) = self.endpoints(peer, inbound, 53);
        let query = Query::new(self.names.get(rank), client.ip(), &mut self.random);
        let message = query.message();
        let reply = self.random.percent(97).then(|| query.reply(&mut self.random));
        self.push(self.now, wire::udp(client, server, &message));
        if let Some(reply) = reply {
            let time = self.now + self.random.reply_time();
            self.push(time, wire::udp(server, client, &reply));
        }
    }

    /// Generates a query for a new name from a random address.
    fn flood(&mut self) {
        let number = self.random.next();
        let peer = address(number, self.random.percent(85));
        let (client, server) = self.endpoints(peer, true, 53);
        let name = flood_name(self.made, &mut self.random);
        let query = Query::new(&name, peer, &mut self.random).message();
        self.push(self.now, wire::udp(client, server, &query));
    }

    /// Generates the next segment of a random connection, and opens one if there are too few.
    fn tcp(&mut self) {
        if self.connections.len() < CONNECTIONS {
            let peer = self.peer();
            let inbound = self.random.percent(70);
            let port = self.random.weighted(&[(443, 70), (80, 15), (22, 8), (993, 4), (5432, 3)]);
            let (client, server) = self.endpoints(peer, inbound, port);
            self.connections.push(Connection::new(client, server, &mut self.random));
        }
        let at = self.random.below(self.connections.len() as u64) as usize;
        let (frame, last) = self.connections[at].advance(self.now, &mut self.random);
        if last {
            self.connections.swap_remove(at);
        }
        self.push(self.now, frame);
    }

    /// Generates a ping, NTP, syslog, ARP or neighbour discovery.
    fn other(&mut self) {
        #[derive(Clone, Copy)]
        enum Event {
            Echo,
            Time,
            Log,
            Arp,
            NeighbourDiscovery,
        }
        let peer = self.peer();
        let event = self.random.weighted(&[
            (Event::Echo, 30),
            (Event::Time, 35),
            (Event::Log, 20),
            (Event::Arp, 8),
            (Event::NeighbourDiscovery, 7),
        ]);
        let later = self.now + self.random.reply_time();
        match event {
            Event::Echo => {
                let sequence = self.random.next() as u16;
                self.push(self.now, wire::echo(peer, host(peer), true, sequence));
                self.push(later, wire::echo(host(peer), peer, false, sequence));
            }
            Event::Time => {
                let (client, server) = self.endpoints(peer, true, 123);
                // NTP version 4, a client's request and a server's reply (RFC 5905).
                let mut message = [0; 48];
                message[0] = 0x23;
                self.push(self.now, wire::udp(client, server, &message));
                message[..4].copy_from_slice(&[0x24, 2, 6, 0xe9]);
                self.push(later, wire::udp(server, client, &message));
            }
            Event::Log => {
                let (client, server) = self.endpoints(peer, true, 514);
                let message = "<38>Jan  1 00:00:00 edge sshd[4242]: Connection closed by peer";
                self.push(self.now, wire::udp(client, server, message.as_bytes()));
            }
            Event::Arp => {
                self.push(self.now, wire::arp(true));
                self.push(later, wire::arp(false));
            }
            Event::NeighbourDiscovery => {
                self.push(self.now, wire::neighbour_discovery(true));
                self.push(later, wire::neighbour_discovery(false));
            }
        }
    }

    /// Returns a remote address: half of the time by Zipf's law, otherwise with equal probability.
    fn peer(&mut self) -> IpAddr {
        let number = if self.random.percent(50) {
            self.sources.draw(&mut self.random)
        } else {
            self.random.below(SOURCES)
        };
        // Adds 1, because zero scatters to itself.
        address(scatter(number + 1), number % 10 < 7)
    }

    /// Returns client and server: `peer` and the host if `inbound`, otherwise the host and `peer`.
    /// The server has `port`, and the client a random ephemeral port.
    fn endpoints(&mut self, peer: IpAddr, inbound: bool, port: u16) -> (SocketAddr, SocketAddr) {
        let (client, server) = if inbound { (peer, host(peer)) } else { (host(peer), peer) };
        let ephemeral = self.random.between(32_768, 61_000) as u16;
        (SocketAddr::new(client, ephemeral), SocketAddr::new(server, port))
    }

    /// Adds a packet to be written at `time`.
    fn push(&mut self, time: u64, frame: Vec<u8>) {
        self.pending.push(Reverse(Pending { time, number: self.made, frame }));
        self.made += 1;
    }
}

/// Returns the host's address of the same family as `peer`.
fn host(peer: IpAddr) -> IpAddr {
    if peer.is_ipv4() { HOST_V4.into() } else { HOST_V6.into() }
}

/// Derives an address from `number`: 16.0.0.0 to 95.255.255.255, or in 2a00::/12.
fn address(number: u64, v4: bool) -> IpAddr {
    let [a, b, c, d, rest @ ..] = number.to_be_bytes();
    if v4 {
        Ipv4Addr::new(16 + a % 80, b, c, d).into()
    } else {
        let network = u128::from(u32::from_be_bytes([0x2a, a & 0x0f, b, c]));
        let interface = u128::from(u32::from_be_bytes(rest));
        Ipv6Addr::from(network << 96 | u128::from(d) << 64 | interface).into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::super::write_file;
    use super::*;
    use crate::exec::find_program;

    fn capture(kind: Kind, packets: u64, seed: u64) -> Vec<u8> {
        let mut file = Vec::new();
        write(kind, packets, seed, &mut file).unwrap();
        file
    }

    /// Returns the time in microseconds and the frame of each packet in a capture file.
    fn packets(file: &[u8]) -> Vec<(u64, &[u8])> {
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let mut packets = Vec::new();
        let mut at = 24;
        while at < file.len() {
            let length = word(at + 12) as usize;
            let time = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
            packets.push((time, &file[at + 16..at + 16 + length]));
            at += 16 + length;
        }
        packets
    }

    #[test]
    fn equal_seeds_give_equal_files() {
        for kind in [Kind::Mixed, Kind::Dns, Kind::Flood] {
            assert_eq!(capture(kind, 2000, 5), capture(kind, 2000, 5), "{kind:?}");
            assert_ne!(capture(kind, 2000, 5), capture(kind, 2000, 6), "{kind:?}");
        }
    }

    #[test]
    fn packets_come_in_order_at_the_rate_of_their_kind() {
        for kind in [Kind::Mixed, Kind::Dns, Kind::Flood] {
            let file = capture(kind, 20_000, 1);
            let packets = packets(&file);
            assert_eq!(packets.len(), 20_000);
            assert!(packets.is_sorted_by_key(|&(time, _)| time), "{kind:?}");
            let took = packets[19_999].0 - packets[0].0;
            let ratio = took as f64 / (20_000 * kind.gap() / 1000) as f64;
            assert!((0.9..1.1).contains(&ratio), "{kind:?}: {ratio} of the time");
        }
    }

    #[test]
    fn mixed_traffic_has_documented_shares() {
        let file = capture(Kind::Mixed, 20_000, 1);
        let (mut dns, mut tcp) = (0, 0);
        for (_, frame) in packets(&file) {
            let (protocol, ports) = match frame[12..14] {
                [0x08, 0x00] => (frame[23], 34),
                [0x86, 0xdd] => (frame[20], 54),
                _ => continue,
            };
            let is_dns = |at: usize| frame[at..at + 2] == [0, 53];
            dns += u64::from(protocol == 17 && (is_dns(ports) || is_dns(ports + 2)));
            tcp += u64::from(protocol == 6);
        }
        assert!((11_900..12_100).contains(&dns), "{dns}");
        assert!((5900..6100).contains(&tcp), "{tcp}");
    }

    /// Checks for malformed packets, wrong checksums and other errors.
    #[test]
    fn wireshark_finds_no_errors() {
        if find_program("tshark").unwrap().is_none() {
            eprintln!("skipped: tshark is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for kind in [Kind::Mixed, Kind::Dns, Kind::Flood] {
            let path = dir.path().join("sample.pcap");
            write_file(&path, |out| write(kind, 3000, 1, out)).unwrap();
            let mut tshark = Command::new("tshark");
            for protocol in ["ip", "udp", "tcp"] {
                tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
            }
            // 0x800000 is the severity "error", which includes wrong checksums.
            tshark.args(["-Y", "_ws.malformed || _ws.expert.severity >= 0x800000"]);
            let output = tshark.arg("-r").arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{kind:?}");
            fs::remove_file(path).unwrap();
        }
    }
}
