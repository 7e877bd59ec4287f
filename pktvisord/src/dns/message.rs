//! What one DNS message adds to the summary.

use std::borrow::Cow;

use pktvisor_common::packet::{IpVersion, PacketMeta, Transport};

use super::name::{self, LowerName};
use super::scan::{FLAG_AA, FLAG_AD, FLAG_CD, FLAG_TC, Scan, ScanError, scan};
use super::transaction::{Query, Transactions};
use super::{detail, iana};
use crate::geo::Geo;
use crate::host::Direction;
use crate::settings::DnsSide;
use crate::sketch;
use crate::summary::bucket::{Bucket, Packet};
use crate::summary::counts::NameUse;
use crate::time::MICROSECOND;

const PORT_MDNS: u16 = 5353;
const PORT_LLMNR: u16 = 5355;

/// What is known of a message besides its octets.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    time: i64,
    flow: u64,
    /// What sampled counters add.
    weight: u64,
    direction: Direction,
    tcp: bool,
    ipv6: bool,
    other_port: u16,
    doubtful: bool,
    /// Whether it can be part of a transaction: mDNS, LLMNR and multicast can't.
    unicast: bool,
}

impl Context {
    /// The context of the messages in a packet.
    #[inline]
    pub fn new(packet: &Packet, side: DnsSide) -> Self {
        let meta = &packet.meta;
        let local = |port| matches!(port, PORT_MDNS | PORT_LLMNR);
        Self {
            time: packet.time,
            flow: packet.flow,
            weight: packet.weight.into(),
            direction: packet.direction,
            tcp: meta.transport == Transport::Tcp,
            ipv6: meta.version == IpVersion::V6,
            other_port: side.other,
            doubtful: side.doubtful,
            unicast: !(local(meta.src_port) || local(meta.dst_port) || is_multicast(meta)),
        }
    }
}

fn is_multicast(meta: &PacketMeta) -> bool {
    match meta.version {
        IpVersion::V4 => meta.dst[0] & 0xf0 == 0xe0,
        _ => meta.dst[0] == 0xff,
    }
}

/// Where messages go.
pub struct Message<'a> {
    /// The live bucket.
    pub bucket: &'a mut Bucket,
    /// The open queries of the flow's partition.
    pub transactions: &'a mut Transactions,
    /// For client subnets.
    pub geo: &'a mut Geo,
}

impl Message<'_> {
    /// Takes in a message of `length` octets, of which `octets` were captured. Returns whether it
    /// counts as DNS: on a doubtful port it has to read like DNS.
    #[inline]
    pub fn ingest(&mut self, context: &Context, octets: &[u8], length: usize) -> bool {
        let rewritten: Cow<'_, [u8]>;
        let mut scanned = scan(octets);
        if scanned == Err(ScanError::CompressedQuestion) {
            rewritten = detail::uncompressed(octets).unwrap_or_default().into();
            scanned = scan(&rewritten);
        }
        if context.doubtful && !scanned.as_ref().is_ok_and(Scan::is_plausible) {
            return false;
        }
        let weight = context.weight;
        self.bucket.second(context.time).dns += weight;
        let wire = &mut self.bucket.dns.wire;
        wire.deep_samples += 1;
        wire.tcp += weight * u64::from(context.tcp);
        wire.ipv6 += weight * u64::from(context.ipv6);
        if !context.tcp {
            self.bucket.dns_udp_ports.add(context.other_port, weight);
        }
        match scanned {
            Ok(scan) => self.scanned(context, &scan, octets, length),
            Err(_) => self.bucket.dns.wire.malformed += weight,
        }
        true
    }

    #[inline]
    fn scanned(&mut self, context: &Context, scan: &Scan<'_>, octets: &[u8], length: usize) {
        let weight = context.weight;
        let is_reply = scan.is_reply();
        if let Some(edns) = &scan.edns {
            self.bucket.udp_size.add(edns.udp_size, 1);
        }
        let flag = |flag: u16| weight * u64::from(scan.flags & flag != 0);
        let wire = &mut self.bucket.dns.wire;
        if is_reply {
            wire.replies += weight;
            wire.aa += flag(FLAG_AA);
            wire.ad += flag(FLAG_AD);
            wire.truncated += flag(FLAG_TC);
            let rcode = scan.rcode();
            wire.nodata += weight * u64::from(is_nodata(scan));
            self.bucket.rcodes.add(rcode, weight);
        } else {
            wire.queries += weight;
            wire.cd += flag(FLAG_CD);
            if let Some(edns) = &scan.edns {
                wire.dnssec_ok += weight * u64::from(edns.dnssec_ok);
                if let Some(record) = edns.client_subnet {
                    wire.ecs += weight;
                    self.client_subnet(record, weight);
                }
            }
        }
        let Some(question) = &scan.question else {
            self.transaction(context, scan, None, length);
            return;
        };
        self.bucket.qtypes.add(question.qtype, weight);
        if scan.questions > 1 {
            for qtype in detail::question_types(octets).into_iter().skip(1) {
                self.bucket.qtypes.add(qtype, weight);
            }
        }
        let lowered;
        let lower = if name::has_capitals(question.name) {
            lowered = LowerName::new(question.name);
            lowered.wire()
        } else {
            question.name
        };
        let hash = self.bucket.naming().hash(lower);
        let name_use = match is_reply {
            false => NameUse::Query,
            true => NameUse::Reply {
                rcode: scan.rcode(),
                nodata: is_nodata(scan),
                octets: weight * length as u64,
            },
        };
        self.bucket.name(lower, hash, weight, name_use);
        self.transaction(context, scan, Some((hash, lower)), length);
    }

    #[inline]
    fn transaction(
        &mut self,
        context: &Context,
        scan: &Scan<'_>,
        name: Option<(u64, &[u8])>,
        length: usize,
    ) {
        if !context.unicast {
            return;
        }
        let (time, flow, id) = (context.time, context.flow, scan.id);
        let naming = *self.bucket.naming();
        let xact = &mut self.bucket.dns.xact;
        self.transactions.expire(time, |query| xact.timed_out += u64::from(query.weight));
        let mut timed_out = 0;
        let hash = name.map(|(hash, _)| hash);
        if !scan.is_reply() {
            let query = Query {
                flow,
                id,
                name: hash.unwrap_or_default(),
                time,
                octets: length.min(usize::from(u16::MAX)) as u16,
                weight: context.weight as u32,
            };
            self.transactions.query(query, |query| timed_out = query.weight);
            xact.timed_out += u64::from(timed_out);
            return;
        }
        let query = self.transactions.reply(flow, id, hash, time, |query| timed_out = query.weight);
        xact.timed_out += u64::from(timed_out);
        let Some(query) = query else {
            xact.orphans += context.weight;
            return;
        };
        let microseconds = (time.saturating_sub(query.time).max(0) + MICROSECOND / 2) / MICROSECOND;
        let ratio = length as u64 * 100 / u64::from(query.octets.max(1));
        xact.ratio.record(ratio, 1);
        let direction = &mut xact.directions[context.direction as usize];
        direction.quantiles.record(microseconds as u64, 1);
        direction.classes.record(microseconds as u64, context.weight, hash, || {
            name.map(|(_, lower)| naming.text(lower)).unwrap_or_default()
        });
        self.bucket.add_latency(context.direction, microseconds as u64, context.weight);
    }

    fn client_subnet(&mut self, record: &[u8], weight: u64) {
        let Some(subnet) = detail::client_subnet(record) else { return };
        let naming = self.bucket.naming();
        let (address, prefix) = naming.masked_network(subnet.address, subnet.prefix);
        let name = format!("{address}/{prefix}");
        let key = sketch::hash(name.as_bytes(), naming.seed);
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

#[inline]
fn is_nodata(scan: &Scan<'_>) -> bool {
    scan.rcode() == iana::NOERROR && scan.answers == 0
}
