//! PPP, PPPoE, Cisco HDLC and Frame Relay.

use pktvisor_common::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes};
use pktvisor_common::ppp::ppp_ethertype;

/// Address and control of PPP in HDLC-like framing (RFC 1662).
const ALL_STATIONS: [u8; 2] = [0xff, 0x03];
/// Unnumbered information: the control byte of frames that carry packets.
const UNNUMBERED: u8 = 0x03;
/// Maximum bytes of a Frame Relay address (Q.922).
const MAX_ADDRESS: usize = 4;

/// Parses PPP at `start`, with or without address and control bytes, and with a protocol number of one or
/// two bytes (RFC 1661).
pub(super) fn ppp(packet: &[u8], start: usize) -> Option<(u16, usize)> {
    let mut offset = start;
    if packet.read(offset) == Some(ALL_STATIONS) {
        offset += 2;
    }
    let [first] = packet.read(offset)?;
    let protocol = if first & 1 == 1 {
        offset += 1;
        first.into()
    } else {
        let protocol = u16::from_be_bytes(packet.read(offset)?);
        offset += 2;
        protocol
    };
    Some((ppp_ethertype(protocol).unwrap_or(0), offset))
}

/// Returns true if a packet has an address of Cisco's framing: unicast or broadcast.
pub(super) fn is_cisco(packet: &[u8]) -> bool {
    matches!(packet, [0x0f | 0x8f, 0, ..])
}

pub(super) fn ppp_hdlc(packet: &[u8]) -> Option<(u16, usize)> {
    if is_cisco(packet) { cisco_hdlc(packet) } else { ppp(packet, 0) }
}

/// Parses address, control and EtherType.
pub(super) fn cisco_hdlc(packet: &[u8]) -> Option<(u16, usize)> {
    Some((u16::from_be_bytes(packet.read(2)?), 4))
}

/// Parses the header of a PPPoE session (RFC 2516), then PPP. Discovery has another code.
pub(super) fn pppoe(packet: &[u8]) -> Option<(u16, usize)> {
    let [_, code, ..] = packet.read::<6>(0)?;
    if code == 0 { ppp(packet, 6) } else { Some((0, 6)) }
}

/// Parses an address (Q.922), then NLPID or SNAP (RFC 2427), or an EtherType in Cisco's framing.
pub(super) fn frame_relay(packet: &[u8]) -> Option<(u16, usize)> {
    let last = packet.iter().take(MAX_ADDRESS).position(|byte| byte & 1 == 1);
    let mut offset = match last {
        Some(last) => last + 1,
        None if packet.len() < MAX_ADDRESS => return None,
        None => return Some((0, MAX_ADDRESS)),
    };
    let [control] = packet.read(offset)?;
    if control != UNNUMBERED {
        return Some((u16::from_be_bytes(packet.read(offset)?), offset + 2));
    }
    offset += 1;
    // SNAP may follow a byte of padding.
    if packet.read(offset)? == [0] {
        offset += 1;
    }
    let [nlpid] = packet.read(offset)?;
    offset += 1;
    match nlpid {
        0xcc => Some((ETHERTYPE_IPV4, offset)),
        0x8e => Some((ETHERTYPE_IPV6, offset)),
        0xcf => ppp(packet, offset),
        0x80 => {
            let [a, b, c, high, low] = packet.read(offset)?;
            let ethertype = if [a, b, c] == [0; 3] { u16::from_be_bytes([high, low]) } else { 0 };
            Some((ethertype, offset + 5))
        }
        _ => Some((0, offset)),
    }
}
