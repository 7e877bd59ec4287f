//! Walks IP and transport headers.
//!
//! Sources: RFC 791 (IPv4), RFC 8200 (IPv6 and its extension headers), RFC 4302 (authentication
//! header), RFC 768 (UDP), RFC 9293 (TCP).

use super::{
    Behind, Fragment, IpVersion, PROTOCOL_TCP, PROTOCOL_UDP, PacketBytes, PacketMeta, Transport,
    tunnel,
};

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
/// Nothing follows an IPv6 header.
const NO_NEXT_HEADER: u8 = 59;

/// Maximum IPv6 extension headers (and IPv4 authentication headers) that the walk skips. If more of
/// them follow, the packet counts as [`Transport::Other`].
pub const MAX_EXTENSION_HEADERS: usize = 6;

/// Walks a packet that starts with an IPv4 or IPv6 header.
#[inline(always)]
pub fn walk_ip<B: PacketBytes + ?Sized>(bytes: &B, wire_len: usize) -> PacketMeta {
    let mut meta = PacketMeta::default();
    walk_ip_into(bytes, wire_len, &mut meta);
    meta
}

/// Like [`walk_ip`], into a fresh [`PacketMeta`] that need not be on the kernel's small stack.
#[inline(always)]
pub fn walk_ip_into<B: PacketBytes + ?Sized>(bytes: &B, wire_len: usize, meta: &mut PacketMeta) {
    match bytes.read::<1>(0) {
        Some([first]) if first >> 4 == 4 => walk_ipv4(bytes, 0, wire_len, meta),
        Some([first]) if first >> 4 == 6 => walk_ipv6(bytes, 0, wire_len, meta),
        Some(_) => meta.behind = Behind::Unknown,
        None => meta.set_malformed(),
    }
}

#[inline(always)]
pub(super) fn walk_ipv4<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    meta.l3_offset = offset as u16;
    meta.version = IpVersion::V4;
    let Some(header) = bytes.read::<20>(offset) else {
        return meta.set_malformed();
    };
    if header[0] >> 4 != 4 {
        return meta.set_malformed();
    }
    meta.src[..4].copy_from_slice(&header[12..16]);
    meta.dst[..4].copy_from_slice(&header[16..20]);
    meta.addressed = true;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // The total length is 0 in packets over 64 KiB that were captured before segmentation.
    let end = if total_len == 0 { wire_len } else { offset + total_len };
    if header_len < 20 || offset + header_len > end {
        return meta.set_malformed();
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    meta.fragment = match (fragment & 0x1fff, fragment & 0x2000) {
        (0, 0) => Fragment::None,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    walk_next_header(bytes, header[9], offset + header_len, end, meta);
}

#[inline(always)]
pub(super) fn walk_ipv6<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    meta.l3_offset = offset as u16;
    meta.version = IpVersion::V6;
    // Read in words: the kernel programs copy longer pieces byte by byte.
    let Some(header) = bytes.read::<8>(offset) else { return meta.set_malformed() };
    let Some(src_high) = bytes.read::<8>(offset + 8) else { return meta.set_malformed() };
    let Some(src_low) = bytes.read::<8>(offset + 16) else { return meta.set_malformed() };
    let Some(dst_high) = bytes.read::<8>(offset + 24) else { return meta.set_malformed() };
    let Some(dst_low) = bytes.read::<8>(offset + 32) else { return meta.set_malformed() };
    if header[0] >> 4 != 6 {
        return meta.set_malformed();
    }
    meta.src[..8].copy_from_slice(&src_high);
    meta.src[8..].copy_from_slice(&src_low);
    meta.dst[..8].copy_from_slice(&dst_high);
    meta.dst[8..].copy_from_slice(&dst_low);
    meta.addressed = true;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // The length is 0 in jumbograms and in packets over 64 KiB.
    let unknown = payload_len == 0 && header[6] != NO_NEXT_HEADER;
    let end = if unknown { wire_len } else { offset + 40 + payload_len };
    if offset + 40 > end {
        return meta.set_malformed();
    }
    walk_next_header(bytes, header[6], offset + 40, end, meta);
}

#[inline(always)]
fn walk_next_header<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut protocol: u8,
    mut offset: usize,
    end: usize,
    meta: &mut PacketMeta,
) {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if matches!(meta.fragment, Fragment::Later) {
            break;
        }
        let ipv6 = matches!(meta.version, IpVersion::V6);
        // Hop-by-hop options, routing, fragment, authentication, destination options, mobility,
        // HIP, Shim6: the IPv6 extension header types of IANA that have a length.
        let extension = matches!(protocol, 51)
            || ipv6 && matches!(protocol, 0 | 43 | 44 | 60 | 135 | 139 | 140);
        if !extension {
            break;
        }
        let Some(header) = bytes.read::<4>(offset) else {
            return meta.set_malformed();
        };
        offset += match protocol {
            44 => {
                let position = u16::from_be_bytes([header[2], header[3]]);
                meta.fragment = match (position & 0xfff8, position & 1) {
                    (0, 0) => meta.fragment,
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
                8
            }
            51 => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        protocol = header[0];
        if offset > end {
            return meta.set_malformed();
        }
    }
    meta.protocol = protocol;
    walk_transport_into(bytes, offset, end, meta);
}

/// Walks the transport header at `offset` of an IP packet that ends at `end` by its own length.
///
/// `meta` provides the protocol and the fields of the IP header. The walk over a reassembled
/// datagram, which no longer has an IP header, starts here with offset 0.
#[inline(always)]
pub fn walk_transport<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut meta: PacketMeta,
    offset: usize,
    end: usize,
) -> PacketMeta {
    walk_transport_into(bytes, offset, end, &mut meta);
    meta
}

#[inline(always)]
fn walk_transport_into<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    end: usize,
    meta: &mut PacketMeta,
) {
    meta.payload_offset = offset as u16;
    meta.payload_len = (end - offset) as u32;
    if matches!(meta.fragment, Fragment::Later) {
        return;
    }
    match meta.protocol {
        PROTOCOL_TCP => walk_tcp(bytes, offset, end, meta),
        PROTOCOL_UDP => walk_udp(bytes, offset, end, meta),
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => meta.transport = Transport::Icmp,
        protocol if tunnel::is_protocol(protocol) => {
            if matches!(meta.fragment, Fragment::None) {
                meta.behind = Behind::Tunnel;
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn walk_udp<B: PacketBytes + ?Sized>(bytes: &B, offset: usize, end: usize, meta: &mut PacketMeta) {
    if offset + 8 > end {
        return meta.set_malformed();
    }
    let Some(header) = bytes.read::<8>(offset) else {
        return meta.set_malformed();
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // The length is 0 in UDP super-packets and jumbograms (RFC 2675). The datagram then extends to
    // the end.
    let datagram_end = if length == 0 { end } else { offset + length };
    let first = matches!(meta.fragment, Fragment::First);
    if length != 0 && length < 8 || datagram_end > end && !first {
        return meta.set_malformed();
    }
    meta.transport = Transport::Udp;
    meta.src_port = u16::from_be_bytes([header[0], header[1]]);
    meta.dst_port = u16::from_be_bytes([header[2], header[3]]);
    meta.payload_offset = (offset + 8) as u16;
    let payload_end = if datagram_end < end { datagram_end } else { end };
    meta.payload_len = (payload_end - offset - 8) as u32;
    if !first && tunnel::is_port(meta.dst_port) {
        tunnel::tell_udp(bytes, meta);
    }
}

#[inline(always)]
fn walk_tcp<B: PacketBytes + ?Sized>(bytes: &B, offset: usize, end: usize, meta: &mut PacketMeta) {
    let Some(header) = bytes.read::<20>(offset) else {
        return meta.set_malformed();
    };
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || offset + header_len > end {
        return meta.set_malformed();
    }
    meta.transport = Transport::Tcp;
    meta.src_port = u16::from_be_bytes([header[0], header[1]]);
    meta.dst_port = u16::from_be_bytes([header[2], header[3]]);
    meta.tcp_seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    meta.tcp_ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    meta.tcp_flags = header[13];
    meta.payload_offset = (offset + header_len) as u16;
    meta.payload_len = (end - offset - header_len) as u32;
}
