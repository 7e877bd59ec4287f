//! Decides how a packet is processed, with the same code for the kernel programs, libpcap and
//! capture files.
//!
//! The decision needs headers only. If only the payload can show whether a packet is DNS, the
//! decision is [`Dns::Doubtful`]. User space, which has the payload, then completes it with
//! [`Decision::refined`].

use crate::abi::Kind;
use crate::flow::{dns_sample_hash, mix};
use crate::outcome::Outcome;
use crate::packet::tunnel::{self, MAX_TUNNELS};
use crate::packet::{
    Fragment, IpVersion, PROTOCOL_TCP, PROTOCOL_UDP, PacketBytes, PacketMeta, Transport, walk_l3,
};
use crate::sampling::Rate;

/// Start of the ephemeral ports, which clients use at random (the default range of Linux starts
/// here). A message on a DNS port from here on must read like DNS to count.
pub const EPHEMERAL: u16 = 32_768;

/// A set of ports, one bit per port.
pub type PortBits = [u64; 1024];

/// The configuration that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The DNS ports.
    pub ports: &'a PortBits,
    /// Sampling rate of packets on DNS ports.
    pub dns: &'a Rate,
    /// Sampling rate of all other packets.
    pub rest: &'a Rate,
}

/// The result of checking a packet's ports for DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// Neither port is a DNS port.
    No,
    /// One port is a DNS port below [`EPHEMERAL`].
    Sure,
    /// The only DNS port is an ephemeral one: the message must read like DNS.
    Doubtful,
}

/// The decision on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The outcome. If `dns` is [`Dns::Doubtful`], the outcome if it turns out not to be DNS.
    pub outcome: Outcome,
    /// Number of packets that it stands for; 0 if it was not sampled.
    pub weight: u32,
    /// Result of checking the ports if the packet is inspected as DNS, else [`Dns::No`].
    pub dns: Dns,
    /// The part of the packet to read, if it is inspected.
    pub record: Option<Record>,
    /// True if bytes of the payload are missing.
    pub cut: bool,
}

/// The part of a packet to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind of sample.
    pub kind: Kind,
    /// Number of bytes from the packet's start.
    pub bytes: u32,
}

impl Decision {
    /// Returns the outcome after the payload was read. `is_dns` is true if it read like DNS.
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

/// Returns true if a port is in the set.
#[inline(always)]
pub const fn has_port(ports: &PortBits, port: u16) -> bool {
    ports[(port >> 6) as usize] >> (port & 63) & 1 == 1
}

/// Checks the ports of a TCP or UDP packet for DNS.
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

/// Returns true if a packet is a tunnel packet. Packets that are certainly DNS are not.
#[inline(always)]
pub fn is_tunnel(ports: &PortBits, meta: &PacketMeta) -> bool {
    meta.is_tunnel() && !matches!(dns(ports, meta), Dns::Sure)
}

/// Walks on inside nested tunnels, at most [`MAX_TUNNELS`] of them. Returns the walk over the
/// innermost packet, or `meta` if this is no tunnel packet or its inside is not readable. Offsets
/// still count from the start of the outer packet.
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

/// Returns true if fragments of a protocol are reassembled: UDP and TCP, also after the IPv6
/// extension headers in the fragmentable part.
#[inline(always)]
const fn has_parts(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_UDP | PROTOCOL_TCP | 0 | 43 | 51 | 60 | 135 | 139 | 140)
}

/// Maximum bytes of payload that are read of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Snaps {
    /// Bytes of a DNS message over UDP.
    pub udp: u32,
    /// Bytes of a TCP segment on a DNS port.
    pub tcp: u32,
    /// Bytes of a fragment.
    pub fragment: u32,
    /// Bytes of an ICMP message.
    pub icmp: u32,
    /// Bytes of a malformed packet, from its IP header on.
    pub malformed: u32,
}

impl Snaps {
    /// No limits.
    pub const ALL: Self = Self {
        udp: u32::MAX,
        tcp: u32::MAX,
        fragment: u32::MAX,
        icmp: u32::MAX,
        malformed: u32::MAX,
    };
}

/// Decides how a packet is processed.
///
/// `flow` returns its flow hash, `dns_id` the first two bytes of its payload and `random` a random
/// number. Each is called only if the sampling rate requires it. `length` is the number of
/// available bytes of the packet, of which at most `snaps` are read.
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
    // Limited to the available bytes of the packet.
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
            // Even a fragment that was not sampled may be part of a sampled message.
            let record = record(Kind::Fragment, headers + least(meta.payload_len, snaps.fragment));
            return Decision { record, ..without_dns(Outcome::Fragment, None) };
        }
        return without_dns(Outcome::Fragment, record(Kind::Headers, headers));
    }
    if weight == 0 {
        return without_dns(Outcome::NotSampled, None);
    }
    if matches!(meta.version, IpVersion::None) {
        // Non-IP packets are counted only.
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
