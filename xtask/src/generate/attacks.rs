//! Packets of someone who has read the source: each attack is what once cost most, or might.
//!
//! `docs/SECURITY.md` says what is promised of them, `cargo xtask bench adversary` measures it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::ValueEnum;
use siphasher::sip::SipHasher24;

use super::pcap;
use super::random::{Random, scatter};
use super::wire::{self, HOST_V4, HOST_V6, TcpHeader};

/// When the first packet comes, in nanoseconds of unix time, and how far packets are apart: 20,000
/// packets a second.
const START: u64 = 1_750_000_000_000_000_000;
const GAP: u64 = 50_000;
/// Bytes of the largest packet without its Ethernet header.
const MTU: usize = 1_500;
/// Connections that are opened again and again.
const CONNECTIONS: u64 = 60_000;
/// Bytes that a segment carries.
const SEGMENT: usize = MTU - 40;
/// Bytes of an IPv4 and a UDP header.
const HEADERS: usize = 28;
/// Low bits that keys have in common which are to fall together in a table.
const COLLIDING_BITS: u32 = if cfg!(test) { 4 } else { 16 };
/// How many such keys there are.
const COLLIDING_KEYS: u64 = 8_192;

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// A question whose name is a pointer, with 75 records behind it.
    PointerQuestion,
    /// As many questions as have room, each a pointer to a name of 254 bytes.
    Questions,
    /// As many EDNS options as have room, and a client subnet behind them.
    Options,
    /// Replies of as many records as have room.
    Records,
    /// Replies whose records have names of labels of one byte.
    Labels,
    /// One socket and one id ask for ever other names.
    OneId,
    /// Names whose hashes, without a fleet key, end in the same bits.
    CollidingNames,
    /// IPv6 addresses whose hashes, without a fleet key, end in the same bits.
    CollidingAddresses,
    /// Names of 254 bytes that are none of them printable.
    LongNames,
    /// Names in capitals.
    Capitals,
    /// A client subnet of its own in each query.
    Subnets,
    /// Replies that nobody asked for.
    Orphans,
    /// Replies to zone transfers that nobody asked for, each of another connection.
    Transfers,
    /// ICMP errors that quote no more than the ports of a query.
    Unreachable,
    /// Fragments of 8 bytes that leave gaps of 8 bytes.
    FragmentsInGaps,
    /// First fragments of ever other datagrams.
    FirstFragments,
    /// Segments of one byte that leave gaps of one byte.
    SegmentsInGaps,
    /// A segment that begins a message, each on another connection.
    Connections,
    /// Acknowledgements beyond gaps, in both directions of a few connections.
    Acknowledged,
    /// Segments of as many messages as have room, which are no more than a header.
    Headers,
    /// Segments of as many queries as have room, for ever other names of one label.
    Pipelined,
    /// Messages of 65,535 bytes in segments: as many questions as have room, each a pointer to a name of
    /// 254 bytes.
    LongMessages,
    /// As many IPv6 extension headers as have room.
    ExtensionHeaders,
    /// Transactions that fill all lists of names with long ones, and the counts by port, type, size and
    /// latency.
    FullLists,
}

/// Names that fill the lists of four response codes.
const LISTED: u64 = 4 * 3_072;
/// Their codes: NOERROR, SERVFAIL, NXDOMAIN, REFUSED.
const CODES: [u16; 4] = [0, 2, 3, 5];

/// Writes `packets` packets of an attack.
pub fn write(attack: Attack, packets: u64, seed: u64, out: &mut impl Write) -> io::Result<()> {
    let mut attacker = Attacker::new(attack, Random::new(seed));
    pcap::write_header(out)?;
    for number in 0..packets {
        pcap::write_packet(out, START + number * GAP, &attacker.packet(number))?;
    }
    Ok(())
}

struct Attacker {
    attack: Attack,
    random: Random,
    /// Names or addresses that fall together.
    colliding: Vec<Vec<u8>>,
    /// How far each connection or datagram has come.
    places: HashMap<u64, u32>,
    /// What is sent in segments.
    stream: Vec<u8>,
}

impl Attacker {
    fn new(attack: Attack, random: Random) -> Self {
        let colliding = match attack {
            Attack::CollidingNames => colliding(|number| name(&format!("{number:x}.example"))),
            Attack::CollidingAddresses => colliding(|number| {
                [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0], number.to_be_bytes()].concat()
            }),
            _ => Vec::new(),
        };
        Self { attack, random, colliding, places: HashMap::new(), stream: Vec::new() }
    }

    fn packet(&mut self, number: u64) -> Vec<u8> {
        let id = self.random.next() as u16;
        let client = client(number);
        let host: SocketAddr = (HOST_V4, 53).into();
        let example = question(&name("example"));
        let other = question(&name(&format!("{:016x}.example", scatter(number))));
        match self.attack {
            Attack::OneId => wire::udp(peer(0), host, &query(1, &other)),
            Attack::CollidingAddresses => {
                let address = &self.colliding[(number % COLLIDING_KEYS) as usize];
                let address: [u8; 16] = address[..].try_into().expect("made of 16 bytes");
                let client = (Ipv6Addr::from(address), 4_000).into();
                wire::udp(client, (HOST_V6, 53).into(), &query(id, &example))
            }
            Attack::Orphans => {
                let server = (client.ip(), 53).into();
                wire::udp(server, (HOST_V4, 4_000).into(), &reply(id, [1, 0, 0, 0], &other))
            }
            Attack::Transfers => {
                let question = [&name("example")[..], &[0, 0, 252, 0, 1]].concat();
                let to = (HOST_V4, 1_024 + (number % 60_000) as u16).into();
                let message = framed(&reply(id, [1, 0, 0, 0], &question));
                segment((client.ip(), 53).into(), to, 1, &message)
            }
            Attack::Unreachable => {
                let inner = wire::udp(host, client, &[0; 8]);
                unreachable(client.ip(), &inner[14..14 + HEADERS])
            }
            Attack::FragmentsInGaps => {
                let (datagram, at) = (number / 4_000, number % 4_000);
                fragment(datagram as u16, at as u16 * 2, true, &[0; 8])
            }
            Attack::FirstFragments => {
                let udp = wire::udp(client, host, &query(id, &example));
                fragment(number as u16, 0, true, &udp[34..66])
            }
            Attack::SegmentsInGaps => self.segment_in_gap(number % 4, 2, 1),
            Attack::Connections => segment(client, host, 1, &framed(&query(id, &example))[..10]),
            Attack::Acknowledged if number.is_multiple_of(2) => {
                self.segment_in_gap(number / 2 % 64, 40, 20)
            }
            Attack::Acknowledged => {
                let connection = number / 2 % 64;
                let acknowledgment = self.places.get(&connection).copied().unwrap_or(0);
                let header = TcpHeader { sequence: 1, acknowledgment, flags: 0x10, options: &[] };
                wire::tcp(host, peer(connection), &header, &[])
            }
            Attack::Headers | Attack::Pipelined if number.is_multiple_of(2) => {
                syn(peer(number / 2 % CONNECTIONS))
            }
            Attack::Headers => {
                let messages = framed(&message(id, 0x0100, [0; 4], &[])).repeat(SEGMENT / 14);
                segment(peer(number / 2 % CONNECTIONS), host, 1, &messages)
            }
            Attack::Pipelined => {
                let queries = (0..SEGMENT as u64 / 26).flat_map(|at| {
                    let label = format!("{:06x}", scatter(number << 8 | at));
                    framed(&query(at as u16, &question(&name(&label[..6]))))
                });
                let queries: Vec<u8> = queries.collect();
                segment(peer(number / 2 % CONNECTIONS), host, 1, &queries)
            }
            Attack::LongMessages => self.long_message(id, number),
            Attack::ExtensionHeaders => extension_headers(),
            Attack::FullLists => full_lists(number),
            _ => wire::udp(client, host, &self.message(id, number)),
        }
    }

    /// A message that anybody sends over UDP.
    fn message(&mut self, id: u16, number: u64) -> Vec<u8> {
        let room = MTU - HEADERS - 12;
        let example = question(&name("example"));
        match self.attack {
            Attack::PointerQuestion => {
                let records = record(&[0xc0, 24], 1, &[1; 4]).repeat(75);
                reply(id, [1, 75, 0, 0], &[&[0xc0, 18, 0, 1, 0, 1][..], &records].concat())
            }
            Attack::Questions => {
                let mut questions = question(&long_name(&mut self.random, 1));
                let further = (room - questions.len()) / 6;
                questions.extend([0xc0, 12, 0, 1, 0, 1].repeat(further));
                message(id, 0x0100, [1 + further as u16, 0, 0, 0], &questions)
            }
            Attack::Options => {
                let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
                let empty = (room - example.len() - 11 - subnet.len()) / 4;
                let options = [[0xff, 0xfe, 0, 0].repeat(empty), subnet.to_vec()].concat();
                let rest = [example, record(&[0], 41, &options)].concat();
                message(id, 0x0100, [1, 0, 0, 1], &rest)
            }
            Attack::Subnets => {
                let [a, b, c, ..] = self.random.next().to_be_bytes();
                let options = [0, 8, 0, 7, 0, 1, 24, 0, a, b, c];
                let rest = [example, record(&[0], 41, &options)].concat();
                message(id, 0x0100, [1, 0, 0, 1], &rest)
            }
            Attack::Records | Attack::Labels => {
                let labels = if self.attack == Attack::Labels { 126 } else { 0 };
                let owner = [[1, b'a'].repeat(labels), vec![0]].concat();
                let record = record(&owner, 2, &[]);
                let records = (room - example.len()) / record.len();
                let rest = [example, record.repeat(records)].concat();
                reply(id, [1, 0, records as u16, 0], &rest)
            }
            Attack::CollidingNames => {
                query(id, &question(&self.colliding[(number % COLLIDING_KEYS) as usize]))
            }
            Attack::LongNames => query(id, &question(&long_name(&mut self.random, 63))),
            Attack::Capitals => {
                query(id, &question(&name(&"ABCDEFGHIJKLMNOPQRSTUVWXYZ.".repeat(9))))
            }
            _ => query(id, &example),
        }
    }

    /// A SYN or a segment of a message as long as messages can be.
    fn long_message(&mut self, id: u16, number: u64) -> Vec<u8> {
        let packets = 1 + (2 + u64::from(u16::MAX)).div_ceil(SEGMENT as u64);
        let (connection, at) = (number / packets % CONNECTIONS, number % packets);
        if at == 0 {
            let mut questions = question(&long_name(&mut self.random, 1));
            let further = (usize::from(u16::MAX) - 12 - questions.len()) / 6;
            questions.extend([0xc0, 12, 0, 1, 0, 1].repeat(further));
            self.stream = framed(&message(id, 0x0100, [1 + further as u16, 0, 0, 0], &questions));
            return syn(peer(connection));
        }
        let from = (at as usize - 1) * SEGMENT;
        let part = &self.stream[from..self.stream.len().min(from + SEGMENT)];
        segment(peer(connection), (HOST_V4, 53).into(), 1 + from as u32, part)
    }

    /// The next segment of a connection, `step` bytes behind the one before.
    fn segment_in_gap(&mut self, connection: u64, step: u32, length: usize) -> Vec<u8> {
        let place = self.places.entry(connection).or_insert(1);
        *place = place.wrapping_add(step);
        segment(peer(connection), (HOST_V4, 53).into(), *place, &vec![0; length])
    }
}

/// A query, or the reply to one of up to 16,384 transactions before: each takes another time.
fn full_lists(number: u64) -> Vec<u8> {
    let (turn, is_reply) = (number / 2, number % 2 == 1);
    let before = if is_reply { 1 << (turn % 15) } else { 0 };
    let transaction = turn.saturating_sub(before);
    let listed = transaction % LISTED;
    let any = transaction as u16;
    let name = long_name(&mut Random::new(listed), 63);
    let question = [&name[..], &[0], &any.to_be_bytes(), &[0, 1]].concat();
    let options = [&[0, 0, 41][..], &any.to_be_bytes(), &[0; 6]].concat();
    let rest = [question, options].concat();
    let (from, host) = (client(transaction), (HOST_V4, 53).into());
    if is_reply {
        let code = CODES[(listed / (LISTED / 4)) as usize];
        wire::udp(host, from, &message(any, 0x8180 | code, [1, 0, 0, 1], &rest))
    } else {
        wire::udp(from, host, &message(any, 0x0100, [1, 0, 0, 1], &rest))
    }
}

/// Anybody: an address and a port that come once.
fn client(number: u64) -> SocketAddr {
    let [a, b, c, d, ..] = scatter(number).to_be_bytes();
    (Ipv4Addr::new(11 + a % 100, b, c, d), 1_024 + (number % 60_000) as u16).into()
}

/// The other end of one of a few connections.
fn peer(connection: u64) -> SocketAddr {
    (Ipv4Addr::new(198, 51, 100, 1), 4_000 + connection as u16).into()
}

/// Keys made of numbers whose hashes, by the key of those who have no fleet key, end in the same bits.
fn colliding(key: impl Fn(u64) -> Vec<u8>) -> Vec<Vec<u8>> {
    let public = SipHasher24::new();
    let falls_together = |key: &Vec<u8>| public.hash(key).trailing_zeros() >= COLLIDING_BITS;
    (0..).map(key).filter(falls_together).take(COLLIDING_KEYS as usize).collect()
}

/// A name in wire form, without its final empty label.
fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect()
}

/// A name of 254 bytes, of labels of at most `label` bytes with bits of chance.
fn long_name(random: &mut Random, label: usize) -> Vec<u8> {
    let mut name = Vec::new();
    while name.len() < 252 {
        let length = label.min(253 - name.len());
        name.push(length as u8);
        name.extend((0..length).map(|_| random.next() as u8 | 0x80));
    }
    name
}

/// A question for an address.
fn question(name: &[u8]) -> Vec<u8> {
    [name, &[0, 0, 1, 0, 1]].concat()
}

fn record(owner: &[u8], rtype: u16, data: &[u8]) -> Vec<u8> {
    let fixed = [&rtype.to_be_bytes()[..], &[4, 208, 0, 0, 0, 0]].concat();
    [owner, &fixed, &(data.len() as u16).to_be_bytes(), data].concat()
}

fn message(id: u16, flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let header = [id, flags, counts[0], counts[1], counts[2], counts[3]].map(u16::to_be_bytes);
    [header.as_flattened(), rest].concat()
}

fn query(id: u16, question: &[u8]) -> Vec<u8> {
    message(id, 0x0100, [1, 0, 0, 0], question)
}

fn reply(id: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    message(id, 0x8180, counts, rest)
}

/// A message as it stands in a stream (RFC 1035 section 4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The first packet of a connection to the host.
fn syn(from: SocketAddr) -> Vec<u8> {
    let header = TcpHeader { sequence: 0, acknowledgment: 0, flags: 0x02, options: &[] };
    wire::tcp(from, (HOST_V4, 53).into(), &header, &[])
}

fn segment(from: SocketAddr, to: SocketAddr, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let header = TcpHeader { sequence, acknowledgment: 1, flags: 0x18, options: &[] };
    wire::tcp(from, to, &header, payload)
}

/// A UDP datagram behind as many extension headers (destination options) as have room.
fn extension_headers() -> Vec<u8> {
    const OPTIONS: u8 = 60;
    let headers = (MTU - 40 - 8) / 8;
    let inner = wire::udp((HOST_V6, 4_000).into(), (HOST_V6, 53).into(), &[]);
    let mut frame = inner[..54].to_vec();
    frame[20] = OPTIONS;
    for header in 1..=headers {
        let next = if header == headers { 17 } else { OPTIONS };
        frame.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    frame.extend(&inner[54..62]);
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A fragment of a UDP datagram to the host, `offset` times 8 bytes from its start.
fn fragment(ident: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    // The header of a packet that carries as much.
    let udp = wire::udp((Ipv4Addr::new(198, 51, 100, 1), 4_000).into(), (HOST_V4, 53).into(), &[]);
    let mut frame = [&udp[..34], payload].concat();
    frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    frame[18..20].copy_from_slice(&ident.to_be_bytes());
    frame[20..22].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    frame
}

/// An ICMP error that says a packet of the host could not be delivered.
fn unreachable(from: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let echo = wire::echo(from, HOST_V4.into(), true, 0);
    let mut frame = [&echo[..34], &[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat();
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_fits_into_a_packet_and_comes_out_the_same() {
        for &attack in Attack::value_variants() {
            let packets = || {
                let mut attacker = Attacker::new(attack, Random::new(1));
                (0..200).map(|number| attacker.packet(number)).collect::<Vec<_>>()
            };
            let first = packets();
            assert!(first.iter().all(|frame| frame.len() <= 14 + MTU), "{attack:?}");
            assert_eq!(first, packets(), "{attack:?}");
        }
    }
}
