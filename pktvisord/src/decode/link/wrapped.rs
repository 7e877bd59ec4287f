//! Headers of capturing systems before a packet of another link type.

use pktvisor_common::packet::PacketBytes;

use super::LinkType;

/// Length of a Prism header.
const PRISM_LEN: usize = 144;
/// What an AVS header starts with: versions 1 and 2.
const AVS: [[u8; 4]; 2] = [[0x80, 0x21, 0x10, 0x01], [0x80, 0x21, 0x10, 0x02]];
/// Length of what a Hilscher analyzer writes before a frame.
const NETANALYZER_LEN: usize = 4;
/// Length of the header of NFLOG before its attributes, and the attribute that is the packet.
const NFLOG_LEN: usize = 4;
const NFULA_PAYLOAD: u16 = 9;
/// Attributes of NFLOG that are looked at; the kernel writes at most 24.
const MAX_ATTRIBUTES: usize = 64;
/// Radiotap: present fields time and flags, another word of present fields, padded 802.11 headers.
const HAS_TIME: u32 = 1;
const HAS_FLAGS: u32 = 2;
const HAS_MORE: u32 = 1 << 31;
const DATA_PAD: u8 = 0x20;
/// Words of present fields that are looked at.
const MAX_PRESENT: usize = 32;

/// What a packet carries.
pub(super) struct Inner {
    /// Its link type; `None` where that is not read.
    pub(super) link: Option<LinkType>,
    /// Where it starts.
    pub(super) offset: usize,
    /// Whether an 802.11 header is padded to a multiple of 4 bytes.
    pub(super) padded: bool,
}

impl LinkType {
    /// Whether packets carry those of another link type.
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

    /// The link type of a number of the system that captured (`DLT_*`).
    fn from_dlt(number: u32) -> Option<Self> {
        match number {
            // OpenBSD has another number for raw IP.
            14 => Some(Self::RawIp),
            number => Self::from_number(number).ok(),
        }
    }
}

/// What `packet` carries behind the header of `link`; `None` where it ends inside of that, and of
/// link types that carry no other.
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

/// The header of radiotap.org: version, padding, length, words of present fields, fields, each
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

/// Where the packet is among the attributes: length, type and value, padded to 4 bytes. Numbers
/// stand in the byte order of the machine that captured; types are small, so it shows.
fn nflog(packet: &[u8]) -> Option<usize> {
    let mut at = NFLOG_LEN;
    for _ in 0..MAX_ATTRIBUTES {
        let [a, b, c, d] = packet.read(at)?;
        // The upper bit is a flag.
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
