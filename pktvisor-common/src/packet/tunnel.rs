//! Recognizes IP tunnels and finds the packet inside.
//!
//! | tunnel | recognized by |
//! |---|---|
//! | IP in IP, 6in4, MPLS in IP | protocols 4, 41 and 137 |
//! | GRE with IP, MPLS or Ethernet; ERSPAN I, II and III | protocol 47 |
//! | VXLAN | UDP to port 4789 or 8472 and a valid header |
//! | Geneve | UDP to port 6081 and a valid header |
//! | GTP-U | UDP to port 2152 and a valid header |
//!
//! Sources: RFC 2003, RFC 2473 and RFC 4213 (IP in IP), RFC 4023 (MPLS in IP), RFC 2784 and
//! RFC 2890 (GRE), draft-foschiano-erspan-03 (ERSPAN), RFC 7348 (VXLAN), RFC 8926 (Geneve),
//! 3GPP TS 29.281 (GTP-U).

use super::{
    Behind, ETHERTYPE_ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes, PacketMeta, Transport,
};

const PROTOCOL_IPV4: u8 = 4;
const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_GRE: u8 = 47;
const PROTOCOL_MPLS: u8 = 137;

const PORT_GTP_U: u16 = 2_152;
const PORT_VXLAN: u16 = 4_789;
/// The default VXLAN port of Linux.
const PORT_VXLAN_LINUX: u16 = 8_472;
const PORT_GENEVE: u16 = 6_081;

const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_UPSTREAM: u16 = 0x8848;
const ETHERTYPE_ERSPAN: u16 = 0x88be;
const ETHERTYPE_ERSPAN_III: u16 = 0x22eb;

/// Maximum nested tunnels that are entered. A packet in more of them counts by the headers inside
/// the last one entered.
pub const MAX_TUNNELS: usize = 3;

/// Maximum extension headers of GTP-U that are skipped.
const GTP_EXTENSIONS: usize = 3;

/// The packet inside a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its start, in bytes from the start of the outer packet.
    pub offset: usize,
    /// Its EtherType; [`ETHERTYPE_ETHERNET`] for an Ethernet frame.
    pub ethertype: u16,
}

/// Returns true if packets of an IP protocol are tunnel packets.
#[inline(always)]
pub const fn is_protocol(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_IPV4 | PROTOCOL_IPV6 | PROTOCOL_GRE | PROTOCOL_MPLS)
}

/// Returns true if UDP datagrams to this port are tunnel packets, provided that their header is
/// valid.
#[inline(always)]
pub const fn is_port(port: u16) -> bool {
    // One comparison rules out nearly all other ports.
    let between = port.wrapping_sub(PORT_GTP_U) <= PORT_VXLAN_LINUX - PORT_GTP_U;
    between && matches!(port, PORT_GTP_U | PORT_VXLAN | PORT_VXLAN_LINUX | PORT_GENEVE)
}

/// Sets [`PacketMeta::behind`] for a UDP datagram to a tunnel port: a tunnel if the header is
/// valid, unknown if it was not captured.
#[inline(always)]
pub(super) fn tell_udp<B: PacketBytes + ?Sized>(bytes: &B, meta: &mut PacketMeta) {
    if meta.payload_len < 8 {
        return;
    }
    match bytes.read::<8>(usize::from(meta.payload_offset)) {
        Some(header) if is_valid(meta.dst_port, header, meta.payload_len) => {
            meta.behind = Behind::Tunnel;
        }
        Some(_) => {}
        None => meta.behind = Behind::Unknown,
    }
}

/// Returns true if an 8-byte header is valid for the tunnel protocol of the port.
#[inline(always)]
const fn is_valid(port: u16, header: [u8; 8], payload_len: u32) -> bool {
    let [first, second, high, low, .., last] = header;
    match port {
        // Only flag I and optionally flag G (group policy) may be set.
        PORT_VXLAN | PORT_VXLAN_LINUX => first & 0x7f == 0x08 && last == 0,
        // Version 0, and options that fit into the payload.
        PORT_GENEVE => {
            let options = (first & 0x3f) as u32 * 4;
            first >> 6 == 0 && second << 2 == 0 && last == 0 && payload_len >= 8 + options
        }
        // Version 1 of the protocol GTP (not GTP'), and a length that fits into the payload.
        PORT_GTP_U => first & 0xf8 == 0x30 && 8 + (high as u32) * 256 + low as u32 <= payload_len,
        _ => false,
    }
}

/// Returns the packet inside a tunnel, or `None` if the walk cannot read it.
///
/// `meta` is the walk over the outer packet, which must be a tunnel packet
/// ([`PacketMeta::is_tunnel`]).
#[inline(always)]
pub fn inside<B: PacketBytes + ?Sized>(bytes: &B, meta: &PacketMeta) -> Option<Inside> {
    let offset = usize::from(meta.payload_offset);
    if matches!(meta.transport, Transport::Udp) {
        return match meta.dst_port {
            PORT_GENEVE => geneve(bytes, offset),
            PORT_GTP_U => gtp(bytes, offset),
            _ => Some(Inside { offset: offset + 8, ethertype: ETHERTYPE_ETHERNET }),
        };
    }
    match meta.protocol {
        PROTOCOL_IPV4 => Some(Inside { offset, ethertype: ETHERTYPE_IPV4 }),
        PROTOCOL_IPV6 => Some(Inside { offset, ethertype: ETHERTYPE_IPV6 }),
        PROTOCOL_MPLS => Some(Inside { offset, ethertype: ETHERTYPE_MPLS }),
        PROTOCOL_GRE => gre(bytes, offset),
        _ => None,
    }
}

/// Returns true if the walk can read the payload of a tunnel header with this EtherType.
#[inline(always)]
const fn is_read(ethertype: u16) -> bool {
    matches!(
        ethertype,
        ETHERTYPE_IPV4
            | ETHERTYPE_IPV6
            | ETHERTYPE_ETHERNET
            | ETHERTYPE_MPLS
            | ETHERTYPE_MPLS_UPSTREAM
    )
}

/// Reads a Geneve header: 8 bytes and options.
#[inline(always)]
fn geneve<B: PacketBytes + ?Sized>(bytes: &B, offset: usize) -> Option<Inside> {
    let [options, _, high, low] = bytes.read::<4>(offset)?;
    let ethertype = u16::from_be_bytes([high, low]);
    let offset = offset + 8 + usize::from(options & 0x3f) * 4;
    if is_read(ethertype) { Some(Inside { offset, ethertype }) } else { None }
}

/// Reads a GTP-U header: 8 bytes, 4 more if any of three flags is set, then extension headers. Only
/// messages of type 255 (G-PDU) carry a packet.
#[inline(always)]
fn gtp<B: PacketBytes + ?Sized>(bytes: &B, offset: usize) -> Option<Inside> {
    let [flags, message] = bytes.read::<2>(offset)?;
    if message != 255 {
        return None;
    }
    let mut at = offset + 8;
    if flags & 0x07 != 0 {
        let [_, _, _, next] = bytes.read::<4>(at)?;
        let mut next = if flags & 0x04 != 0 { next } else { 0 };
        at += 4;
        for _ in 0..GTP_EXTENSIONS {
            if next == 0 {
                break;
            }
            let [units] = bytes.read::<1>(at)?;
            if units == 0 {
                return None;
            }
            at = bytes.merge_paths(at + usize::from(units) * 4);
            [next] = bytes.read::<1>(at - 1)?;
        }
        if next != 0 {
            return None;
        }
    }
    let [first] = bytes.read::<1>(at)?;
    match first >> 4 {
        4 => Some(Inside { offset: at, ethertype: ETHERTYPE_IPV4 }),
        6 => Some(Inside { offset: at, ethertype: ETHERTYPE_IPV6 }),
        _ => None,
    }
}

/// Reads a GRE header of version 0 without source routes: 4 bytes, and 4 more for each of checksum,
/// key and sequence number.
#[inline(always)]
fn gre<B: PacketBytes + ?Sized>(bytes: &B, offset: usize) -> Option<Inside> {
    let [flags, version, high, low] = bytes.read::<4>(offset)?;
    if version & 7 != 0 || flags & 0x40 != 0 {
        return None;
    }
    let has = |flag: u8| usize::from(flags & flag != 0);
    let at = bytes.merge_paths(offset + 4 + 4 * (has(0x80) + has(0x20) + has(0x10)));
    let ethernet = |offset| Some(Inside { offset, ethertype: ETHERTYPE_ETHERNET });
    match u16::from_be_bytes([high, low]) {
        // Without a sequence number this is ERSPAN type I, which has no header of its own.
        ETHERTYPE_ERSPAN if has(0x10) == 0 => ethernet(at),
        ETHERTYPE_ERSPAN => ethernet(at + 8),
        ETHERTYPE_ERSPAN_III => {
            let [frame, last] = bytes.read::<2>(at + 10)?;
            // An 8-byte platform-specific subheader follows if the last bit is set.
            let at = bytes.merge_paths(at + 12 + usize::from(last & 1) * 8);
            match frame >> 2 & 0x1f {
                0 => ethernet(at),
                2 => {
                    let [first] = bytes.read::<1>(at)?;
                    let ethertype = if first >> 4 == 6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
                    Some(Inside { offset: at, ethertype })
                }
                _ => None,
            }
        }
        ethertype if is_read(ethertype) => Some(Inside { offset: at, ethertype }),
        _ => None,
    }
}
