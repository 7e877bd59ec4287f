//! Reads and counts packets one by one. Data that needs several packets of a flow goes to a
//! [`FlowSink`].
//!
//! Nothing here does I/O, reads a clock or takes a lock for each packet.

use std::ops::Range;
use std::sync::Arc;

use pktvisor_common::abi::{DNS_TCP_SNAP, IP, MORE, SampleHeader, UNDECIDED};
use pktvisor_common::classify::{Decision, Dns, Rules, Snaps, classify, enter_tunnels};
use pktvisor_common::direction::Direction;
use pktvisor_common::flow::mix;
use pktvisor_common::outcome::Outcome;
use pktvisor_common::packet::{
    Fragment, PacketMeta, TCP_FIN, TCP_SYN, Transport, walk_ethernet, walk_ip,
};

use crate::aggregate::bucket::{Bucket, Packet};
use crate::aggregate::dns::{Context, Exchanges, Message};
use crate::aggregate::flows::first_fragment_waits;
use crate::aggregate::geo::Geo;
use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::{DnsPorts, DnsSide, Settings, Tunnels};
use crate::decode::block::{Block, PacketRecord};
use crate::decode::dns::unreachable;
use crate::decode::link;
use crate::time::{Span, Timestamp};

/// Number of times that fragments are checked while a first fragment waits for the others.
const TICKS: i64 = 8;

/// Receives the data that needs several packets of a flow.
pub trait FlowSink: Exchanges {
    /// Sets the index in the block of the packet that the next calls are about.
    #[inline(always)]
    fn set_place(&mut self, _place: u32) {}

    /// Advances packet time to `now`. Called several times a second of packet time.
    fn pass(&mut self, scanner: &mut Scanner, now: Timestamp);

    /// Processes a TCP segment on a DNS port. Returns whether it counts as DNS, or `None` if another
    /// worker decides that later.
    fn segment(
        &mut self,
        scanner: &mut Scanner,
        packet: &Packet,
        side: DnsSide,
        bytes: &[u8],
        decision: &Decision,
    ) -> Option<bool>;

    /// Processes a packet to a DNS port that could not be delivered, as quoted by an ICMP error captured
    /// at `time`.
    fn undelivered(
        &mut self,
        scanner: &mut Scanner,
        quoted: &PacketMeta,
        payload: &[u8],
        time: Timestamp,
    );

    /// Processes an IP fragment.
    fn fragment(&mut self, scanner: &mut Scanner, meta: &PacketMeta, bytes: &[u8], time: Timestamp);
}

/// A range of packets in a block, all of the live minute.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The block.
    pub block: Arc<Block>,
    /// Range of the packets.
    pub packets: Range<usize>,
    /// Number of packets of the input before this piece.
    pub before: u64,
    /// Latest time of the packets before this piece.
    pub since: Timestamp,
    /// Latest time of the packets of this piece.
    pub latest: Timestamp,
    /// True if the reader considers the time of the packets an outlier.
    pub is_outlier: bool,
}

/// Reads packets and counts them in a bucket.
#[derive(Debug)]
pub struct Scanner {
    pub(super) settings: Arc<Settings>,
    /// DNS ports, as last read from the settings.
    pub(super) ports: Arc<DnsPorts>,
    /// HOST, as last read from the settings.
    pub(super) hosts: Arc<HostSpec>,
    pub(super) bucket: Bucket,
    pub(super) geo: Geo,
    /// Interval in nanoseconds at which packet time is advanced for flows.
    tick: Span,
}

impl Scanner {
    /// Creates a scanner.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            ports: settings.ports.now(),
            hosts: settings.hosts.now(),
            bucket: Bucket::new(settings.anonymizer),
            geo: settings.geo(),
            tick: (first_fragment_waits(settings.timeout) / TICKS).max(Span::from_nanos(1)),
            settings,
        }
    }

    /// Applies the current settings. `end` is the end of the live minute, if there is one.
    pub fn reload(&mut self, end: Option<Timestamp>) {
        let ports = self.settings.ports.now();
        if *ports != *self.ports {
            // Covers the whole live minute.
            self.settings
                .other_ports
                .set_until(end.map_or(Timestamp::MIN, |end| end - Span::from_nanos(1)));
            self.ports = ports;
        }
        self.geo = self.settings.geo();
    }

    /// Applies the current HOST.
    pub fn follow_hosts(&mut self) {
        let hosts = self.settings.hosts.now();
        if !Arc::ptr_eq(&hosts, &self.hosts) {
            self.hosts = hosts;
        }
    }

    /// Reads packets of a block.
    pub fn read(&mut self, piece: &Piece, flows: &mut impl FlowSink) {
        self.follow_hosts();
        if piece.is_outlier {
            let outliers = &mut self.bucket.account.time_outliers;
            *outliers = outliers.saturating_add(1);
        }
        let (settings, ports) = (Arc::clone(&self.settings), Arc::clone(&self.ports));
        let hosts = Arc::clone(&self.hosts);
        let rules = ports.rules(&settings.sampling);
        let mut tick = self.tick_after(piece.since);
        let mut number = piece.before;
        for place in piece.packets.clone() {
            let record = &piece.block.packets[place];
            if record.time >= tick {
                tick = self.tick_after(record.time);
                flows.pass(self, record.time);
            }
            number += 1;
            let bytes = piece.block.packet(record);
            let meta = self.walk(record, bytes);
            let flow = settings.flow_key.flow(&meta);
            let decision = decide(&rules, &meta, flow, bytes, number);
            let packet = Packet {
                meta,
                time: record.time,
                flow,
                wire_len: record.wire_len,
                n: 1,
                weight: decision.weight,
                direction: hosts.direction(&meta),
            };
            flows.set_place(place as u32);
            self.bucket.count(&packet);
            if packet.weight > 0 {
                self.bucket.inspect(&packet, &mut self.geo);
            }
            if let Some(outcome) = self.payload(&packet, bytes, &decision, flows) {
                self.bucket.outcome(&packet, outcome);
            }
            self.around(&meta, bytes, record.time, flows);
        }
    }

    /// Returns the first multiple of the tick after `time`.
    fn tick_after(&self, time: Timestamp) -> Timestamp {
        let ticks = time.as_nanos().div_euclid(self.tick.as_nanos());
        Timestamp::EPOCH + ticks.saturating_add(1) * self.tick
    }

    /// Returns the headers under which a packet of a block is counted.
    #[inline(always)]
    pub(super) fn walk(&self, record: &PacketRecord, bytes: &[u8]) -> PacketMeta {
        let mut meta = link::walk(record, bytes);
        self.go_inside(&mut meta, bytes, record.wire_len as usize);
        meta
    }

    /// Replaces outer headers with those inside the tunnel, if the settings say so.
    #[inline(always)]
    fn go_inside(&self, meta: &mut PacketMeta, bytes: &[u8], wire_len: usize) {
        if meta.is_tunnel() && self.settings.tunnels == Tunnels::Inner {
            *meta = enter_tunnels(self.ports.bits(), bytes, wire_len, *meta);
        }
    }

    /// Processes ICMP errors and fragments.
    #[inline(always)]
    fn around(
        &mut self,
        meta: &PacketMeta,
        bytes: &[u8],
        time: Timestamp,
        flows: &mut impl FlowSink,
    ) {
        if meta.transport == Transport::Icmp
            && let Some((quoted, payload)) = unreachable::quoted(meta, bytes)
            && self.ports.side(&quoted).is_some()
        {
            flows.undelivered(self, &quoted, payload, time);
        }
        if meta.fragment != Fragment::None && !meta.malformed {
            flows.fragment(self, meta, bytes, time);
        }
    }

    /// Processes a record from the kernel, of a packet at `time` that the kernel has already counted.
    #[inline]
    pub fn sample(
        &mut self,
        header: &SampleHeader,
        bytes: &[u8],
        time: Timestamp,
        flows: &mut impl FlowSink,
    ) {
        let wire_len = header.wire_len.saturating_sub(header.tag()) as usize;
        let mut meta = match header.has(IP) {
            true => walk_ip(bytes, wire_len),
            false => walk_ethernet(bytes, wire_len),
        };
        self.go_inside(&mut meta, bytes, wire_len);
        let packet = Packet {
            meta,
            time,
            flow: self.settings.flow_key.flow(&meta),
            wire_len: header.wire_len,
            n: u32::from(header.n),
            weight: header.weight,
            direction: Direction::from_number(header.direction),
        };
        if packet.weight > 0 && header.part == 0 {
            self.bucket.inspect(&packet, &mut self.geo);
        }
        let dns = match self.ports.side(&packet.meta) {
            Some(side) if packet.weight > 0 => side.decided(),
            _ => Dns::No,
        };
        let part = part(packet.meta, bytes.len(), header);
        let captured = bytes.len().saturating_sub(usize::from(part.payload_offset));
        let cut = match header.has(MORE) {
            true => packet.meta.payload_len > DNS_TCP_SNAP,
            false => captured < part.payload_len as usize,
        };
        let (outcome, weight) = (Outcome::Headers, packet.weight);
        let decision = Decision { outcome, weight, dns, record: None, cut };
        let of_part = Packet { meta: part, ..packet };
        let outcome = self.payload(&of_part, bytes, &decision, flows);
        if let Some(outcome) = outcome.filter(|_| header.has(UNDECIDED)) {
            self.bucket.outcome(&packet, outcome);
        }
        self.around(&meta, bytes, time, flows);
    }

    /// Reads the payload of a packet that is inspected as DNS. Returns the packet's outcome, or `None` if
    /// another worker determines it later.
    #[inline(always)]
    pub(super) fn payload(
        &mut self,
        packet: &Packet,
        bytes: &[u8],
        decision: &Decision,
        flows: &mut impl FlowSink,
    ) -> Option<Outcome> {
        let Some(side) = self.ports.side_of(&packet.meta, decision.dns) else {
            return Some(decision.outcome);
        };
        let is_dns = match packet.meta.transport {
            Transport::Udp => Some(self.udp(packet, side, bytes, flows)),
            _ => flows.segment(self, packet, side, bytes, decision),
        };
        is_dns.map(|is_dns| decision.refined(is_dns))
    }

    /// Reads a DNS message over UDP. Returns true if it counts as DNS.
    #[inline(always)]
    fn udp(
        &mut self,
        packet: &Packet,
        side: DnsSide,
        bytes: &[u8],
        exchanges: &mut impl FlowSink,
    ) -> bool {
        let meta = &packet.meta;
        let payload = bytes.get(usize::from(meta.payload_offset)..).unwrap_or_default();
        let length = meta.payload_len as usize;
        let context = Context::new(packet, side, &self.hosts);
        let (bucket, geo) = (&mut self.bucket, &mut self.geo);
        let payload = &payload[..payload.len().min(length)];
        Message { bucket, exchanges, geo }.ingest(&context, payload, length)
    }
}

/// Decides what happens to a packet. Under sampling, DNS is chosen by flow and DNS id, and other
/// packets by their number.
#[inline(always)]
pub(super) fn decide(
    rules: &Rules<'_>,
    meta: &PacketMeta,
    flow: u64,
    bytes: &[u8],
    number: u64,
) -> Decision {
    let dns_id = || {
        bytes
            .get(usize::from(meta.payload_offset)..)
            .and_then(|payload| payload.first_chunk())
            .map_or(0, |id| u16::from_be_bytes(*id))
    };
    let random = || mix(number) as u32;
    classify(rules, &Snaps::ALL, meta, bytes.len() as u32, || flow, dns_id, random)
}

/// Returns the part of a TCP segment that a record holds, as a segment of its own. `captured` counts
/// the bytes in the record, headers included.
fn part(mut meta: PacketMeta, captured: usize, header: &SampleHeader) -> PacketMeta {
    let more = header.has(MORE);
    if header.part == 0 && !more {
        return meta;
    }
    let held = captured.saturating_sub(usize::from(meta.payload_offset)) as u32;
    meta.payload_len = meta.payload_len.saturating_sub(header.offset());
    if header.part > 0 {
        let syn = u32::from(meta.tcp_flags & TCP_SYN != 0);
        meta.tcp_seq = meta.tcp_seq.wrapping_add(syn).wrapping_add(header.offset());
        meta.tcp_flags &= !TCP_SYN;
    }
    if more {
        meta.payload_len = meta.payload_len.min(held);
        meta.tcp_flags &= !TCP_FIN;
    }
    meta
}
