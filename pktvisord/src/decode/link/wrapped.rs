//! Headers that capturing systems put before a packet of another link type.

use pktvisor_common::packet::PacketBytes;

use super::LinkType;

/// Length of a Prism header.
const PRISM_LEN: usize = 144;
/// First bytes of an AVS header: versions 1 and 2.
const AVS: [[u8; 4]; 2] = [[0x80, 0x21, 0x10, 0x01], [0x80, 0x21, 0x10, 0x02]];
/// Length of the header that a Hilscher analyzer writes before a frame.
const NETANALYZER_LEN: usize = 4;
/// Length of the NFLOG header before its attributes, and the attribute that holds the packet.
const NFLOG_LEN: usize = 4;
const NFULA_PAYLOAD: u16 = 9;
/// Maximum NFLOG attributes searched. The kernel writes at most 24.
const MAX_ATTRIBUTES: usize = 64;
/// Radiotap: the time field, the flags field and another word of presence bits; padded 802.11 headers.
const HAS_TIME: u32 = 1;
const HAS_FLAGS: u32 = 2;
const HAS_MORE: u32 = 1 << 31;
const DATA_PAD: u8 = 0x20;
/// Maximum words of presence bits.
const MAX_PRESENT: usize = 32;

/// The packet inside a capture header.
pub(super) struct Inner {
    /// Link type; `None` if it is not supported.
    pub(super) link: Option<LinkType>,
    /// Offset of the packet.
    pub(super) offset: usize,
    /// True if the 802.11 header is padded to a multiple of 4 bytes.
    pub(super) padded: bool,
}

impl LinkType {
    /// Returns true if packets carry those of another link type.
    pub(super) fn is_wrapping(self) -> bool {
        matches!(
            self,
            Self::WifiPrism
                | Self::WifiRadiotap
                | Self::WifiAvs
                | Self::Ppi
                | Self::Netanalyzer
                | Self::Nflog
                | Self::Pktap
        )
    }

    /// Returns the link type of a number of the capturing system (`DLT_*`).
    fn from_dlt(number: u32) -> Option<Self> {
        match number {
            // On OpenBSD, raw IP has this number.
            14 => Some(Self::RawIp),
            number => Self::from_number(number).ok(),
        }
    }
}

/// Returns the packet that `packet` carries after the header of `link`; `None` if it ends inside that
/// header, or if the link type carries no other.
pub(super) fn unwrap(link: LinkType, packet: &[u8]) -> Option<Inner> {
    let plain = |link, offset| Inner { link, offset, padded: false };
    Some(match link {
        LinkType::Netanalyzer => plain(Some(LinkType::Ethernet), NETANALYZER_LEN),
        LinkType::WifiAvs => plain(Some(LinkType::Wifi), avs(packet)?),
        LinkType::WifiPrism => {
            let is_avs = packet.read(0).is_some_and(|start| AVS.contains(&start));
            plain(Some(LinkType::Wifi), if is_avs { avs(packet)? } else { PRISM_LEN })
        }
        LinkType::WifiRadiotap => radiotap(packet)?,
        LinkType::Ppi => {
            let length = u16::from_le_bytes(packet.read(2)?);
            let link = LinkType::from_dlt(u32::from_le_bytes(packet.read(4)?));
            plain(link, length.into())
        }
        LinkType::Pktap => {
            let length = u32::from_le_bytes(packet.read(0)?);
            let link = LinkType::from_dlt(u32::from_le_bytes(packet.read(8)?));
            plain(link, length as usize)
        }
        LinkType::Nflog => plain(Some(LinkType::RawIp), nflog(packet)?),
        _ => return None,
    })
}

fn avs(packet: &[u8]) -> Option<usize> {
    Some(u32::from_be_bytes(packet.read(4)?) as usize)
}

/// Parses a header of radiotap.org: version, padding, length, words of presence bits, then fields, each
/// aligned to its size.
fn radiotap(packet: &[u8]) -> Option<Inner> {
    let length = usize::from(u16::from_le_bytes(packet.read(2)?));
    let present = u32::from_le_bytes(packet.read(4)?);
    let mut words = 1;
    let mut last = present;
    while last & HAS_MORE != 0 && words < MAX_PRESENT {
        last = u32::from_le_bytes(packet.read(4 + 4 * words)?);
        words += 1;
    }
    let mut at = 4 + 4 * words;
    if present & HAS_TIME != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    let padded = present & HAS_FLAGS != 0 && packet.read(at).is_some_and(|[f]| f & DATA_PAD != 0);
    Some(Inner { link: Some(LinkType::Wifi), offset: length, padded })
}

/// Returns the offset of the packet among the attributes, which are length, type and value, padded to 4
/// bytes. Numbers are in the byte order of the capturing machine. Types are small, which reveals it.
fn nflog(packet: &[u8]) -> Option<usize> {
    let mut at = NFLOG_LEN;
    for _ in 0..MAX_ATTRIBUTES {
        let [a, b, c, d] = packet.read(at)?;
        // The highest bit is a flag.
        let little = d.trailing_zeros() >= 7;
        let number = |bytes| match little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        };
        let (length, kind) = (usize::from(number([a, b])), number([c, d]) & 0x7fff);
        if length < 4 {
            return None;
        }
        if kind == NFULA_PAYLOAD {
            return Some(at + 4);
        }
        at += length.next_multiple_of(4);
    }
    None
}
