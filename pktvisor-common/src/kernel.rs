//! Computations of the kernel programs besides the decision. They do not access the packet's bytes,
//! so that user space can run them too and compare the results.

use crate::abi::{
    DNS_TCP_SNAP, DNS_UDP_SNAP, FRAGMENT_SNAP, HOST_RANGES, ICMP_SNAP, MALFORMED_SNAP, ProbeConfig,
};
use crate::classify::{Rules, Snaps};
use crate::direction::Direction;
use crate::packet::{IpVersion, PacketMeta};

impl ProbeConfig {
    /// Returns the configuration that decisions depend on.
    #[inline(always)]
    pub fn rules(&self) -> Rules<'_> {
        Rules { ports: &self.dns_ports, dns: &self.dns, rest: &self.rest }
    }
}

/// Maximum bytes of payload that the kernel programs copy.
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

/// Returns true if an address is in one of the ranges of the configuration.
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

/// Returns the direction of a packet by the ranges of the configuration.
#[inline(always)]
pub fn direction(config: &ProbeConfig, meta: &PacketMeta) -> Direction {
    // If the destination is HOST, the source need not be looked up.
    let to_host = is_host(config, meta.version, &meta.dst);
    let from_host = !to_host && is_host(config, meta.version, &meta.src);
    Direction::of(from_host, to_host)
}

/// Returns the number of segments that a packet stands for, and their bytes on the wire.
///
/// `size` is the payload of each segment, or 0 if the network card does not do the segmentation.
/// `segments` is their number, or 0 if the device does not report it (virtio).
#[inline(always)]
pub fn segments(meta: &PacketMeta, length: u32, size: u32, segments: u32) -> (u32, u32) {
    if size == 0 {
        return (1, length);
    }
    let n = match segments {
        0 => meta.payload_len.div_ceil(size),
        segments => segments,
    };
    // Limited to the `u16` of a record, which is enough for the kernel's buffers: 64 KiB and, with
    // BIG TCP, 512 KiB.
    let n = if n == 0 { 1 } else { least(n, u16::MAX as u32) };
    (n, length + (n - 1) * meta.payload_offset as u32)
}

/// Returns the ring of a flow: that of the worker that owns its partition. Fragments are spread by
/// the hash of their addresses, because most of them have no ports.
#[inline(always)]
pub const fn ring(flow: u64, ring_mask: u32) -> u32 {
    (flow >> 60) as u32 & ring_mask
}
