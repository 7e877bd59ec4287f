//! Link-layer headers: the supported types, and the step over a header to the IP header.

mod filtered;
mod serial;
mod wifi;
mod wrapped;

use std::fmt;

use pktvisor_common::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes, PacketMeta, walk_ethernet, walk_l3,
};

pub(crate) use self::filtered::filter_view;
use self::wrapped::unwrap;
use crate::decode::block::{LinkType, PacketRecord};

/// Length of a Linux cooked header.
const SLL_LEN: usize = 16;
/// Length of a Linux cooked header v2.
const SLL2_LEN: usize = 20;
/// Length of the address family before a packet of a BSD loopback interface.
const LOOPBACK_LEN: usize = 4;
/// Length of the header of an `enc` interface.
const ENC_LEN: usize = 12;
/// Maximum bytes before an IP header, because offsets in packets are 16-bit numbers.
const MAX_HEADERS: usize = 16_384;

impl LinkType {
    /// Returns the link type of a number in a capture file (`LINKTYPE_*`).
    pub fn from_number(number: u32) -> Result<Self, UnsupportedLink> {
        Ok(match number {
            0 | 108 => Self::BsdLoopback,
            // 284 is Ethernet with Marvell's tag, which has an EtherType of its own.
            1 | 284 => Self::Ethernet,
            9 => Self::Ppp,
            12 | 101 | 228 | 229 => Self::RawIp,
            50 => Self::PppHdlc,
            51 => Self::Pppoe,
            100 => Self::Llc,
            104 => Self::CiscoHdlc,
            105 => Self::Wifi,
            107 => Self::FrameRelay,
            109 => Self::Enc,
            113 => Self::LinuxSll,
            117 => Self::Pflog,
            119 => Self::WifiPrism,
            127 => Self::WifiRadiotap,
            163 => Self::WifiAvs,
            192 => Self::Ppi,
            239 => Self::Nflog,
            240 => Self::Netanalyzer,
            258 => Self::Pktap,
            276 => Self::LinuxSll2,
            281..=283 => Self::SwitchTag(number as u16),
            _ => return Err(UnsupportedLink(number)),
        })
    }

    /// Returns the number by which libpcap's compiler knows this link type (`DLT_*`). For BSD loopback it
    /// is the one in network byte order.
    pub(crate) fn dlt(self) -> pcap::Linktype {
        pcap::Linktype(match self {
            Self::Ethernet => 1,
            Self::Ppp => 9,
            Self::Llc => 11,
            Self::RawIp => 12,
            Self::PppHdlc => 50,
            Self::Pppoe => 51,
            Self::CiscoHdlc => 104,
            Self::Wifi => 105,
            Self::FrameRelay => 107,
            Self::BsdLoopback => 108,
            Self::Enc => 109,
            Self::LinuxSll => 113,
            Self::Pflog => 117,
            Self::WifiPrism => 119,
            Self::WifiRadiotap => 127,
            Self::WifiAvs => 163,
            Self::Ppi => 192,
            Self::Nflog => 239,
            Self::Netanalyzer => 240,
            Self::Pktap => 258,
            Self::LinuxSll2 => 276,
            Self::SwitchTag(number) => i32::from(number),
        })
    }
}

/// A link type that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedLink(
    /// Number in capture files (`LINKTYPE_*`).
    pub u32,
);

impl std::error::Error for UnsupportedLink {}

impl fmt::Display for UnsupportedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link type {}", self.0)?;
        let known = pcap::Linktype(self.0 as i32);
        if let (Ok(name), Ok(description)) = (known.get_name(), known.get_description()) {
            write!(f, " ({name}: {description})")?;
        }
        f.write_str(" is not supported")
    }
}

/// Returns the EtherType after the link header of `packet`, and the offset of what follows; `None` if
/// the packet ends inside the header. Protocols without an EtherType give 0.
#[inline]
pub fn network_layer(link: LinkType, packet: &[u8]) -> Option<(u16, usize)> {
    match link {
        LinkType::Ethernet => Some((u16::from_be_bytes(packet.read(12)?), 14)),
        LinkType::LinuxSll => Some((u16::from_be_bytes(packet.read(14)?), SLL_LEN)),
        LinkType::LinuxSll2 => {
            packet.read::<SLL2_LEN>(0)?;
            Some((u16::from_be_bytes(packet.read(0)?), SLL2_LEN))
        }
        // All three tags move the EtherType back by four bytes.
        LinkType::SwitchTag(_) => Some((u16::from_be_bytes(packet.read(16)?), 18)),
        LinkType::RawIp => Some((
            match packet.first()? >> 4 {
                4 => ETHERTYPE_IPV4,
                6 => ETHERTYPE_IPV6,
                _ => 0,
            },
            0,
        )),
        LinkType::BsdLoopback => {
            Some((ethertype_of_family(family_of(packet.read(0)?)), LOOPBACK_LEN))
        }
        LinkType::Enc => {
            packet.read::<ENC_LEN>(0)?;
            Some((ethertype_of_family(family_of(packet.read(0)?)), ENC_LEN))
        }
        LinkType::Pflog => {
            let [length, family] = packet.read(0)?;
            let ethertype = ethertype_of_family(family.into());
            Some((ethertype, usize::from(length).next_multiple_of(4)))
        }
        LinkType::Ppp => serial::ppp(packet, 0),
        LinkType::PppHdlc => serial::ppp_hdlc(packet),
        LinkType::Pppoe => serial::pppoe(packet),
        LinkType::CiscoHdlc => serial::cisco_hdlc(packet),
        LinkType::FrameRelay => serial::frame_relay(packet),
        LinkType::Llc => wifi::llc(packet, 0),
        LinkType::Wifi => wifi::data(packet, false),
        LinkType::WifiPrism
        | LinkType::WifiRadiotap
        | LinkType::WifiAvs
        | LinkType::Ppi
        | LinkType::Netanalyzer
        | LinkType::Nflog
        | LinkType::Pktap => {
            let inner = unwrap(link, packet)?;
            let rest = packet.get(inner.offset..)?;
            let (ethertype, offset) = match inner.link {
                Some(LinkType::Wifi) => wifi::data(rest, inner.padded)?,
                // A third level of headers is not supported.
                Some(link) if !link.is_wrapping() => network_layer(link, rest)?,
                _ => (0, 0),
            };
            Some((ethertype, inner.offset + offset))
        }
    }
}

/// Returns the EtherType of an address family: `AF_INET`, and `AF_INET6` of NetBSD and OpenBSD, of
/// FreeBSD, of macOS, and of Linux.
fn ethertype_of_family(family: u32) -> u16 {
    match family {
        2 => ETHERTYPE_IPV4,
        24 | 28 | 30 | 10 => ETHERTYPE_IPV6,
        _ => 0,
    }
}

/// Returns the address family at the start of a header. It is in the byte order of the capturing machine
/// or in network byte order (`LINKTYPE_LOOP`). Families are small numbers, which reveals the order.
fn family_of(header: [u8; LOOPBACK_LEN]) -> u32 {
    match header {
        [low, _, _, 0] if low != 0 => u32::from_le_bytes(header),
        _ => u32::from_be_bytes(header),
    }
}

/// Walks the headers of a packet, from its link header on.
#[inline]
pub fn walk(record: &PacketRecord, bytes: &[u8]) -> PacketMeta {
    let wire_len = record.wire_len as usize;
    if record.link == LinkType::Ethernet {
        return walk_ethernet(bytes, wire_len);
    }
    match network_layer(record.link, bytes) {
        Some((ethertype, offset)) if offset <= MAX_HEADERS => {
            walk_l3(bytes, offset, ethertype, wire_len)
        }
        _ => PacketMeta { malformed: true, ..PacketMeta::default() },
    }
}
