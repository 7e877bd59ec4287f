//! The walk over headers, compared with `etherparse`.

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use pktvisor_common::classify::{PortBits, enter_tunnels};
use pktvisor_common::packet::{
    Behind, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Fragment, IpVersion, PacketMeta, Transport,
    walk_ethernet, walk_l3,
};

/// Walks the input from its link header or its IP header on.
pub fn run(data: &[u8]) {
    let [kind, cut, packet @ ..] = data else { return };
    let walk: fn(&[u8], usize) -> PacketMeta = match kind % 3 {
        0 => |packet, wire_len| walk_ethernet(packet, wire_len),
        1 => |packet, wire_len| walk_l3(packet, 0, ETHERTYPE_IPV4, wire_len),
        _ => |packet, wire_len| walk_l3(packet, 0, ETHERTYPE_IPV6, wire_len),
    };
    let meta = walk(packet, packet.len());
    check(&meta, packet);
    check(&enter_tunnels(&NO_PORTS, packet, packet.len(), meta), packet);

    // On a truncated packet, the walk finds the same or reports that it cannot. It recognizes a
    // tunnel, or IP behind LLC, only if the bytes that show it were captured.
    let captured = &packet[..packet.len().saturating_sub((*cut).into())];
    let part = walk(captured, packet.len());
    check(&part, packet);
    enter_tunnels(&NO_PORTS, captured, packet.len(), part);
    let same = |meta: PacketMeta| PacketMeta { behind: Behind::Payload, ..meta };
    assert!(
        part.malformed || part.version == IpVersion::None || same(part) == same(meta),
        "{meta:?} of the whole packet, {part:?} of a part"
    );

    let sliced = match kind % 3 {
        0 => SlicedPacket::from_ethernet(packet),
        _ => SlicedPacket::from_ip(packet),
    };
    if let Ok(sliced) = sliced {
        compare(&meta, packet, &sliced);
    }
}

/// No DNS ports, so that the walk enters every tunnel.
static NO_PORTS: PortBits = [0; 1024];

fn check(meta: &PacketMeta, packet: &[u8]) {
    if meta.malformed {
        assert_eq!(meta.transport, Transport::Other);
    } else if meta.version != IpVersion::None && packet.len() < 1 << 15 {
        assert!(meta.addressed && meta.l3_offset < meta.payload_offset);
        let ip = usize::from(meta.l3_offset);
        let length = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let own = match meta.version {
            IpVersion::V4 => length(ip + 2),
            _ => 40 + length(ip + 4),
        };
        let end = usize::from(meta.payload_offset) + meta.payload_len as usize;
        assert!(end <= packet.len().max(ip + own));
    }
}

/// Compares the results of the walk and of `etherparse` on a complete packet.
fn compare(meta: &PacketMeta, packet: &[u8], sliced: &SlicedPacket<'_>) {
    // The walk does not treat MACsec (IEEE 802.1AE) as IP, because it is nearly always encrypted.
    let macsec = sliced.link_exts.iter().any(|ext| matches!(ext, LinkExtSlice::Macsec(_)));
    if macsec || meta.malformed {
        return;
    }
    let (src, dst) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            assert_eq!(meta.version, IpVersion::V4);
            (ip.header().source().to_vec(), ip.header().destination().to_vec())
        }
        Some(NetSlice::Ipv6(ip)) => {
            assert_eq!(meta.version, IpVersion::V6);
            (ip.header().source().to_vec(), ip.header().destination().to_vec())
        }
        _ => return,
    };
    assert!(meta.src.starts_with(&src) && meta.dst.starts_with(&dst));
    // The walk stops at the seventh extension header; `etherparse` continues.
    if matches!(meta.protocol, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        assert_eq!(meta.transport, Transport::Other);
        return;
    }
    if sliced.is_ip_payload_fragmented() {
        assert_ne!(meta.fragment, Fragment::None);
        return;
    }
    let payload = || {
        let start = usize::from(meta.payload_offset);
        &packet[start..start + meta.payload_len as usize]
    };
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(meta.transport, Transport::Udp);
            let ports = (udp.source_port(), udp.destination_port());
            assert_eq!((meta.src_port, meta.dst_port), ports);
            assert_eq!(payload(), udp.payload());
        }
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(meta.transport, Transport::Tcp);
            let ports = (tcp.source_port(), tcp.destination_port());
            assert_eq!((meta.src_port, meta.dst_port), ports);
            assert_eq!(meta.tcp_seq, tcp.sequence_number());
            assert_eq!(meta.tcp_flags, tcp.slice()[13]);
            assert_eq!(payload(), tcp.payload());
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => {
            assert_eq!(meta.transport, Transport::Icmp);
        }
        Some(TransportSlice::Igmp(_)) => assert_eq!(meta.transport, Transport::Other),
        None => {}
    }
}
