//! The walk over the headers of a packet, written once for the kernel and for user space.
//!
//! The walk is generic over [`PacketBytes`], so that an XDP program, a TC program and a byte
//! slice run the same code. It reads each header field once, has no loop without a constant
//! bound (the kernel's verifier must see its end) and never trusts a length field further than
//! the octets that are there.
//!
//! Sources: IEEE 802.1Q and 802.1ad (VLAN tags), RFC 791 (IPv4), RFC 8200 (IPv6 and its
//! extension headers), RFC 4302 (authentication header), RFC 768 (UDP), RFC 9293 (TCP).

/// Read access to the captured octets of a packet.
pub trait PacketBytes {
    /// The `N` octets at `offset`, or `None` where the packet ends before their end.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
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

/// Protocol number of TCP (IANA, Assigned Internet Protocol Numbers).
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// VLAN tags the walk steps over; a third one makes the packet [`IpVersion::None`].
pub const MAX_VLAN_TAGS: usize = 2;
/// IPv6 extension headers (and IPv4 authentication headers) the walk steps over; what lies
/// behind more of them counts as [`Transport::Other`].
pub const MAX_EXTENSION_HEADERS: usize = 6;

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

/// What the walk found in the headers of one packet. All 0 is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PacketMeta {
    /// Source address in network order; an IPv4 address fills the first four octets, the
    /// others are 0. All 0 where unknown.
    pub src: [u8; 16],
    /// Destination address, as `src`.
    pub dst: [u8; 16],
    /// TCP sequence number.
    pub tcp_seq: u32,
    /// TCP acknowledgement number; it means something only where [`TCP_ACK`] is set.
    pub tcp_ack: u32,
    /// Octets of transport payload by the packet's own length fields, at most what was on the
    /// wire. It can be more than was captured.
    pub payload_len: u32,
    /// Source port, of TCP and UDP.
    pub src_port: u16,
    /// Destination port, of TCP and UDP.
    pub dst_port: u16,
    /// Octets from the start of the packet to its IP header.
    pub l3_offset: u16,
    /// Octets from the start of the packet to its transport payload.
    pub payload_offset: u16,
    /// Protocol number of what follows the IP header and its extensions.
    pub protocol: u8,
    /// TCP flags as in octet 13 of its header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
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
        self.transport = Transport::Other;
    }
}

/// Walks a packet that starts with an Ethernet header.
///
/// `wire_len` is the packet's length on the wire; it can be above what `bytes` holds.
#[inline(always)]
pub fn walk_ethernet<B: PacketBytes + ?Sized>(bytes: &B, wire_len: usize) -> PacketMeta {
    let mut meta = PacketMeta::default();
    walk_ethernet_into(bytes, wire_len, &mut meta);
    meta
}

/// [`walk_ethernet`] into a fresh [`PacketMeta`], which need not lie on the kernel's small stack.
#[inline(always)]
pub fn walk_ethernet_into<B: PacketBytes + ?Sized>(
    bytes: &B,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    match bytes.read::<2>(12) {
        Some(ethertype) => walk_l3_into(bytes, 14, u16::from_be_bytes(ethertype), wire_len, meta),
        None => meta.set_malformed(),
    }
}

/// Walks a packet that starts with an IP header, of either version.
#[inline(always)]
pub fn walk_ip<B: PacketBytes + ?Sized>(bytes: &B, wire_len: usize) -> PacketMeta {
    let mut meta = PacketMeta::default();
    walk_ip_into(bytes, wire_len, &mut meta);
    meta
}

/// [`walk_ip`] into a fresh [`PacketMeta`], which need not lie on the kernel's small stack.
#[inline(always)]
pub fn walk_ip_into<B: PacketBytes + ?Sized>(bytes: &B, wire_len: usize, meta: &mut PacketMeta) {
    match bytes.read::<1>(0) {
        Some([first]) if first >> 4 == 4 => walk_ipv4(bytes, 0, wire_len, meta),
        Some([first]) if first >> 4 == 6 => walk_ipv6(bytes, 0, wire_len, meta),
        Some(_) => {}
        None => meta.set_malformed(),
    }
}

/// Walks a packet from behind its link header: VLAN tags, then IP.
///
/// `ethertype` is the link header's protocol and `offset` where its payload starts.
#[inline(always)]
pub fn walk_l3<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    ethertype: u16,
    wire_len: usize,
) -> PacketMeta {
    let mut meta = PacketMeta::default();
    walk_l3_into(bytes, offset, ethertype, wire_len, &mut meta);
    meta
}

/// [`walk_l3`] into a fresh [`PacketMeta`], which need not lie on the kernel's small stack.
#[inline(always)]
pub fn walk_l3_into<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut offset: usize,
    mut ethertype: u16,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    for _ in 0..MAX_VLAN_TAGS {
        // 802.1Q, 802.1ad and the older QinQ type.
        if !matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
            break;
        }
        let Some([_, _, high, low]) = bytes.read::<4>(offset) else {
            return meta.set_malformed();
        };
        ethertype = u16::from_be_bytes([high, low]);
        offset += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 => walk_ipv4(bytes, offset, wire_len, meta),
        ETHERTYPE_IPV6 => walk_ipv6(bytes, offset, wire_len, meta),
        _ => meta.l3_offset = offset as u16,
    }
}

#[inline(always)]
fn walk_ipv4<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    meta.l3_offset = offset as u16;
    meta.version = IpVersion::V4;
    let Some(header) = bytes.read::<20>(offset) else {
        return meta.set_malformed();
    };
    if header[0] >> 4 != 4 {
        return meta.set_malformed();
    }
    meta.src[..4].copy_from_slice(&header[12..16]);
    meta.dst[..4].copy_from_slice(&header[16..20]);
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // A total length of 0 stands in packets over 64 KiB that were recorded before segmentation.
    let end = ip_end(offset, if total_len == 0 { usize::MAX } else { total_len }, wire_len);
    if header_len < 20 || offset + header_len > end {
        return meta.set_malformed();
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    meta.fragment = match (fragment & 0x1fff, fragment & 0x2000) {
        (0, 0) => Fragment::None,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    walk_next_header(bytes, header[9], offset + header_len, end, meta);
}

#[inline(always)]
fn walk_ipv6<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    wire_len: usize,
    meta: &mut PacketMeta,
) {
    meta.l3_offset = offset as u16;
    meta.version = IpVersion::V6;
    // The addresses by themselves: in the kernel they are moved as words then.
    let (Some(header), Some(src), Some(dst)) =
        (bytes.read::<8>(offset), bytes.read::<16>(offset + 8), bytes.read::<16>(offset + 24))
    else {
        return meta.set_malformed();
    };
    if header[0] >> 4 != 6 {
        return meta.set_malformed();
    }
    meta.src = src;
    meta.dst = dst;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let length = if payload_len == 0 && header[6] != 59 { usize::MAX } else { 40 + payload_len };
    let end = ip_end(offset, length, wire_len);
    walk_next_header(bytes, header[6], offset + 40, end, meta);
}

/// Where an IP packet that starts at `offset` ends: by its own length, but not behind the wire.
#[inline(always)]
fn ip_end(offset: usize, length: usize, wire_len: usize) -> usize {
    let end = offset.saturating_add(length);
    if end < wire_len { end } else { wire_len }
}

#[inline(always)]
fn walk_next_header<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut protocol: u8,
    mut offset: usize,
    end: usize,
    meta: &mut PacketMeta,
) {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if matches!(meta.fragment, Fragment::Later) {
            break;
        }
        let ipv6 = matches!(meta.version, IpVersion::V6);
        // Hop-by-hop options, routing, fragment, authentication, destination options,
        // mobility, HIP, Shim6: the IPv6 extension header types of IANA that have a length.
        let extension = matches!(protocol, 51)
            || ipv6 && matches!(protocol, 0 | 43 | 44 | 60 | 135 | 139 | 140);
        if !extension {
            break;
        }
        let Some(header) = bytes.read::<4>(offset) else {
            return meta.set_malformed();
        };
        offset += match protocol {
            44 => {
                let position = u16::from_be_bytes([header[2], header[3]]);
                meta.fragment = match (position & 0xfff8, position & 1) {
                    (0, 0) => meta.fragment,
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
                8
            }
            51 => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        protocol = header[0];
        if offset > end {
            return meta.set_malformed();
        }
    }
    meta.protocol = protocol;
    walk_transport_into(bytes, offset, end, meta);
}

/// Walks the transport header at `offset` of an IP packet that ends at `end`.
///
/// `meta` brings the protocol and what is known of the IP header. A reassembled datagram, which
/// has no IP header before it any more, is walked from here with offset 0.
#[inline(always)]
pub fn walk_transport<B: PacketBytes + ?Sized>(
    bytes: &B,
    mut meta: PacketMeta,
    offset: usize,
    end: usize,
) -> PacketMeta {
    walk_transport_into(bytes, offset, end, &mut meta);
    meta
}

#[inline(always)]
fn walk_transport_into<B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: usize,
    end: usize,
    meta: &mut PacketMeta,
) {
    meta.payload_offset = offset as u16;
    meta.payload_len = (end - offset) as u32;
    if matches!(meta.fragment, Fragment::Later) {
        return;
    }
    match meta.protocol {
        PROTOCOL_TCP => walk_tcp(bytes, offset, end, meta),
        PROTOCOL_UDP => walk_udp(bytes, offset, end, meta),
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => meta.transport = Transport::Icmp,
        _ => {}
    }
}

#[inline(always)]
fn walk_udp<B: PacketBytes + ?Sized>(bytes: &B, offset: usize, end: usize, meta: &mut PacketMeta) {
    if offset + 8 > end {
        return meta.set_malformed();
    }
    let Some(header) = bytes.read::<8>(offset) else {
        return meta.set_malformed();
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // A length of 0 stands in UDP super-packets and jumbograms (RFC 2675): up to the end then.
    let datagram_end = if length == 0 { end } else { offset + length };
    let first = matches!(meta.fragment, Fragment::First);
    if length != 0 && length < 8 || datagram_end > end && !first {
        return meta.set_malformed();
    }
    meta.transport = Transport::Udp;
    meta.src_port = u16::from_be_bytes([header[0], header[1]]);
    meta.dst_port = u16::from_be_bytes([header[2], header[3]]);
    meta.payload_offset = (offset + 8) as u16;
    let payload_end = if datagram_end < end { datagram_end } else { end };
    meta.payload_len = (payload_end - offset - 8) as u32;
}

#[inline(always)]
fn walk_tcp<B: PacketBytes + ?Sized>(bytes: &B, offset: usize, end: usize, meta: &mut PacketMeta) {
    let Some(header) = bytes.read::<20>(offset) else {
        return meta.set_malformed();
    };
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || offset + header_len > end {
        return meta.set_malformed();
    }
    meta.transport = Transport::Tcp;
    meta.src_port = u16::from_be_bytes([header[0], header[1]]);
    meta.dst_port = u16::from_be_bytes([header[2], header[3]]);
    meta.tcp_seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    meta.tcp_ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    meta.tcp_flags = header[13];
    meta.payload_offset = (offset + header_len) as u16;
    meta.payload_len = (end - offset - header_len) as u32;
}
