//! Counts DNS messages.

use pktvisor_common::loss::Loss;
use pktvisor_common::packet::{IpVersion, PacketMeta, Transport};
use pktvisor_common::summary::dns::Unpaired;

use super::transaction::{
    Answer, Gone, Key, Query, Quoted, Reply, Transactions, Way, question_hash,
};
use crate::aggregate::anonymize::Anonymizer;
use crate::aggregate::bucket::{Bucket, Packet};
use crate::aggregate::geo::Geo;
use crate::aggregate::host::{Direction, HostSpec};
use crate::aggregate::names::NameUse;
use crate::aggregate::settings::DnsSide;
use crate::decode::dns::detail;
use crate::decode::dns::name::{self, LowerName};
use crate::decode::dns::scan::{FLAG_AA, FLAG_AD, FLAG_CD, FLAG_TC, Scan, ScanError, scan};
use crate::time::Timestamp;

/// Opcode of DSO (RFC 8490).
const OPCODE_DSO: u8 = 6;
/// Types that request a zone transfer: IXFR and AXFR.
const TRANSFERS: std::ops::RangeInclusive<u16> = 251..=252;

/// The properties of a message that are not in its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    time: Timestamp,
    flow: u64,
    /// Amount added to sampled counters. It is not multiplied by segments: a message counts once,
    /// whatever super-packet carried it.
    weight: u64,
    /// Direction of the transaction that a reply completes. It is that of the packet, except if both
    /// ends are HOST: then it is out, as if another host had queried HOST.
    answers: Direction,
    way: Way,
    tcp: bool,
    ipv6: bool,
    other_port: u16,
    doubtful: bool,
    /// True if the message can be part of a transaction. Multicast cannot.
    unicast: bool,
}

impl Context {
    /// Creates the context of the messages in a packet.
    #[inline]
    pub(crate) fn new(packet: &Packet, side: DnsSide, hosts: &HostSpec) -> Self {
        let meta = &packet.meta;
        let is_local = packet.direction == Direction::In && hosts.has_source(meta);
        Self {
            time: packet.time,
            flow: packet.flow,
            weight: packet.weight.into(),
            answers: if is_local { Direction::Out } else { packet.direction },
            way: Way::of(meta),
            tcp: meta.transport == Transport::Tcp,
            ipv6: meta.version == IpVersion::V6,
            other_port: side.other,
            doubtful: side.doubtful,
            unicast: !is_multicast(meta),
        }
    }

    /// Returns the context with another time.
    #[must_use]
    pub(crate) fn at(&self, time: Timestamp) -> Self {
        Self { time, ..*self }
    }
}

fn is_multicast(meta: &PacketMeta) -> bool {
    match meta.version {
        IpVersion::V4 => meta.dst[0] & 0xf0 == 0xe0,
        _ => meta.dst[0] == 0xff,
    }
}

/// Matches queries with replies.
pub trait Exchanges {
    /// Processes a query and, if it could be read, its question.
    fn query(
        &mut self,
        bucket: &mut Bucket,
        geo: &mut Geo,
        query: &Query,
        asked: Option<Asked<'_>>,
    );

    /// Processes a reply and, if it could be read, its question.
    fn reply(
        &mut self,
        bucket: &mut Bucket,
        geo: &mut Geo,
        reply: &Reply,
        asked: Option<Asked<'_>>,
    );
}

/// Matches them at once and counts their transaction in `bucket`.
impl Exchanges for Transactions {
    #[inline(always)]
    fn query(&mut self, bucket: &mut Bucket, _: &mut Geo, query: &Query, asked: Option<Asked<'_>>) {
        let unpaired = &mut bucket.dns.xact.unpaired;
        if let Some(reply) = self.query(query, &mut |gone| count(unpaired, gone)) {
            pair(bucket, query, &reply, asked);
        }
    }

    #[inline(always)]
    fn reply(&mut self, bucket: &mut Bucket, _: &mut Geo, reply: &Reply, asked: Option<Asked<'_>>) {
        let unpaired = &mut bucket.dns.xact.unpaired;
        match self.reply(reply, &mut |gone| count(unpaired, gone)) {
            Answer::Of(query) => pair(bucket, &query, reply, asked),
            Answer::Duplicate => unpaired.duplicates += u64::from(reply.weight),
            Answer::OfTransfer | Answer::Early => {}
        }
    }
}

/// The destinations of a message.
pub(crate) struct Message<'a, X> {
    /// The live bucket.
    pub bucket: &'a mut Bucket,
    /// Receives queries and replies.
    pub exchanges: &'a mut X,
    /// Locations and AS of client subnets.
    pub geo: &'a mut Geo,
}

impl<X: Exchanges> Message<'_, X> {
    /// Processes a message of `length` bytes, of which `bytes` were captured. Returns whether it counts
    /// as DNS: on a doubtful port the payload must look like DNS.
    #[inline]
    pub(crate) fn ingest(&mut self, context: &Context, bytes: &[u8], length: usize) -> bool {
        let mut scan = Scan::default();
        if let Err(error) = scan.read(bytes, length) {
            return self.unscanned(context, error, bytes, length);
        }
        if context.doubtful && !scan.is_plausible() {
            return false;
        }
        self.count(context);
        self.scanned(context, &scan, bytes, length);
        true
    }

    /// Processes a payload that cannot be scanned as a message.
    #[cold]
    fn unscanned(
        &mut self,
        context: &Context,
        error: ScanError,
        bytes: &[u8],
        length: usize,
    ) -> bool {
        // A message cut this short does not even show whether it is a query.
        if !context.doubtful && error != ScanError::Cut {
            self.count(context);
            self.bucket.dns.wire.malformed += context.weight;
            if error == ScanError::BadQuestion {
                self.unreadable(context, bytes, length);
            }
        }
        !context.doubtful
    }

    /// Counts a message, whatever its contents.
    #[inline]
    fn count(&mut self, context: &Context) {
        let weight = context.weight;
        self.bucket.second(context.time).dns += weight;
        let wire = &mut self.bucket.dns.wire;
        wire.deep_samples += 1;
        wire.tcp += weight * u64::from(context.tcp);
        wire.ipv6 += weight * u64::from(context.ipv6);
        if !context.tcp {
            self.bucket.dns_udp_ports.add(context.other_port, weight);
        }
    }

    #[inline]
    fn scanned(&mut self, context: &Context, scan: &Scan<'_>, bytes: &[u8], length: usize) {
        let weight = context.weight;
        let is_reply = scan.is_reply();
        if let Some(edns) = &scan.edns {
            self.bucket.udp_size.add(edns.udp_size, 1);
        }
        let flag = |flag: u16| weight * u64::from(scan.flags & flag != 0);
        let nodata = is_reply && scan.is_nodata();
        let wire = &mut self.bucket.dns.wire;
        if is_reply {
            wire.replies += weight;
            wire.aa += flag(FLAG_AA);
            wire.ad += flag(FLAG_AD);
            wire.truncated += flag(FLAG_TC);
            wire.nodata += weight * u64::from(nodata);
            wire.referral += weight * u64::from(scan.is_referral());
            self.bucket.rcodes.add(scan.rcode(), weight);
        } else {
            wire.queries += weight;
            wire.cd += flag(FLAG_CD);
            if let Some(edns) = &scan.edns {
                wire.dnssec_ok += weight * u64::from(edns.dnssec_ok);
                if let Some(data) = edns.client_subnet {
                    wire.ecs += weight;
                    self.client_subnet(data, weight);
                }
            }
        }
        if scan.records.too_many {
            self.bucket.account.lose(Loss::DnsRecordsUnread, weight);
        }
        let Some(question) = &scan.question else {
            self.transaction(context, scan, None, length);
            return;
        };
        self.bucket.qtypes.add(question.qtype, weight);
        let lowered;
        let lower = if name::has_capitals(question.name) {
            lowered = LowerName::new(question.name);
            lowered.wire()
        } else {
            question.name
        };
        let name_use = match is_reply {
            false => NameUse::Query,
            true => NameUse::Reply { rcode: scan.rcode(), nodata, bytes: weight * length as u64 },
        };
        let key = self.bucket.name(lower, weight, name_use);
        if scan.questions > 1 {
            self.further_questions(scan, bytes, weight);
        }
        let asked = Asked { key, lower, qtype: question.qtype };
        self.transaction(context, scan, Some(asked), length);
    }

    /// Counts the names and types of the questions after the first.
    #[cold]
    fn further_questions(&mut self, scan: &Scan<'_>, bytes: &[u8], weight: u64) {
        let all_are_read = scan.for_each_further_question(bytes, |name, qtype| {
            self.bucket.qtypes.add(qtype, weight);
            let lower = LowerName::new(name);
            self.bucket.name(lower.wire(), weight, NameUse::Query);
        });
        if !all_are_read && !scan.records.too_many {
            self.bucket.account.lose(Loss::DnsRecordsUnread, weight);
        }
    }

    /// Processes a message with an unreadable question. If it is a query, FORMERR may still answer it.
    #[cold]
    fn unreadable(&mut self, context: &Context, bytes: &[u8], length: usize) {
        let Ok(header) = scan(&bytes[..4], length) else { return };
        if context.unicast && !header.is_reply() {
            let query = query(context, &header, None, length, false);
            self.exchanges.query(self.bucket, self.geo, &query, None);
        }
    }

    #[inline]
    fn transaction(
        &mut self,
        context: &Context,
        scan: &Scan<'_>,
        asked: Option<Asked<'_>>,
        length: usize,
    ) {
        if !context.unicast {
            return;
        }
        if !scan.is_reply() {
            if scan.opcode() == OPCODE_DSO && scan.id == 0 {
                // It is unidirectional: nobody answers it (RFC 8490 section 5.4).
                return;
            }
            let query = query(context, scan, asked.as_ref(), length, true);
            self.exchanges.query(self.bucket, self.geo, &query, asked);
            return;
        }
        let reply = Reply {
            key: key(context, scan, asked.as_ref(), context.way.back()),
            time: context.time,
            length: length as u32,
            weight: context.weight as u32,
            direction: context.answers as u8,
            transfer: context.tcp && asked.as_ref().is_some_and(Asked::is_transfer),
        };
        self.exchanges.reply(self.bucket, self.geo, &reply, asked);
    }

    fn client_subnet(&mut self, data: &[u8], weight: u64) {
        let Some(subnet) = detail::client_subnet(data) else { return };
        let anonymizer = self.bucket.anonymizer();
        let (address, prefix) = anonymizer.masked_network(subnet.address, subnet.prefix);
        let name = format!("{address}/{prefix}");
        let key = anonymizer.fleet.hash(name.as_bytes());
        let dns = &mut self.bucket.dns;
        dns.ecs.add(key, weight, || name.into());
        if let Some(place) = self.geo.place(address) {
            dns.ecs_places.add(place.key, weight, || (&*place.name).into());
        }
        if let Some(system) = self.geo.system(address) {
            dns.ecs_systems.add(system.key, weight, || (&*system.name).into());
        }
    }
}

/// Counts a transaction.
#[inline]
fn pair(bucket: &mut Bucket, query: &Query, reply: &Reply, asked: Option<Asked<'_>>) {
    let anonymizer = *bucket.anonymizer();
    let xact = &mut bucket.dns.xact;
    let microseconds = (reply.time - query.time).as_micros();
    let ratio = u64::from(reply.length) * 100 / u64::from(query.length.max(1));
    xact.ratio.record(ratio, 1);
    let to = Direction::from_number(reply.direction);
    let weight = u64::from(reply.weight);
    let direction = &mut xact.directions[to];
    direction.quantiles.record(microseconds, 1);
    let key = asked.as_ref().map(|asked| asked.key);
    direction.classes.record(microseconds, weight, key, || {
        asked.map(|asked| anonymizer.text(asked.lower)).unwrap_or_default()
    });
    bucket.add_latency(to, microseconds, weight);
}

/// The question of a message.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Key of the name in the sketches.
    pub key: u64,
    /// Lower-cased name in wire form.
    pub lower: &'a [u8],
    /// Type of the question.
    pub qtype: u16,
}

impl Asked<'_> {
    fn is_transfer(&self) -> bool {
        TRANSFERS.contains(&self.qtype)
    }
}

/// Returns the key that a query and its reply share. `way` is that of the query.
#[inline]
fn key(context: &Context, scan: &Scan<'_>, asked: Option<&Asked<'_>>, way: Way) -> Key {
    let question = asked.map_or(0, |asked| question_hash(asked.key, asked.qtype));
    Key::new(context.flow, way, scan.id, scan.opcode(), question)
}

/// Returns the part of a query of this flow that an ICMP error quotes; `None` if it quotes a reply.
pub(crate) fn quoted_key(
    meta: &PacketMeta,
    flow: u64,
    payload: &[u8],
    anonymizer: &Anonymizer,
) -> Option<Quoted> {
    let way = Way::of(meta);
    let length = meta.payload_len as usize;
    // If the question cannot be read, the id is still in the first four bytes.
    let start = payload.get(..4).unwrap_or_default();
    let Ok(scan) = scan(payload, length).or_else(|_| scan(start, length)) else {
        return Some(Quoted::Flow { flow, way });
    };
    let question = scan.question.map_or(0, |question| {
        let lower = LowerName::new(question.name);
        question_hash(anonymizer.hash(lower.wire()), question.qtype)
    });
    let key = Key::new(flow, way, scan.id, scan.opcode(), question);
    (!scan.is_reply()).then_some(Quoted::Key(key))
}

#[inline]
fn query(
    context: &Context,
    scan: &Scan<'_>,
    asked: Option<&Asked<'_>>,
    length: usize,
    readable: bool,
) -> Query {
    Query {
        key: key(context, scan, asked, context.way),
        time: context.time,
        length: length.min(usize::from(u16::MAX)) as u16,
        weight: context.weight as u32,
        stream: context.tcp,
        transfer: context.tcp && asked.is_some_and(Asked::is_transfer),
        readable,
    }
}

/// Counts a query or reply that left the tables without its counterpart.
pub(crate) fn count(unpaired: &mut Unpaired, gone: Gone) {
    match gone {
        Gone::TimedOut(query) => unpaired.timed_out += u64::from(query.weight),
        Gone::Orphan(reply) => unpaired.orphans += u64::from(reply.weight),
    }
}
