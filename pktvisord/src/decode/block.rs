//! Packets as they were read.
//!
//! A [`Block`] holds bytes as they were read and, beside them, where each packet lies in them, so that
//! packets are neither copied nor allocated one by one and a block can be shared between workers.

/// The link-layer header that packets of a capture start with (`LINKTYPE_*`).
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
    /// Ethernet with four bytes of a switch: Broadcom's tag behind the addresses
    /// (`LINKTYPE_DSA_TAG_BRCM`, 281) or before them (`LINKTYPE_DSA_TAG_BRCM_PREPEND`, 282), or
    /// Marvell's behind them (`LINKTYPE_DSA_TAG_DSA`, 283). The number says which.
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
    /// OpenBSD's `enc` interfaces, which show what IPsec carries (109).
    Enc,
    /// OpenBSD's log of its packet filter (117).
    Pflog,
    /// Linux' log of its packet filter, by netlink (239).
    Nflog,
    /// 802.11 (105).
    Wifi,
    /// 802.11 behind a Prism header (119).
    WifiPrism,
    /// 802.11 behind a radiotap header (127).
    WifiRadiotap,
    /// 802.11 behind an AVS header (163).
    WifiAvs,
    /// Another link type behind a header of per-packet information (192).
    Ppi,
    /// Ethernet behind 4 bytes of a Hilscher analyzer (240).
    Netanalyzer,
    /// Another link type behind the header of macOS' `pktap` interface (258).
    Pktap,
}

/// One packet of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketRecord {
    /// Time of capture in nanoseconds of unix time.
    pub time: i64,
    /// Where the packet starts in the block's data.
    pub offset: u32,
    /// Bytes captured.
    pub captured: u32,
    /// Bytes on the wire; at least `captured`.
    pub wire_len: u32,
    /// The link-layer header it starts with.
    pub link: LinkType,
}

/// Bytes that were read together and the packets among them, in the order of the capture.
#[derive(Debug, Default)]
pub struct Block {
    /// The bytes.
    pub data: Vec<u8>,
    /// The packets.
    pub packets: Vec<PacketRecord>,
    /// What the reader says of the times of packets, by their place, ascending. Most blocks have
    /// none.
    pub marks: Vec<(u32, Mark)>,
    /// The places of packets that a section of the capture starts with, ascending.
    pub sections: Vec<u32>,
    /// How many packets of a link type that is not read stand before the packet of a place; places
    /// ascend.
    pub unread: Vec<(u32, u32)>,
}

/// What the reader says of the time of a packet of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Packet time goes back to that of this packet, and stays there.
    Back,
    /// The time of this packet was not believed. It has that of the packet before it.
    Outlier,
}

impl Block {
    /// Forgets the packets, and what was said of them.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.marks.clear();
        self.sections.clear();
        self.unread.clear();
    }

    /// Notes that a section starts with the next packet.
    pub fn start_section(&mut self) {
        let place = self.packets.len() as u32;
        if self.sections.last() != Some(&place) {
            self.sections.push(place);
        }
    }

    /// Notes packets of a link type that is not read.
    pub fn skip_unread(&mut self, count: u32) {
        let place = self.packets.len() as u32;
        match self.unread.last_mut() {
            Some((last, sum)) if *last == place => *sum = sum.saturating_add(count),
            _ if count > 0 => self.unread.push((place, count)),
            _ => {}
        }
    }

    /// The bytes captured of a packet of this block.
    pub fn packet(&self, record: &PacketRecord) -> &[u8] {
        &self.data[record.offset as usize..(record.offset + record.captured) as usize]
    }
}
