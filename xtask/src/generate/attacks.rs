//! Hostile packets, made with knowledge of the source code. Each attack is one that once cost most,
//! or might.
//!
//! `docs/SECURITY.md` states the bounds of their cost. `cargo xtask bench adversary` measures it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::ValueEnum;
use siphasher::sip::SipHasher24;

use super::pcap;
use super::random::{Random, scatter};
use super::wire::{self, HOST_V4, HOST_V6, TcpHeader};

/// Time of the first packet in nanoseconds of unix time.
const START: u64 = 1_750_000_000_000_000_000;
/// Time between packets in nanoseconds: 20,000 packets per second.
const GAP: u64 = 50_000;
/// Bytes of the largest packet without its Ethernet header.
const MTU: usize = 1_500;
/// Number of TCP connections, which are opened again and again.
const CONNECTIONS: u64 = 60_000;
/// Payload bytes of a full segment.
const SEGMENT: usize = MTU - 40;
/// Bytes of an IPv4 and a UDP header.
const HEADERS: usize = 28;
/// Low bits that are zero in the hashes of colliding keys.
const COLLIDING_BITS: u32 = if cfg!(test) { 4 } else { 16 };
/// Number of colliding keys.
const COLLIDING_KEYS: u64 = 8_192;

/// A kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// A question whose name is a pointer, followed by 75 records
    PointerQuestion,
    /// A packet full of questions, each a pointer to a name of 126 labels
    Questions,
    /// A packet full of EDNS options, the last one a client subnet
    Options,
    /// Replies full of records
    Records,
    /// Replies full of records whose owners have 126 labels of one byte
    Labels,
    /// Queries from one socket with one id, each for a new name
    OneId,
    /// Names whose hashes, without a fleet key, end in the same bits
    CollidingNames,
    /// IPv6 addresses whose hashes, without a fleet key, end in the same bits
    CollidingAddresses,
    /// Names of the greatest length, 255 bytes, without a printable character
    LongNames,
    /// Names in upper case
    Capitals,
    /// A different client subnet in each query
    Subnets,
    /// Replies without a query
    Orphans,
    /// Zone transfer replies without a query, each on a different connection
    Transfers,
    /// ICMP errors that quote a query only up to its UDP header
    Unreachable,
    /// Fragments of 8 bytes with gaps of 8 bytes between them
    FragmentsInGaps,
    /// First fragments, each of a new datagram
    FirstFragments,
    /// TCP segments of one byte with gaps of one byte between them
    SegmentsInGaps,
    /// TCP segments with the start of a message, each on a new connection
    Connections,
    /// Acknowledgments of data behind gaps, on a few connections
    Acknowledged,
    /// TCP segments full of messages that are only a header
    Headers,
    /// TCP segments full of queries, each for a new name of one label
    Pipelined,
    /// TCP messages of 65,535 bytes full of questions, each a pointer to a name of 126 labels
    LongMessages,
    /// A packet full of IPv6 extension headers
    ExtensionHeaders,
    /// Transactions that fill all name lists with long names, and all counts by port, type, size
    /// and latency
    FullLists,
}

/// Number of names, enough to fill the lists of four response codes.
const LISTED: u64 = 4 * 3_072;
/// Response codes of the lists: NOERROR, SERVFAIL, NXDOMAIN, REFUSED.
const CODES: [u16; 4] = [0, 2, 3, 5];

/// Writes a capture file with `packets` packets of an attack.
pub(crate) fn write(
    attack: Attack,
    packets: u64,
    seed: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut attacker = Attacker::new(attack, Random::new(seed));
    pcap::write_header(out)?;
    for number in 0..packets {
        pcap::write_packet(out, START + number * GAP, &attacker.packet(number))?;
    }
    Ok(())
}

/// Generates the packets of an attack.
struct Attacker {
    attack: Attack,
    random: Random,
    /// Names or addresses with colliding hashes.
    colliding: Vec<Vec<u8>>,
    /// Current sequence number of each connection.
    places: HashMap<u64, u32>,
    /// The message that is sent in segments, with its length.
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

    /// Returns the `number`-th packet, from 0. Must be called in order.
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

    /// Returns a DNS message for attacks over UDP from any address.
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

    /// Returns a SYN, or a segment of a message of the greatest possible length.
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

    /// Returns the next segment of a connection, `step` bytes after the start of the previous one.
    fn segment_in_gap(&mut self, connection: u64, step: u32, length: usize) -> Vec<u8> {
        let place = self.places.entry(connection).or_insert(1);
        *place = place.wrapping_add(step);
        segment(peer(connection), (HOST_V4, 53).into(), *place, &vec![0; length])
    }
}

/// Returns a query, or the reply to a query of 2^n transactions ago, with n from 0 to 14, so that
/// latencies differ.
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

/// Returns an address and a port that no other packet uses, derived from `number`.
fn client(number: u64) -> SocketAddr {
    let [a, b, c, d, ..] = scatter(number).to_be_bytes();
    (Ipv4Addr::new(11 + a % 100, b, c, d), 1_024 + (number % 60_000) as u16).into()
}

/// Returns the remote end of a connection: one address, a port for each connection.
fn peer(connection: u64) -> SocketAddr {
    (Ipv4Addr::new(198, 51, 100, 1), 4_000 + connection as u16).into()
}

/// Returns keys made from numbers, whose hashes under the public key, which agents without a fleet
/// key use, end in [`COLLIDING_BITS`] zeros.
fn colliding(key: impl Fn(u64) -> Vec<u8>) -> Vec<Vec<u8>> {
    let public = SipHasher24::new();
    let falls_together = |key: &Vec<u8>| public.hash(key).trailing_zeros() >= COLLIDING_BITS;
    (0..).map(key).filter(falls_together).take(COLLIDING_KEYS as usize).collect()
}

/// Encodes a name in wire form, without the final empty label.
fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect()
}

/// Returns a name in wire form of 253 or 254 bytes, without the final empty label; 254 is the most
/// that a message can hold. Its labels have at most `label` random bytes, none of them ASCII.
fn long_name(random: &mut Random, label: usize) -> Vec<u8> {
    let mut name = Vec::new();
    while name.len() < 253 {
        let length = label.min(253 - name.len());
        name.push(length as u8);
        name.extend((0..length).map(|_| random.next() as u8 | 0x80));
    }
    name
}

/// Encodes a question for an IPv4 address.
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

/// Prefixes a message with its length, as in a TCP stream (RFC 1035, section 4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Returns the first packet of a TCP connection to the host.
fn syn(from: SocketAddr) -> Vec<u8> {
    let header = TcpHeader { sequence: 0, acknowledgment: 0, flags: 0x02, options: &[] };
    wire::tcp(from, (HOST_V4, 53).into(), &header, &[])
}

fn segment(from: SocketAddr, to: SocketAddr, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let header = TcpHeader { sequence, acknowledgment: 1, flags: 0x18, options: &[] };
    wire::tcp(from, to, &header, payload)
}

/// Returns a UDP datagram behind as many extension headers (destination options) as fit.
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

/// Returns a fragment of a UDP datagram to the host, with `offset` in units of 8 bytes.
fn fragment(ident: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    // A packet to take the Ethernet and IP headers from.
    let udp = wire::udp((Ipv4Addr::new(198, 51, 100, 1), 4_000).into(), (HOST_V4, 53).into(), &[]);
    let mut frame = [&udp[..34], payload].concat();
    frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    frame[18..20].copy_from_slice(&ident.to_be_bytes());
    frame[20..22].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    frame
}

/// Returns an ICMP error for an undeliverable packet of the host: port unreachable.
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
    fn attacks_fit_into_mtu_and_are_reproducible() {
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
