//! The undeliverable packet that an ICMP error quotes (RFC 792, RFC 4443 section 3.1).

use pktvisor_common::packet::{Fragment, IpVersion, PacketMeta, Transport, walk_ip};

/// Bytes of the ICMP header, before the quoted packet.
const HEADER: usize = 8;
/// Destination unreachable, in ICMP and ICMPv6.
const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
/// The ICMP code that asks for smaller packets: the destination is reachable.
const FRAGMENTATION_NEEDED: u8 = 4;

/// Returns the walk over the UDP packet that an ICMP packet reports as undeliverable, and the quoted part
/// of its payload. `meta` is the walk over the ICMP packet, whose captured bytes are `packet`.
pub fn quoted<'a>(meta: &PacketMeta, packet: &'a [u8]) -> Option<(PacketMeta, &'a [u8])> {
    if meta.transport != Transport::Icmp || meta.malformed || meta.fragment == Fragment::Later {
        return None;
    }
    let icmp = packet.get(usize::from(meta.payload_offset)..)?;
    match (meta.version, icmp) {
        (IpVersion::V4, [UNREACHABLE_V4, code, ..]) if *code != FRAGMENTATION_NEEDED => {}
        (IpVersion::V6, [UNREACHABLE_V6, ..]) => {}
        _ => return None,
    }
    let quoted = icmp.get(HEADER..)?;
    // The walk uses the packet's own length, because most of the packet need not be quoted.
    let inner = walk_ip(quoted, usize::MAX);
    let payload = quoted.get(usize::from(inner.payload_offset)..).unwrap_or_default();
    let payload = &payload[..payload.len().min(inner.payload_len as usize)];
    (inner.transport == Transport::Udp && !inner.malformed).then_some((inner, payload))
}
