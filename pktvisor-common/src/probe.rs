//! What the kernel programs decide of a packet, written apart from how they get at its octets, so
//! that user space can decide the same and compare.

use crate::abi::{
    DNS_TCP_SNAP, DNS_UDP_SNAP, FRAGMENT_SNAP, HOST_RANGES, Kind, MALFORMED_SNAP, ProbeConfig,
};
use crate::direction::Direction;
use crate::flow::{dns_sample_hash, mix};
use crate::outcome::Outcome;
use crate::packet::{Fragment, IpVersion, PROTOCOL_UDP, PacketMeta, Transport};

/// From here on ports are taken by clients at random (the Linux default range starts here), so
/// that a message has to read like DNS before it counts.
pub const EPHEMERAL: u16 = 32_768;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its outcome, if its record finds room in the ring.
    pub outcome: Outcome,
    /// What it stands for; 0 where the sampling rate left it out.
    pub weight: u32,
    /// The record that is made of it.
    pub sample: Option<Sample>,
}

/// A record that is made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its kind.
    pub kind: Kind,
    /// Octets of the packet from its start.
    pub captured: u32,
}

#[inline(always)]
fn is_dns_port(config: &ProbeConfig, port: u16) -> bool {
    config.dns_ports[(port >> 6) as usize] >> (port & 63) & 1 == 1
}

/// Whether the ports make it DNS, and whether surely: `None`, or what is `true` where it is sure.
#[inline(always)]
fn dns(config: &ProbeConfig, meta: &PacketMeta) -> Option<bool> {
    let ports = matches!(meta.transport, Transport::Udp | Transport::Tcp);
    if !ports || !matches!(meta.fragment, Fragment::None) {
        return None;
    }
    let src = is_dns_port(config, meta.src_port);
    let dst = is_dns_port(config, meta.dst_port);
    if !src && !dst {
        return None;
    }
    Some(src && meta.src_port < EPHEMERAL || dst && meta.dst_port < EPHEMERAL)
}

/// Decides what becomes of a packet.
///
/// `flow` is its flow hash, `dns_id` reads the first two octets of its payload and `random` makes a
/// random number; each is asked only where the sampling rate needs it.
#[inline(always)]
pub fn decide(
    config: &ProbeConfig,
    meta: &PacketMeta,
    flow: impl Fn() -> u64,
    wire_len: u32,
    dns_id: impl FnOnce() -> u16,
    random: impl FnOnce() -> u32,
) -> Decision {
    let dns = dns(config, meta);
    let weight = if dns.is_some() {
        if config.dns.takes_all() {
            1
        } else {
            config.dns.weight(dns_sample_hash(flow(), meta.transport, dns_id()))
        }
    } else if config.rest.takes_all() {
        1
    } else if config.rest.takes_none() {
        0
    } else {
        config.rest.weight(mix(random() as u64 | 1 << 32))
    };
    let headers = |captured: u32| {
        (weight > 0).then_some(Sample { kind: Kind::Headers, captured: least(captured, wire_len) })
    };
    let payload = |kind: Kind, snap: u32| Sample {
        kind,
        captured: least(meta.payload_offset as u32 + least(meta.payload_len, snap), wire_len),
    };
    if meta.malformed {
        return Decision { outcome: Outcome::Malformed, weight, sample: headers(MALFORMED_SNAP) };
    }
    if !matches!(meta.fragment, Fragment::None) {
        // What is left out by the sampling rate may still be a part of a message that is not.
        let sample = match meta.protocol {
            PROTOCOL_UDP => Some(payload(Kind::Fragment, FRAGMENT_SNAP)),
            _ => headers(meta.payload_offset as u32),
        };
        return Decision { outcome: Outcome::Fragment, weight, sample };
    }
    if weight == 0 {
        return Decision { outcome: Outcome::NotSampled, weight, sample: None };
    }
    if matches!(meta.version, IpVersion::None) {
        // Nothing of it is summed up but that it was there.
        return Decision { outcome: Outcome::NonIp, weight, sample: None };
    }
    let Some(sure) = dns else {
        let sample = headers(meta.payload_offset as u32);
        return Decision { outcome: Outcome::Headers, weight, sample };
    };
    let snap = match meta.transport {
        Transport::Udp => DNS_UDP_SNAP,
        _ => DNS_TCP_SNAP,
    };
    let outcome = match (sure, meta.payload_len > snap) {
        (false, _) => Outcome::Headers,
        (true, true) => Outcome::Truncated,
        (true, false) => Outcome::Dns,
    };
    Decision { outcome, weight, sample: Some(payload(Kind::Dns, snap)) }
}

#[inline(always)]
const fn least(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

/// Whether an address is in one of the ranges of the configuration.
#[inline(always)]
pub fn is_host(config: &ProbeConfig, version: IpVersion, address: &[u8; 16]) -> bool {
    let halves = |octets: &[u8; 16]| {
        let octets = u128::from_ne_bytes(*octets);
        (octets as u64, (octets >> 64) as u64)
    };
    match version {
        IpVersion::V4 => {
            let address = u32::from_ne_bytes([address[0], address[1], address[2], address[3]]);
            for at in 0..HOST_RANGES {
                if at as u32 >= config.ranges_v4 {
                    break;
                }
                let range = &config.hosts_v4[at];
                if address & u32::from_ne_bytes(range.mask) == u32::from_ne_bytes(range.address) {
                    return true;
                }
            }
        }
        IpVersion::V6 => {
            let (high, low) = halves(address);
            for at in 0..HOST_RANGES {
                if at as u32 >= config.ranges_v6 {
                    break;
                }
                let range = &config.hosts_v6[at];
                let (mask, network) = (halves(&range.mask), halves(&range.address));
                if high & mask.0 == network.0 && low & mask.1 == network.1 {
                    return true;
                }
            }
        }
        IpVersion::None => {}
    }
    false
}

/// The direction of a packet by the ranges of the configuration.
#[inline(always)]
pub fn direction(config: &ProbeConfig, meta: &PacketMeta) -> Direction {
    // The far end need not be looked up where the destination is HOST.
    let to_host = is_host(config, meta.version, &meta.dst);
    let from_host = !to_host && is_host(config, meta.version, &meta.src);
    Direction::of(from_host, to_host)
}

/// Segments that a packet stands for, and their octets on the wire.
///
/// `size` is the payload of each, 0 where segmentation was not left to the network card; `segments`
/// is their number, 0 where the device does not say (virtio).
#[inline(always)]
pub fn segments(meta: &PacketMeta, length: u32, size: u32, segments: u32) -> (u32, u32) {
    if size == 0 {
        return (1, length);
    }
    let n = match segments {
        0 => meta.payload_len.div_ceil(size),
        segments => segments,
    };
    // As many as fit a record's count and a kernel's buffer: 64 KiB and, with BIG TCP, 512 KiB.
    let n = if n == 0 { 1 } else { least(n, u16::MAX as u32) };
    (n, length + (n - 1) * meta.payload_offset as u32)
}

/// The ring of a flow: that of the shard that owns its partition. Fragments are spread by their
/// addresses, for most of them have no ports.
#[inline(always)]
pub const fn ring(flow: u64, ring_mask: u32) -> u32 {
    (flow >> 60) as u32 & ring_mask
}
