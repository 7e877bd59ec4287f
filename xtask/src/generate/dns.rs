//! Generates DNS names, queries, and the replies of servers.

use std::net::IpAddr;

use super::random::{Random, scatter};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const HTTPS: u16 = 65;

/// Offset of the question's name, the target of compressed names.
const QUESTION: usize = 12;

const CONSONANTS: &[u8; 16] = b"bcdfghjklmnprstv";
const VOWELS: &[u8; 5] = b"aeiou";

/// The names of queries in wire form, by rank.
pub(super) struct Names {
    bytes: Vec<u8>,
    /// End of each name in `bytes`.
    ends: Vec<usize>,
}

impl Names {
    /// Creates `count` distinct names, at most 512,000.
    pub(super) fn new(count: u64) -> Self {
        let mut names = Self { bytes: Vec::new(), ends: Vec::new() };
        for rank in 0..count {
            names.push(rank);
            names.ends.push(names.bytes.len());
        }
        names
    }

    /// Returns the name of a rank.
    pub(super) fn get(&self, rank: u64) -> &[u8] {
        let rank = rank as usize;
        let start = rank.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[rank]]
    }

    /// Appends a name: an optional host, a label of three syllables that no other rank has and an
    /// optional word, and a public suffix.
    fn push(&mut self, rank: u64) {
        let mut random = Random::new(rank);
        let host: &[u8] = random.weighted(&[
            (b"www".as_slice(), 35),
            (b"", 20),
            (b"api", 10),
            (b"cdn", 8),
            (b"mail", 5),
            (b"img.static", 4),
            (b"autodiscover", 3),
            (b"_dmarc", 3),
            (b"eu-west-1.prod.telemetry", 3),
        ]);
        for label in host.split(|&byte| byte == b'.').filter(|label| !label.is_empty()) {
            push_label(&mut self.bytes, label);
        }
        // There are 80 syllables. The factor is coprime to 80³, so the words are distinct.
        let mut word = rank * 234_567 % 512_000;
        let mut label = Vec::new();
        for _ in 0..3 {
            label.push(CONSONANTS[(word % 16) as usize]);
            label.push(VOWELS[(word / 16 % 5) as usize]);
            word /= 80;
        }
        label.extend_from_slice(random.weighted(&[
            (b"".as_slice(), 50),
            (b"shop", 10),
            (b"-media", 10),
            (b"systems", 10),
            (b"online24", 10),
        ]));
        push_label(&mut self.bytes, &label);
        let zone: &[u8] = random.weighted(&[
            (b"com".as_slice(), 50),
            (b"net", 12),
            (b"org", 8),
            (b"de", 6),
            (b"io", 5),
            (b"co.uk", 5),
            (b"fr", 4),
            (b"com.br", 4),
            (b"dev", 3),
        ]);
        for label in zone.split(|&byte| byte == b'.') {
            push_label(&mut self.bytes, label);
        }
        self.bytes.push(0);
    }
}

/// Returns a distinct name for each `number`, in one of the zones that the flood targets.
pub(super) fn flood_name(number: u64, random: &mut Random) -> Vec<u8> {
    let mut label = Vec::with_capacity(13);
    let mut rest = scatter(number);
    for _ in 0..13 {
        label.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]);
        rest /= 36;
    }
    let mut name = Vec::with_capacity(32);
    push_label(&mut name, &label);
    let zone: [&[u8]; 2] = random.weighted(&[
        ([b"example", b"com"], 70),
        ([b"example", b"net"], 20),
        ([b"example", b"org"], 10),
    ]);
    for label in zone {
        push_label(&mut name, label);
    }
    name.push(0);
    name
}

/// The parts of a query that its reply repeats.
pub(super) struct Query<'a> {
    /// Message id.
    id: u16,
    /// Query name in wire form.
    name: &'a [u8],
    /// Query type.
    kind: u16,
    /// Contents of the OPT record, if the query has one.
    edns: Option<Edns>,
}

/// Contents of an OPT record (RFC 6891).
struct Edns {
    /// The largest UDP payload that the sender accepts.
    udp_size: u16,
    /// DO flag: the client asks for DNSSEC records.
    dnssec: bool,
    /// Address of the client subnet option (RFC 7871).
    subnet: Option<IpAddr>,
}

impl<'a> Query<'a> {
    /// Creates a query for `name`. Its client subnet, if any, is that of `client`.
    pub(super) fn new(name: &'a [u8], client: IpAddr, random: &mut Random) -> Self {
        let kind = random.weighted(&[(A, 55), (AAAA, 26), (HTTPS, 10), (TXT, 4), (MX, 3), (NS, 2)]);
        let edns = random.percent(60).then(|| Edns {
            udp_size: random.weighted(&[(1232, 60), (4096, 25), (512, 10), (1400, 5)]),
            dnssec: random.percent(50),
            subnet: random.percent(10).then_some(client),
        });
        Self { id: random.next() as u16, name, kind, edns }
    }

    /// Encodes the query.
    pub(super) fn message(&self) -> Vec<u8> {
        // Recursion desired.
        let mut message = self.start(0x0100);
        self.push_opt(&mut message, 0);
        message
    }

    /// Encodes a reply of a server.
    pub(super) fn reply(&self, random: &mut Random) -> Vec<u8> {
        #[derive(Clone, Copy)]
        enum Answer {
            Records,
            NoData,
            Truncated,
            ServerFailure,
            NoSuchName,
            Refused,
        }
        let with_records = if self.kind == HTTPS { 25 } else { 75 };
        let answer = random.weighted(&[
            (Answer::Records, with_records),
            (Answer::NoData, 83 - with_records),
            (Answer::Truncated, 1),
            (Answer::ServerFailure, 2),
            (Answer::NoSuchName, 13),
            (Answer::Refused, 1),
        ]);
        // QR, RD and RA, with TC if truncated, and the response code.
        let flags = match answer {
            Answer::Records | Answer::NoData => 0x8180,
            Answer::Truncated => 0x8380,
            Answer::ServerFailure => 0x8182,
            Answer::NoSuchName => 0x8183,
            Answer::Refused => 0x8185,
        };
        let mut message = self.start(flags);
        match answer {
            Answer::Records => self.push_answers(&mut message, random),
            Answer::NoData | Answer::NoSuchName => self.push_soa(&mut message),
            Answer::Truncated | Answer::ServerFailure | Answer::Refused => {}
        }
        self.push_opt(&mut message, 24);
        message
    }

    /// Starts a message with a header without records, and the question.
    fn start(&self, flags: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(256);
        push_u16(&mut message, self.id);
        push_u16(&mut message, flags);
        message.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(self.name);
        push_u16(&mut message, self.kind);
        push_u16(&mut message, 1);
        message
    }

    /// Returns the offset of the query name without its first label.
    fn parent(&self) -> usize {
        QUESTION + 1 + usize::from(self.name[0])
    }

    /// Appends the answer section: an optional CNAME, then records of the query type.
    fn push_answers(&self, message: &mut Vec<u8>, random: &mut Random) {
        let mut owner = QUESTION;
        let mut count = random.weighted(&[(1, 60), (2, 20), (4, 15), (8, 5)]);
        message[7] = count;
        if matches!(self.kind, A | AAAA) && random.percent(25) {
            push_record(message, QUESTION, CNAME, 300, |message| {
                owner = message.len();
                push_label(message, b"edge");
                push_pointer(message, self.parent());
            });
            message[7] += 1;
        }
        let ttl = random.weighted(&[(60, 30), (300, 40), (3600, 20), (86400, 10)]);
        while count > 0 {
            push_record(message, owner, self.kind, ttl, |message| self.push_data(message, count));
            count -= 1;
        }
    }

    /// Appends the data of the `number`-th record of the query type.
    fn push_data(&self, message: &mut Vec<u8>, number: u8) {
        match self.kind {
            A => message.extend_from_slice(&[203, 0, 113, number]),
            AAAA => {
                message.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0xca, 0xfe]);
                message.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, number]);
            }
            // Priority 1, the owner as target, ALPN h2 and h3 (RFC 9460).
            HTTPS => message.extend_from_slice(b"\0\x01\0\0\x01\0\x06\x02h2\x02h3"),
            TXT => push_label(message, b"v=spf1 include:_spf.example.net ip4:203.0.113.0/24 -all"),
            MX => {
                push_u16(message, u16::from(number) * 10);
                push_label(message, &[b'm', b'x', b'0' + number]);
                push_pointer(message, QUESTION);
            }
            NS => {
                push_label(message, &[b'n', b's', b'0' + number]);
                push_pointer(message, QUESTION);
            }
            kind => unreachable!("type {kind} is not asked for"),
        }
    }

    /// Appends the authority section of a negative answer (RFC 2308).
    fn push_soa(&self, message: &mut Vec<u8>) {
        let zone = self.parent();
        push_record(message, zone, SOA, 900, |message| {
            push_label(message, b"ns1");
            push_pointer(message, zone);
            push_label(message, b"hostmaster");
            push_pointer(message, zone);
            for number in [2_024_010_100_u32, 7200, 900, 1_209_600, 900] {
                message.extend_from_slice(&number.to_be_bytes());
            }
        });
        message[9] = 1;
    }

    /// Appends the OPT record, if there is one. `scope` is the scope prefix length of the client
    /// subnet, 0 in a query.
    fn push_opt(&self, message: &mut Vec<u8>, scope: u8) {
        let Some(edns) = &self.edns else { return };
        message.push(0);
        push_u16(message, OPT);
        push_u16(message, edns.udp_size);
        message.extend_from_slice(&[0, 0, if edns.dnssec { 0x80 } else { 0 }, 0]);
        match edns.subnet {
            None => push_u16(message, 0),
            Some(IpAddr::V4(address)) => {
                message.extend_from_slice(&[0, 11, 0, 8, 0, 7, 0, 1, 24, scope]);
                message.extend_from_slice(&address.octets()[..3]);
            }
            Some(IpAddr::V6(address)) => {
                message.extend_from_slice(&[0, 15, 0, 8, 0, 11, 0, 2, 56, scope]);
                message.extend_from_slice(&address.octets()[..7]);
            }
        }
        message[11] = 1;
    }
}

/// Appends a record of class IN whose owner is a pointer to the offset `owner`.
fn push_record(
    message: &mut Vec<u8>,
    owner: usize,
    kind: u16,
    ttl: u32,
    data: impl FnOnce(&mut Vec<u8>),
) {
    push_pointer(message, owner);
    push_u16(message, kind);
    push_u16(message, 1);
    message.extend_from_slice(&ttl.to_be_bytes());
    let length_at = message.len();
    push_u16(message, 0);
    data(message);
    let length = (message.len() - length_at - 2) as u16;
    message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}

/// Appends a compression pointer to `target`.
fn push_pointer(message: &mut Vec<u8>, target: usize) {
    push_u16(message, 0xc000 | target as u16);
}

/// Appends a label, or a character string, which has the same form.
fn push_label(bytes: &mut Vec<u8>, label: &[u8]) {
    bytes.push(label.len() as u8);
    bytes.extend_from_slice(label);
}

/// Appends `number` in network byte order.
fn push_u16(bytes: &mut Vec<u8>, number: u16) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hickory_proto::op::{Message, MessageType};

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names = Names::new(200_000);
        let distinct: HashSet<_> = (0..200_000).map(|rank| names.get(rank)).collect();
        assert_eq!(distinct.len(), 200_000);
        let mut random = Random::new(1);
        let flood: HashSet<_> =
            (0..100_000).map(|number| flood_name(number, &mut random)).collect();
        assert_eq!(flood.len(), 100_000);
    }

    /// Reads generated messages with `hickory-proto` and compares their fields.
    #[test]
    fn another_parser_reads_generated_messages() {
        let mut random = Random::new(1);
        let names = Names::new(1000);
        for rank in 0..1000 {
            let query = Query::new(names.get(rank), [198, 51, 100, 7].into(), &mut random);
            let asked = Message::from_vec(&query.message()).unwrap();
            let replied = Message::from_vec(&query.reply(&mut random)).unwrap();
            assert_eq!(asked.metadata.message_type, MessageType::Query);
            assert_eq!(replied.metadata.message_type, MessageType::Response);
            assert_eq!(asked.metadata.id, replied.metadata.id);
            assert_eq!(asked.queries, replied.queries);
            assert_eq!(u16::from(asked.queries[0].query_type()), query.kind);
            assert_eq!(asked.edns.is_some(), query.edns.is_some());
            assert_eq!(replied.edns.is_some(), query.edns.is_some());
        }
    }
}
