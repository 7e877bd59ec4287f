//! Walks from a link header to IP, through the wrappings in between: VLAN tags, MPLS labels, PPPoE,
//! LLC and switch tags.
//!
//! Sources: IEEE 802.1Q and 802.1ad (VLAN tags), RFC 3032 (MPLS labels), RFC 4385 and RFC 4448
//! (Ethernet over MPLS with a control word), RFC 2516 (PPPoE), IEEE 802.2 with RFC 1042 (LLC and
//! SNAP), and the tag formats of Linux (`net/dsa/tag_dsa.c`, `net/dsa/tag_brcm.c`).
//!
//! A switch tag without an EtherType cannot be distinguished from an EtherType. Only the link type
//! of a capture announces such tags, so they belong to the link header, which is read before this
//! walk.

use super::ip::{walk_ipv4, walk_ipv6};
use super::{Behind, ETHERTYPE_ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes, PacketMeta};
use crate::ppp::ppp_ethertype;

/// Maximum VLAN tags that the first pass of the kernel programs skips.
pub const FAST_VLAN_TAGS: usize = 2;

/// Walks a packet that starts with an Ethernet header.
///
/// `wire_len` is the packet's length on the wire, which can be more than `bytes` holds.
#[inline(always)]
pub fn walk_ethernet<B: PacketBytes + ?Sized>(bytes: &B, wire_len: usize) -> PacketMeta {
    let mut meta = PacketMeta::default();
    walk_ethernet_into(bytes, wire_len, &mut meta);
    meta
}

/// Like [`walk_ethernet`], into a fresh [`PacketMeta`] that need not be on the kernel's small
/// stack.
#[inline(always)]
pub fn walk_ethernet_into<B: PacketBytes + ?Sized>(
    bytes: &B,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    match bytes.read::<2>(12) {
        Some(ethertype) => walk_l3_into(bytes, 14, u16::from_be_bytes(ethertype), wire_len, meta),
        None => meta.set_malformed(),
    }
}

/// Walks the payload of a link header: wrappings, then IP.
///
/// `ethertype` is the protocol that the link header announces, and `offset` is the start of its
/// payload.
#[inline(always)]
pub fn walk_l3<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    ethertype: u16,
    wire_len: usize,
) -> PacketMeta {
    let mut meta = PacketMeta::default();
    walk_l3_into(bytes, offset, ethertype, wire_len, &mut meta);
    meta
}

/// Like [`walk_l3`], into a fresh [`PacketMeta`] that need not be on the kernel's small stack.
#[inline(always)]
pub fn walk_l3_into<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut offset: usize,
    mut ethertype: u16,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    if B::VLAN_ONLY {
        for _ in 0..FAST_VLAN_TAGS {
            if !is_vlan(ethertype) {
                break;
            }
            let Some([_, _, high, low]) = bytes.read::<4>(offset) else {
                return meta.set_malformed();
            };
            ethertype = u16::from_be_bytes([high, low]);
            offset += 4;
        }
    } else if !matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
        match unwrap(bytes, offset, ethertype) {
            Some(inside) => (offset, ethertype) = inside,
            None => return meta.set_malformed(),
        }
        offset = bytes.merge_paths(offset);
    }
    match ethertype {
        ETHERTYPE_IPV4 => walk_ipv4(bytes, offset, wire_len, meta),
        ETHERTYPE_IPV6 => walk_ipv6(bytes, offset, wire_len, meta),
        _ => {
            meta.l3_offset = offset as u16;
            meta.behind = Behind::Unknown;
        }
    }
}

/// Returns true for 802.1Q, 802.1ad, and the older EtherTypes of outer tags.
#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100 | 0x9200)
}

/// Skips wrappings. Returns the offset and EtherType of the payload; `None` if the packet ends
/// inside a wrapping.
///
/// A packet with more than [`PacketBytes::WRAPPINGS`] wrappings is not IP.
#[inline(always)]
fn unwrap<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut offset: usize,
    mut ethertype: u16,
) -> Option<(usize, u16)> {
    // Each step is at least 3 bytes long, so the end of a slice ends the loop.
    for _ in 0..B::WRAPPINGS {
        let (length, inside) = match ethertype {
            vlan if is_vlan(vlan) => {
                let [_, _, high, low] = bytes.read::<4>(offset)?;
                (4, u16::from_be_bytes([high, low]))
            }
            0x8847 | 0x8848 => {
                let [_, _, traffic, _] = bytes.read::<4>(offset)?;
                match traffic & 1 {
                    1 => behind_labels(bytes, offset + 4)?,
                    _ => (4, ethertype),
                }
            }
            ETHERTYPE_ETHERNET => (14, u16::from_be_bytes(bytes.read::<2>(offset + 12)?)),
            0x8864 => pppoe(bytes, offset)?,
            // EDSA: two reserved bytes, the tag, and the EtherType.
            0xdada => (8, u16::from_be_bytes(bytes.read::<2>(offset + 6)?)),
            // The tag of older Broadcom switches.
            0x8874 => (6, u16::from_be_bytes(bytes.read::<2>(offset + 4)?)),
            // The length of an 802.3 frame.
            1..=1500 => llc(bytes, offset)?,
            _ => break,
        };
        if length == 0 {
            break;
        }
        offset = bytes.merge_paths(offset + length);
        ethertype = inside;
    }
    Some((offset, ethertype))
}

/// Interprets the first half-byte after a stack of MPLS labels (RFC 4928): IPv4, IPv6, or the
/// control word of an Ethernet pseudowire. Returns the number of bytes from the last label on and
/// the EtherType.
#[inline(always)]
fn behind_labels<B: PacketBytes + ?Sized>(bytes: &B, offset: usize) -> Option<(usize, u16)> {
    let [first] = bytes.read::<1>(offset)?;
    Some(match first >> 4 {
        4 => (4, ETHERTYPE_IPV4),
        6 => (4, ETHERTYPE_IPV6),
        0 => (8, ETHERTYPE_ETHERNET),
        _ => NOTHING,
    })
}

/// The payload is not read.
const NOTHING: (usize, u16) = (0, 0);

/// Reads the header of a PPPoE session: six bytes, then a PPP protocol number of one or two bytes.
#[inline(always)]
fn pppoe<B: PacketBytes + ?Sized>(bytes: &B, offset: usize) -> Option<(usize, u16)> {
    let [version, code, _, _, _, _, high, low] = bytes.read::<8>(offset)?;
    if version != 0x11 || code != 0 {
        return Some(NOTHING);
    }
    let (length, protocol) = match high & 1 {
        1 => (7, u16::from(high)),
        _ => (8, u16::from_be_bytes([high, low])),
    };
    Some(match ppp_ethertype(protocol) {
        Some(ethertype) => (length, ethertype),
        None => NOTHING,
    })
}

/// Reads an LLC header: with SNAP, or with the SAP once assigned to IP.
#[inline(always)]
fn llc<B: PacketBytes + ?Sized>(bytes: &B, offset: usize) -> Option<(usize, u16)> {
    // Without these bytes nothing indicates IP.
    let Some(llc) = bytes.read::<3>(offset) else { return Some(NOTHING) };
    Some(match llc {
        [0xaa, 0xaa, 0x03] => match bytes.read::<5>(offset + 3)? {
            // RFC 1042, and bridge tunnels (IEEE 802.1H).
            [0, 0, 0 | 0xf8, high, low] => (8, u16::from_be_bytes([high, low])),
            _ => NOTHING,
        },
        [0x06, 0x06, 0x03] => (3, ETHERTYPE_IPV4),
        _ => NOTHING,
    })
}
