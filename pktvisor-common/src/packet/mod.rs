//! The walk over the headers of a packet, written once for the kernel and for user space.
//!
//! The walk is generic over [`PacketBytes`], so that an XDP program, a TC program and a byte
//! slice run the same code. It reads each header field once, has no loop without a constant
//! bound (the kernel's verifier must see its end) and never trusts a length field further than
//! the bytes that are there.
//!
//! [`link`] goes from a link header to IP, [`ip`] over IP and transport headers, and [`tunnel`]
//! tells IP tunnels and goes inside them.
//!
//! A frame can be shorter than its IP length: the capture cut it. The walk reads such a packet as
//! far as it goes and takes lengths from the IP header. Only a header that is itself cut short, or
//! lengths that contradict each other, make a packet malformed.

pub mod ip;
pub mod link;
pub mod tunnel;

pub use self::ip::{MAX_EXTENSION_HEADERS, walk_ip, walk_ip_into, walk_transport};
pub use self::link::{walk_ethernet, walk_ethernet_into, walk_l3, walk_l3_into};

/// Read access to the captured bytes of a packet.
pub trait PacketBytes {
    /// Link-layer wrappings (VLAN tags, MPLS labels, PPPoE and others) that the walk looks through
    /// in one packet: in effect any number. The kernel's verifier needs a smaller one.
    const WRAPPINGS: usize = 1_024;
    /// Whether only VLAN tags are looked through. The kernel programs read other wrappings in a
    /// second pass, so that the first one stays short.
    const VLAN_ONLY: bool = false;

    /// The `N` bytes at `offset`, or `None` where the packet ends before their end.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Returns `offset`. The kernel programs make the verifier forget its value here, so that the
    /// code behind is verified once and not for each way to it.
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
    /// Not IP: ARP, LLDP and all else.
    #[default]
    None,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The transport of a packet, as far as it is told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// No IP, a non-first fragment, malformed, or a protocol not listed here.
    #[default]
    Other,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
}

/// Whether a packet is an IP fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented (an IPv6 atomic fragment, RFC 6946, is not either).
    #[default]
    None,
    /// The fragment at offset 0; its transport header is readable.
    First,
    /// A fragment at another offset.
    Later,
}

/// What there is behind the headers that the walk has read. The kernel programs look again at
/// packets for which that is not a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behind {
    /// A payload.
    #[default]
    Payload,
    /// Not known: a header is cut short or contradicts itself, there is no IP, or the header that
    /// would make it a tunnel is not there.
    Unknown,
    /// Another packet: an IP tunnel.
    Tunnel,
}

/// What the walk found in the headers of one packet. All 0 is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PacketMeta {
    /// Source address in network order; an IPv4 address fills the first four bytes, the
    /// others are 0. All 0 where unknown.
    pub src: [u8; 16],
    /// Destination address, as `src`.
    pub dst: [u8; 16],
    /// TCP sequence number.
    pub tcp_seq: u32,
    /// TCP acknowledgement number; it means something only where [`TCP_ACK`] is set.
    pub tcp_ack: u32,
    /// Bytes of transport payload by the packet's own length fields. It can be more than was
    /// captured, and more than the frame holds where the capture shortened it.
    pub payload_len: u32,
    /// Source port, of TCP and UDP.
    pub src_port: u16,
    /// Destination port, of TCP and UDP.
    pub dst_port: u16,
    /// Bytes from the start of the packet to its IP header.
    pub l3_offset: u16,
    /// Bytes from the start of the packet to its transport payload.
    pub payload_offset: u16,
    /// Protocol number of what follows the IP header and its extensions.
    pub protocol: u8,
    /// TCP flags as in byte 13 of its header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub tcp_flags: u8,
    /// IP version.
    pub version: IpVersion,
    /// Transport.
    pub transport: Transport,
    /// Fragmentation.
    pub fragment: Fragment,
    /// A header is cut short or contradicts itself. `version` and addresses are as far as they
    /// could be read; `transport` is [`Transport::Other`].
    pub malformed: bool,
    /// The addresses were read. A header that is cut before them has none.
    pub addressed: bool,
    /// What there is behind the headers that were read.
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

    /// Whether the packet carries another one, see [`tunnel`].
    #[inline(always)]
    pub fn is_tunnel(&self) -> bool {
        matches!(self.behind, Behind::Tunnel)
    }
}
