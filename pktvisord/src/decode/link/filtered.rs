//! Converts packets to the form that libpcap's filter programs expect.
//!
//! libpcap compiles for the system that it runs on: IPv6 has the address family of Linux, and PPP starts
//! with its address. Packets captured on other systems are converted as if they came from this one.

use pktvisor_common::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes};

use super::wrapped::unwrap;
use super::{LOOPBACK_LEN, LinkType, ethertype_of_family, family_of, serial};

/// `AF_INET6` of Linux.
const AF_INET6: u8 = 10;

/// Returns the link type, the bytes for the filter, and the number of bytes left out before them; `None`
/// if the filter cannot decide on the packet. Bytes that are not simply part of the packet are written
/// to `scratch`.
#[inline]
pub(crate) fn filter_view<'a>(
    link: LinkType,
    packet: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Option<(LinkType, &'a [u8], u32)> {
    match link {
        LinkType::Nflog | LinkType::Pktap => {
            let inner = unwrap(link, packet)?;
            let rest = packet.get(inner.offset..)?;
            // A capture header inside another one is not supported.
            let link = inner.link.filter(|link| !link.is_wrapping())?;
            let (link, view, more) = plain(link, rest, scratch);
            Some((link, view, inner.offset as u32 + more))
        }
        // libpcap looks for IP at the start of the frame.
        LinkType::FrameRelay => {
            let (ethertype, offset) = serial::frame_relay(packet)?;
            if !matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
                return None;
            }
            Some((LinkType::RawIp, packet.get(offset..)?, offset as u32))
        }
        link => Some(plain(link, packet, scratch)),
    }
}

#[inline]
fn plain<'a>(
    link: LinkType,
    packet: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> (LinkType, &'a [u8], u32) {
    match (link, packet.read::<LOOPBACK_LEN>(0)) {
        (LinkType::BsdLoopback, Some(header)) => {
            let family = family_of(header);
            let family = known_family(family).to_be_bytes();
            (link, changed(scratch, &family, &packet[LOOPBACK_LEN..]), 0)
        }
        (LinkType::Enc, Some(header)) => {
            let family = known_family(family_of(header)).to_ne_bytes();
            (link, changed(scratch, &family, &packet[LOOPBACK_LEN..]), 0)
        }
        (LinkType::Pflog, Some([length, family, ..])) => {
            let family = known_family(family.into()) as u8;
            (link, changed(scratch, &[length, family], &packet[2..]), 0)
        }
        (LinkType::PppHdlc, Some(_)) if serial::is_cisco(packet) => {
            (LinkType::CiscoHdlc, packet, 0)
        }
        (LinkType::Ppp | LinkType::PppHdlc, Some([first, second, ..]))
            if [first, second] != [0xff, 0x03] || packet[2] & 1 == 1 =>
        {
            let bare = if [first, second] == [0xff, 0x03] { &packet[2..] } else { packet };
            let short: &[u8] = if bare[0] & 1 == 1 { &[0xff, 0x03, 0] } else { &[0xff, 0x03] };
            (link, changed(scratch, short, bare), 0)
        }
        _ => (link, packet, 0),
    }
}

/// Maps every system's address family of IPv6 to that of Linux.
fn known_family(family: u32) -> u32 {
    if ethertype_of_family(family) == ETHERTYPE_IPV6 { AF_INET6.into() } else { family }
}

fn changed<'a>(scratch: &'a mut Vec<u8>, start: &[u8], rest: &[u8]) -> &'a [u8] {
    scratch.clear();
    scratch.extend_from_slice(start);
    scratch.extend_from_slice(rest);
    scratch
}
