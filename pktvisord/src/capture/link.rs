//! Link-layer headers: which ones are read, and the way past them to the IP header.

use std::fmt;

use pktvisor_common::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, PacketBytes, PacketMeta, walk_ethernet, walk_l3,
};

use super::{LinkType, PacketRecord};

/// Length of a Linux cooked header.
const SLL_LEN: usize = 16;
/// Length of a Linux cooked header v2.
const SLL2_LEN: usize = 20;
/// Length of the address family before a packet of a BSD loopback interface.
const LOOPBACK_LEN: usize = 4;

impl LinkType {
    /// The link type of a number that stands in a capture file (`LINKTYPE_*`).
    pub fn from_number(number: u32) -> Result<Self, UnsupportedLink> {
        match number {
            0 | 108 => Ok(Self::BsdLoopback),
            // 284 is Ethernet with Marvell's tag that has an EtherType of its own.
            1 | 284 => Ok(Self::Ethernet),
            12 | 101 | 228 | 229 => Ok(Self::RawIp),
            113 => Ok(Self::LinuxSll),
            276 => Ok(Self::LinuxSll2),
            281..=283 => Ok(Self::SwitchTag(number as u16)),
            _ => Err(UnsupportedLink(number)),
        }
    }

    /// The number by which libpcap's compiler knows this link type (`DLT_*`). BSD loopback is
    /// the one in network byte order.
    pub(super) fn dlt(self) -> pcap::Linktype {
        pcap::Linktype(match self {
            Self::Ethernet => 1,
            Self::LinuxSll => 113,
            Self::LinuxSll2 => 276,
            Self::RawIp => 12,
            Self::BsdLoopback => 108,
            Self::SwitchTag(number) => i32::from(number),
        })
    }
}

/// A link type whose packets are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedLink(
    /// Its number in capture files (`LINKTYPE_*`).
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
        f.write_str(
            " is not supported; Ethernet, Linux cooked v1 and v2, raw IP and BSD loopback are",
        )
    }
}

/// The EtherType of what follows the link header of `packet`, and where that starts; `None` where
/// the packet ends inside the header. What is no EtherType (another protocol's number) is 0.
#[inline]
pub fn network_layer(link: LinkType, packet: &[u8]) -> Option<(u16, usize)> {
    match link {
        LinkType::Ethernet => Some((u16::from_be_bytes(packet.read(12)?), 14)),
        LinkType::LinuxSll => Some((u16::from_be_bytes(packet.read(14)?), SLL_LEN)),
        LinkType::LinuxSll2 => {
            packet.read::<SLL2_LEN>(0)?;
            Some((u16::from_be_bytes(packet.read(0)?), SLL2_LEN))
        }
        // Wherever the tag is, the EtherType is four octets further behind.
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
            let family = loopback_family(packet.read(0)?);
            let ethertype = match family {
                2 => ETHERTYPE_IPV4,
                // AF_INET6 of NetBSD and OpenBSD, of FreeBSD, of macOS, and of Linux.
                24 | 28 | 30 | 10 => ETHERTYPE_IPV6,
                _ => 0,
            };
            Some((ethertype, LOOPBACK_LEN))
        }
    }
}

/// The address family of a BSD loopback header. It stands in the byte order of the machine that
/// captured, or in network order (`LINKTYPE_LOOP`); families are small numbers, so it shows.
fn loopback_family(header: [u8; LOOPBACK_LEN]) -> u32 {
    if loopback_is_little_endian(&header) {
        u32::from_le_bytes(header)
    } else {
        u32::from_be_bytes(header)
    }
}

/// Whether the address family that `header` starts with is little-endian.
pub(super) fn loopback_is_little_endian(header: &[u8]) -> bool {
    matches!(header, [low, _, _, 0, ..] if *low != 0)
}

/// Walks the headers of a packet, from its link header on.
#[inline]
pub fn walk(record: &PacketRecord, bytes: &[u8]) -> PacketMeta {
    let wire_len = record.wire_len as usize;
    if record.link == LinkType::Ethernet {
        return walk_ethernet(bytes, wire_len);
    }
    match network_layer(record.link, bytes) {
        Some((ethertype, offset)) => walk_l3(bytes, offset, ethertype, wire_len),
        None => PacketMeta { malformed: true, ..PacketMeta::default() },
    }
}
