//! Walks the headers of a packet, with the same code in the kernel and in user space.
//!
//! The walk is generic over [`PacketBytes`], so that an XDP program, a TC program and a byte slice
//! run the same code. It reads each header field once. Each loop has a constant bound, because the
//! kernel's verifier must see its end. The walk never trusts a length field beyond the available
//! bytes.
//!
//! [`link`] walks from a link header to IP, [`ip`] over IP and transport headers, and [`tunnel`]
//! recognizes IP tunnels and enters them.
//!
//! A frame can be shorter than its IP length if the capture cut it. The walk reads such a packet as
//! far as it goes and takes lengths from the IP header. A packet is malformed only if a header
//! itself is cut short or lengths contradict each other.

pub mod ip;
pub mod link;
pub mod tunnel;

pub use self::ip::{MAX_EXTENSION_HEADERS, walk_ip, walk_ip_into, walk_transport};
pub use self::link::{walk_ethernet, walk_ethernet_into, walk_l3, walk_l3_into};

/// Read access to the captured bytes of a packet.
pub trait PacketBytes {
    /// Maximum link-layer wrappings (VLAN tags, MPLS labels, PPPoE and others) that the walk looks
    /// through in one packet: practically unlimited. The kernel's verifier needs a smaller number.
    const WRAPPINGS: usize = 1_024;
    /// True to look through VLAN tags only. The kernel programs read other wrappings in a second
    /// pass, so that the first one stays short.
    const VLAN_ONLY: bool = false;

    /// Returns the `N` bytes at `offset`, or `None` if the packet ends before their end.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Returns `offset`. The kernel programs make the verifier forget its value here, so that it
    /// verifies the following code once and not once for each path to it.
    #[inline(always)]
    fn merge_paths(&self, offset: usize) -> usize {
        offset
    }
}

impl PacketBytes for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk::<N>().copied()
    }
}

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an Ethernet frame inside a tunnel (Transparent Ethernet Bridging).
pub const ETHERTYPE_ETHERNET: u16 = 0x6558;

/// Protocol number of TCP (IANA, Assigned Internet Protocol Numbers).
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// The IP version of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// Not IP: ARP, LLDP and others.
    #[default]
    None,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The transport protocol of a packet, as far as the walk distinguishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Not IP, a non-first fragment, malformed, or any other protocol.
    #[default]
    Other,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
}

/// The fragmentation of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented. An IPv6 atomic fragment (RFC 6946) counts as not fragmented.
    #[default]
    None,
    /// The fragment at offset 0. Its transport header is readable.
    First,
    /// A fragment at another offset.
    Later,
}

/// The data after the headers that the walk has read. The kernel programs take a second look at
/// packets in which this is not a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behind {
    /// A payload.
    #[default]
    Payload,
    /// Unknown: a header is cut short or contradicts itself, the packet is not IP, or the header
    /// that would make it a tunnel packet is missing.
    Unknown,
    /// Another packet, in an IP tunnel.
    Tunnel,
}

/// The result of the walk over the headers of one packet. All fields are 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PacketMeta {
    /// Source address in network byte order. An IPv4 address fills the first four bytes, and the
    /// others are 0. All 0 if unknown.
    pub src: [u8; 16],
    /// Destination address, like `src`.
    pub dst: [u8; 16],
    /// TCP sequence number.
    pub tcp_seq: u32,
    /// TCP acknowledgement number, valid only if [`TCP_ACK`] is set.
    pub tcp_ack: u32,
    /// Bytes of transport payload according to the packet's own length fields. This can be more
    /// than was captured, and more than the frame holds if the capture shortened it.
    pub payload_len: u32,
    /// Source port of TCP and UDP.
    pub src_port: u16,
    /// Destination port of TCP and UDP.
    pub dst_port: u16,
    /// Bytes from the start of the packet to its IP header.
    pub l3_offset: u16,
    /// Bytes from the start of the packet to its transport payload.
    pub payload_offset: u16,
    /// Protocol number of the data that follows the IP header and its extensions.
    pub protocol: u8,
    /// TCP flags as in byte 13 of the TCP header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub tcp_flags: u8,
    /// IP version.
    pub version: IpVersion,
    /// Transport.
    pub transport: Transport,
    /// Fragmentation.
    pub fragment: Fragment,
    /// True if a header is cut short or contradicts itself. `version` and addresses are then set as
    /// far as they could be read, and `transport` is [`Transport::Other`].
    pub malformed: bool,
    /// True if the addresses were read: false if the IP header is cut before them.
    pub addressed: bool,
    /// The data after the headers that were read.
    pub behind: Behind,
}

/// TCP flag FIN.
pub const TCP_FIN: u8 = 1;
/// TCP flag SYN.
pub const TCP_SYN: u8 = 2;
/// TCP flag RST.
pub const TCP_RST: u8 = 4;
/// TCP flag ACK.
pub const TCP_ACK: u8 = 16;

impl PacketMeta {
    #[inline(always)]
    fn set_malformed(&mut self) {
        self.malformed = true;
        self.behind = Behind::Unknown;
        self.transport = Transport::Other;
    }

    /// Returns true if the packet carries another one, see [`tunnel`].
    #[inline(always)]
    pub fn is_tunnel(&self) -> bool {
        matches!(self.behind, Behind::Tunnel)
    }
}
