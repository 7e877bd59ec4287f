//! What the kernel programs work out for a packet besides the decision, written apart from how they
//! get at its bytes, so that user space can work out the same and compare.

use crate::abi::{
    DNS_TCP_SNAP, DNS_UDP_SNAP, FRAGMENT_SNAP, HOST_RANGES, ICMP_SNAP, MALFORMED_SNAP, ProbeConfig,
};
use crate::classify::{Rules, Snaps};
use crate::direction::Direction;
use crate::packet::{IpVersion, PacketMeta};

impl ProbeConfig {
    /// What the decision goes by.
    #[inline(always)]
    pub fn rules(&self) -> Rules<'_> {
        Rules { ports: &self.dns_ports, dns: &self.dns, rest: &self.rest }
    }
}

/// Bytes of payload that the kernel programs copy.
pub const SNAPS: Snaps = Snaps {
    udp: DNS_UDP_SNAP,
    tcp: DNS_TCP_SNAP,
    fragment: FRAGMENT_SNAP,
    icmp: ICMP_SNAP,
    malformed: MALFORMED_SNAP,
};

#[inline(always)]
const fn least(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

/// Whether an address is in one of the ranges of the configuration.
#[inline(always)]
pub fn is_host(config: &ProbeConfig, version: IpVersion, address: &[u8; 16]) -> bool {
    let halves = |bytes: &[u8; 16]| {
        let bytes = u128::from_ne_bytes(*bytes);
        (bytes as u64, (bytes >> 64) as u64)
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

/// Segments that a packet stands for, and their bytes on the wire.
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

/// The ring of a flow: that of the worker that owns its partition. Fragments are spread by their
/// addresses, for most of them have no ports.
#[inline(always)]
pub const fn ring(flow: u64, ring_mask: u32) -> u32 {
    (flow >> 60) as u32 & ring_mask
}
