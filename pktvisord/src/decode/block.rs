//! Blocks of captured packets.
//!
//! A [`Block`] holds bytes as they were read and a record of where each packet lies in them. So packets are
//! not copied or allocated one by one, and workers can share a block.

use crate::time::Timestamp;

/// The link-layer header of the packets in a capture (`LINKTYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet (1).
    Ethernet,
    /// Linux cooked capture (113).
    LinuxSll,
    /// Linux cooked capture v2 (276).
    LinuxSll2,
    /// IP without a link header (12, 101, 228, 229).
    RawIp,
    /// Ethernet with a 4-byte switch tag: Broadcom's tag after the addresses (`LINKTYPE_DSA_TAG_BRCM`,
    /// 281) or before them (`LINKTYPE_DSA_TAG_BRCM_PREPEND`, 282), or Marvell's tag after them
    /// (`LINKTYPE_DSA_TAG_DSA`, 283). The number selects one.
    SwitchTag(u16),
    /// BSD loopback: a 4-byte address family in either byte order (0 and 108).
    BsdLoopback,
    /// PPP, with or without its address and control bytes (9).
    Ppp,
    /// PPP in HDLC-like framing, or Cisco HDLC (50).
    PppHdlc,
    /// A PPPoE session without the Ethernet header (51).
    Pppoe,
    /// Cisco HDLC (104).
    CiscoHdlc,
    /// Frame Relay (107).
    FrameRelay,
    /// LLC, as over ATM (RFC 1483) (100).
    Llc,
    /// OpenBSD's `enc` interfaces, which show the traffic inside IPsec (109).
    Enc,
    /// OpenBSD's packet filter log (117).
    Pflog,
    /// Linux's packet filter log over netlink, NFLOG (239).
    Nflog,
    /// 802.11 (105).
    Wifi,
    /// 802.11 after a Prism header (119).
    WifiPrism,
    /// 802.11 after a radiotap header (127).
    WifiRadiotap,
    /// 802.11 after an AVS header (163).
    WifiAvs,
    /// Another link type after a header of per-packet information (192).
    Ppi,
    /// Ethernet after 4 bytes from a Hilscher analyzer (240).
    Netanalyzer,
    /// Another link type after the header of macOS's `pktap` interface (258).
    Pktap,
}

/// A packet of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketRecord {
    /// Capture time.
    pub time: Timestamp,
    /// Offset of the packet in the block's data.
    pub offset: u32,
    /// Bytes captured.
    pub captured: u32,
    /// Bytes on the wire; at least `captured`.
    pub wire_len: u32,
    /// Link-layer header that the packet starts with.
    pub link: LinkType,
}

/// Bytes that were read together, and the packets among them in capture order.
#[derive(Debug, Default)]
pub struct Block {
    /// The bytes.
    pub data: Vec<u8>,
    /// The packets.
    pub packets: Vec<PacketRecord>,
    /// The reader's marks on packet times, by packet index, ascending. Most blocks have none.
    pub marks: Vec<(u32, Mark)>,
    /// Indices of the packets that start a section of the capture, ascending.
    pub sections: Vec<u32>,
    /// Number of packets of unsupported link types before a packet, by packet index, ascending.
    pub unread: Vec<(u32, u32)>,
}

/// The reader's mark on the time of a packet of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Packet time goes back to that of this packet, and stays there.
    Back,
    /// The reader rejected the time of this packet and gave it the time of the packet before.
    Outlier,
}

impl Block {
    /// Removes the packets and their marks.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.marks.clear();
        self.sections.clear();
        self.unread.clear();
    }

    /// Records that a section starts with the next packet.
    pub fn start_section(&mut self) {
        let place = self.packets.len() as u32;
        if self.sections.last() != Some(&place) {
            self.sections.push(place);
        }
    }

    /// Records packets of an unsupported link type.
    pub fn skip_unread(&mut self, count: u32) {
        let place = self.packets.len() as u32;
        match self.unread.last_mut() {
            Some((last, sum)) if *last == place => *sum = sum.saturating_add(count),
            _ if count > 0 => self.unread.push((place, count)),
            _ => {}
        }
    }

    /// Returns the captured bytes of a packet of this block.
    pub fn packet(&self, record: &PacketRecord) -> &[u8] {
        &self.data[record.offset as usize..(record.offset + record.captured) as usize]
    }
}
