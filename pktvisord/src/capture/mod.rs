//! Where packets come from.
//!
//! A source hands over [`Block`]s: octets as they were read and, beside them, where each packet
//! lies in them, so that packets are neither copied nor allocated one by one and a block can be
//! shared between workers.

pub mod ebpf;
pub mod file;
pub mod filter;
pub mod interface;
pub mod libpcap;
pub mod link;
pub mod netlink;
pub mod target;

/// The link-layer header that packets of a capture start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet (`LINKTYPE_ETHERNET`, 1).
    Ethernet,
    /// Linux cooked capture (`LINKTYPE_LINUX_SLL`, 113).
    LinuxSll,
    /// Linux cooked capture v2 (`LINKTYPE_LINUX_SLL2`, 276).
    LinuxSll2,
    /// IP without a link header (12, 101, 228, 229).
    RawIp,
    /// Ethernet with four octets of a switch: Broadcom's tag behind the addresses
    /// (`LINKTYPE_DSA_TAG_BRCM`, 281) or before them (`LINKTYPE_DSA_TAG_BRCM_PREPEND`, 282), or
    /// Marvell's behind them (`LINKTYPE_DSA_TAG_DSA`, 283). The number says which.
    SwitchTag(u16),
    /// BSD loopback: a 4-octet address family in either byte order (0 and 108).
    BsdLoopback,
}

/// One packet of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketRecord {
    /// Time of capture in nanoseconds of unix time.
    pub time: i64,
    /// Where the packet starts in the block's data.
    pub offset: u32,
    /// Octets captured.
    pub captured: u32,
    /// Octets on the wire; at least `captured`.
    pub wire_len: u32,
    /// The link-layer header it starts with.
    pub link: LinkType,
}

/// Octets that were read together and the packets among them, in the order of the capture.
#[derive(Debug, Default)]
pub struct Block {
    /// The octets.
    pub data: Vec<u8>,
    /// The packets.
    pub packets: Vec<PacketRecord>,
}

impl Block {
    /// The octets captured of a packet of this block.
    pub fn packet(&self, record: &PacketRecord) -> &[u8] {
        &self.data[record.offset as usize..(record.offset + record.captured) as usize]
    }
}
