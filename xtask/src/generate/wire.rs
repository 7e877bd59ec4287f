//! Builds Ethernet frames with valid lengths and checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IPv4 address of the host on which the packets are captured.
pub(super) const HOST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// IPv6 address of the same host.
pub(super) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// IPv4 address of the host's router.
pub(super) const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// IPv6 address of the host's router.
pub(super) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);

const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

/// Length of the shortest Ethernet frame in bytes, without the frame check sequence.
const SHORTEST_FRAME: usize = 60;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

/// Fields of a TCP header besides the ports.
pub(super) struct TcpHeader<'a> {
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// Sequence number of the next byte expected from the peer.
    pub acknowledgment: u32,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// Options; their length is a multiple of four bytes.
    pub options: &'a [u8],
}

/// Builds a UDP datagram.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    ip(from.ip(), to.ip(), PROTOCOL_UDP, 6, |frame| {
        frame.extend_from_slice(&from.port().to_be_bytes());
        frame.extend_from_slice(&to.port().to_be_bytes());
        frame.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        frame.extend_from_slice(&[0; 2]);
        frame.extend_from_slice(payload);
    })
}

/// Builds a TCP segment.
pub(super) fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    header: &TcpHeader<'_>,
    payload: &[u8],
) -> Vec<u8> {
    ip(from.ip(), to.ip(), PROTOCOL_TCP, 16, |frame| {
        frame.extend_from_slice(&from.port().to_be_bytes());
        frame.extend_from_slice(&to.port().to_be_bytes());
        frame.extend_from_slice(&header.sequence.to_be_bytes());
        frame.extend_from_slice(&header.acknowledgment.to_be_bytes());
        let words = 5 + header.options.len() as u8 / 4;
        // A window of 501, no urgent pointer, and the checksum still 0.
        frame.extend_from_slice(&[words << 4, header.flags, 0x01, 0xf5, 0, 0, 0, 0]);
        frame.extend_from_slice(header.options);
        frame.extend_from_slice(payload);
    })
}

/// Builds an ICMP or ICMPv6 echo request or reply with 56 bytes of payload.
pub(super) fn echo(from: IpAddr, to: IpAddr, request: bool, sequence: u16) -> Vec<u8> {
    let (protocol, kind) = match (from, request) {
        (IpAddr::V4(_), true) => (PROTOCOL_ICMP, 8),
        (IpAddr::V4(_), false) => (PROTOCOL_ICMP, 0),
        (IpAddr::V6(_), true) => (PROTOCOL_ICMPV6, 128),
        (IpAddr::V6(_), false) => (PROTOCOL_ICMPV6, 129),
    };
    ip(from, to, protocol, 2, |frame| {
        frame.extend_from_slice(&[kind, 0, 0, 0, 0x12, 0x34]);
        frame.extend_from_slice(&sequence.to_be_bytes());
        frame.extend((0..56u8).map(|byte| byte + 0x10));
    })
}

/// Builds the router's neighbour solicitation for the host, or the host's advertisement (RFC 4861).
pub(super) fn neighbour_discovery(solicitation: bool) -> Vec<u8> {
    let (from, to) = if solicitation { (ROUTER_V6, HOST_V6) } else { (HOST_V6, ROUTER_V6) };
    let mut frame = ip(from.into(), to.into(), PROTOCOL_ICMPV6, 2, |frame| {
        let (kind, flags, option, mac) =
            if solicitation { (135, 0, 1, ROUTER_MAC) } else { (136, 0x60, 2, HOST_MAC) };
        frame.extend_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
        frame.extend_from_slice(&HOST_V6.octets());
        frame.extend_from_slice(&[option, 1]);
        frame.extend_from_slice(&mac);
    });
    // Receivers require a hop limit of 255, which shows that no router has forwarded the packet.
    // Checksums do not cover the hop limit.
    frame[21] = 255;
    frame
}

/// Builds the router's ARP request for the host's hardware address, or the host's reply (RFC 826).
pub(super) fn arp(request: bool) -> Vec<u8> {
    let mut frame = ethernet(!request, 0x0806);
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, if request { 1 } else { 2 }]);
    let (from_mac, from, to_mac, to) = if request {
        (ROUTER_MAC, ROUTER_V4, [0; 6], HOST_V4)
    } else {
        (HOST_MAC, HOST_V4, ROUTER_MAC, ROUTER_V4)
    };
    frame.extend_from_slice(&from_mac);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to_mac);
    frame.extend_from_slice(&to.octets());
    padded(frame)
}

/// Builds an IP packet with the payload that `segment` appends. The payload's checksum is at offset
/// `checksum_at`.
fn ip(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    checksum_at: usize,
    segment: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let outbound = from == HOST_V4 || from == HOST_V6;
    let ttl = if outbound { 64 } else { 52 };
    let (mut frame, pseudo) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut frame = ethernet(outbound, 0x0800);
            // With "don't fragment" set, the identification may be zero (RFC 6864).
            frame.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, protocol, 0, 0]);
            frame.extend_from_slice(&from.octets());
            frame.extend_from_slice(&to.octets());
            // The checksum of ICMP for IPv4 covers no pseudo header.
            let pseudo = if protocol == PROTOCOL_ICMP { 0 } else { sum(&frame[26..34]) };
            (frame, pseudo)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut frame = ethernet(outbound, 0x86dd);
            frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, ttl]);
            frame.extend_from_slice(&from.octets());
            frame.extend_from_slice(&to.octets());
            let pseudo = sum(&frame[22..54]);
            (frame, pseudo)
        }
        (from, to) => unreachable!("{from} and {to} are not of one family"),
    };
    let start = frame.len();
    segment(&mut frame);
    let length = frame.len() - start;
    if from.is_ipv4() {
        frame[16..18].copy_from_slice(&(20 + length as u16).to_be_bytes());
        let checksum = !fold(sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        frame[18..20].copy_from_slice(&(length as u16).to_be_bytes());
    }

    let rest = if protocol == PROTOCOL_ICMP { 0 } else { u64::from(protocol) + length as u64 };
    let mut checksum = !fold(pseudo + rest + sum(&frame[start..]));
    if checksum == 0 && protocol == PROTOCOL_UDP {
        // Zero means that there is no checksum.
        checksum = 0xffff;
    }
    frame[start + checksum_at..][..2].copy_from_slice(&checksum.to_be_bytes());
    padded(frame)
}

/// Builds the header of an Ethernet frame from or to the host.
fn ethernet(outbound: bool, ethertype: u16) -> Vec<u8> {
    let (from, to) = if outbound { (HOST_MAC, ROUTER_MAC) } else { (ROUTER_MAC, HOST_MAC) };
    let mut frame = Vec::with_capacity(192);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

/// Pads a received frame to the shortest length. Frames that the host sends are captured before
/// padding.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    let outbound = frame[6..12] == HOST_MAC;
    if !outbound && frame.len() < SHORTEST_FRAME {
        frame.resize(SHORTEST_FRAME, 0);
    }
    frame
}

/// Returns the sum of `bytes` as big-endian 16-bit words (RFC 1071), not yet folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    // Adding a 32-bit word is equal to adding two 16-bit words, because carries are folded later.
    let words: u64 = words.iter().map(|&word| u64::from(u32::from_be_bytes(word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words + u64::from(u32::from_be_bytes(last))
}

/// Adds the carries of `sum` until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn computes_checksum_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
        assert_eq!(fold(sum(&[0x12])), 0x1200);
    }
}
