//! What becomes of a packet: one decision for the kernel programs, libpcap and capture files.
//!
//! The decision needs headers only. Where the payload has to show whether a packet is DNS, the
//! decision is [`Dns::Doubtful`], and user space, which has the payload, completes it by
//! [`Decision::refined`].

use crate::abi::Kind;
use crate::flow::{dns_sample_hash, mix};
use crate::outcome::Outcome;
use crate::packet::tunnel::{self, MAX_TUNNELS};
use crate::packet::{
    Fragment, IpVersion, PROTOCOL_TCP, PROTOCOL_UDP, PacketBytes, PacketMeta, Transport, walk_l3,
};
use crate::sampling::Rate;

/// From here on clients take ports at random (the Linux default range starts here), so a message
/// has to read like DNS before it counts.
pub const EPHEMERAL: u16 = 32_768;

/// A set of ports, one bit for each.
pub type PortBits = [u64; 1024];

/// What the decision goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The ports of DNS.
    pub ports: &'a PortBits,
    /// How many packets on DNS ports are inspected.
    pub dns: &'a Rate,
    /// How many others are.
    pub rest: &'a Rate,
}

/// Whether a packet's ports make it DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// Neither end has a DNS port.
    No,
    /// One end has one.
    Sure,
    /// The only DNS port lies among the ephemeral ones: the message has to read like DNS.
    Doubtful,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its outcome. Where `dns` is [`Dns::Doubtful`], the outcome that it has if it is not DNS.
    pub outcome: Outcome,
    /// What it stands for; 0 where the sampling rate left it out.
    pub weight: u32,
    /// Whether it is inspected as DNS. [`Dns::No`] where it is not inspected.
    pub dns: Dns,
    /// What is read of it, where it is inspected.
    pub record: Option<Record>,
    /// Bytes of its payload are missing.
    pub cut: bool,
}

/// What is read of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// For what.
    pub kind: Kind,
    /// Bytes from the packet's start.
    pub bytes: u32,
}

impl Decision {
    /// The outcome after the payload was read: `is_dns` says whether it read like DNS.
    #[inline]
    pub fn refined(&self, is_dns: bool) -> Outcome {
        match (self.dns, is_dns) {
            (Dns::Doubtful, true) => dns_outcome(self.cut),
            _ => self.outcome,
        }
    }
}

#[inline(always)]
const fn dns_outcome(cut: bool) -> Outcome {
    if cut { Outcome::Truncated } else { Outcome::Dns }
}

/// Whether a port is in a set.
#[inline(always)]
pub const fn has_port(ports: &PortBits, port: u16) -> bool {
    ports[(port >> 6) as usize] >> (port & 63) & 1 == 1
}

/// Whether the ports of a TCP or UDP packet make it DNS.
#[inline(always)]
pub fn dns(ports: &PortBits, meta: &PacketMeta) -> Dns {
    let has_ports = matches!(meta.transport, Transport::Udp | Transport::Tcp);
    if !has_ports || !matches!(meta.fragment, Fragment::None) {
        return Dns::No;
    }
    let (src, dst) = (has_port(ports, meta.src_port), has_port(ports, meta.dst_port));
    if src && meta.src_port < EPHEMERAL || dst && meta.dst_port < EPHEMERAL {
        Dns::Sure
    } else if (src || dst) && !meta.is_tunnel() {
        Dns::Doubtful
    } else {
        Dns::No
    }
}

/// Whether a packet is a tunnel: surely DNS goes first.
#[inline(always)]
pub fn is_tunnel(ports: &PortBits, meta: &PacketMeta) -> bool {
    meta.is_tunnel() && !matches!(dns(ports, meta), Dns::Sure)
}

/// Walks on inside tunnels, at most [`MAX_TUNNELS`] of them. Returns the walk over the innermost
/// packet, or `meta` where it is no tunnel or nothing inside is read. Offsets still count from the
/// start of the outer packet.
pub fn enter_tunnels<B: PacketBytes + ?Sized>(
    ports: &PortBits,
    bytes: &B,
    wire_len: usize,
    mut meta: PacketMeta,
) -> PacketMeta {
    for _ in 0..MAX_TUNNELS {
        if !is_tunnel(ports, &meta) {
            break;
        }
        let Some(inside) = tunnel::inside(bytes, &meta) else { break };
        meta = walk_l3(bytes, inside.offset, inside.ethertype, wire_len);
    }
    meta
}

/// Whether fragments of a protocol are put together: UDP and TCP, also behind the extension headers
/// of IPv6 that are a part of what is fragmented.
#[inline(always)]
const fn has_parts(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_UDP | PROTOCOL_TCP | 0 | 43 | 51 | 60 | 135 | 139 | 140)
}

/// Bytes of payload that are read of a packet at most.
#[derive(Clone, Copy, Debug)]
pub struct Snaps {
    /// Of DNS over UDP.
    pub udp: u32,
    /// Of DNS over TCP.
    pub tcp: u32,
    /// Of a fragment.
    pub fragment: u32,
    /// Of an ICMP message.
    pub icmp: u32,
    /// Bytes of a malformed packet, from its IP header on.
    pub malformed: u32,
}

impl Snaps {
    /// All there is.
    pub const ALL: Self = Self {
        udp: u32::MAX,
        tcp: u32::MAX,
        fragment: u32::MAX,
        icmp: u32::MAX,
        malformed: u32::MAX,
    };
}

/// Decides what becomes of a packet.
///
/// `flow` is its flow hash, `dns_id` reads the first two bytes of its payload and `random` makes a
/// random number; each is asked only where the sampling rate needs it. `length` is how many of the
/// packet's bytes there are, of which `snaps` are read.
#[inline(always)]
pub fn classify(
    rules: &Rules<'_>,
    snaps: &Snaps,
    meta: &PacketMeta,
    length: u32,
    flow: impl Fn() -> u64,
    dns_id: impl FnOnce() -> u16,
    random: impl FnOnce() -> u32,
) -> Decision {
    let dns = dns(rules.ports, meta);
    let weight = if !matches!(dns, Dns::No) {
        if rules.dns.takes_all() {
            1
        } else {
            rules.dns.weight(dns_sample_hash(flow(), meta.transport, dns_id()))
        }
    } else if rules.rest.takes_all() {
        1
    } else if rules.rest.takes_none() {
        0
    } else {
        rules.rest.weight(mix(random() as u64 | 1 << 32))
    };
    let headers = meta.payload_offset as u32;
    // As far as there are bytes of the packet.
    let record = |kind: Kind, end: u32| Some(Record { kind, bytes: least(end, length) });
    let without_dns = |outcome: Outcome, record: Option<Record>| Decision {
        outcome,
        weight,
        dns: Dns::No,
        record: if weight > 0 { record } else { None },
        cut: false,
    };
    if meta.malformed {
        let end = (meta.l3_offset as u32).saturating_add(snaps.malformed);
        return without_dns(Outcome::Malformed, record(Kind::Headers, end));
    }
    if !matches!(meta.fragment, Fragment::None) {
        if has_parts(meta.protocol) {
            // What is left out by the sampling rate may still be a part of a message that is not.
            let record = record(Kind::Fragment, headers + least(meta.payload_len, snaps.fragment));
            return Decision { record, ..without_dns(Outcome::Fragment, None) };
        }
        return without_dns(Outcome::Fragment, record(Kind::Headers, headers));
    }
    if weight == 0 {
        return without_dns(Outcome::NotSampled, None);
    }
    if matches!(meta.version, IpVersion::None) {
        // Nothing of it is summed up but that it was there.
        return without_dns(Outcome::NonIp, None);
    }
    if matches!(dns, Dns::No) {
        let outcome = if meta.is_tunnel() { Outcome::Tunnel } else { Outcome::Headers };
        let end = match meta.transport {
            Transport::Icmp => headers + least(meta.payload_len, snaps.icmp),
            _ => headers,
        };
        return without_dns(outcome, record(Kind::Headers, end));
    }
    let snap = match meta.transport {
        Transport::Udp => snaps.udp,
        _ => snaps.tcp,
    };
    let bytes = least(headers + least(meta.payload_len, snap), length);
    let cut = bytes < headers + meta.payload_len;
    let outcome = match dns {
        Dns::Doubtful => Outcome::Headers,
        _ => dns_outcome(cut),
    };
    Decision { outcome, weight, dns, record: Some(Record { kind: Kind::Dns, bytes }), cut }
}

#[inline(always)]
const fn least(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}
