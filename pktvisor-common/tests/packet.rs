//! Compares the header walk with `etherparse`, on packets that it builds and on mutations of them.

use etherparse::{
    EtherType, IpNumber, IpPayloadSlice, LaxSlicedPacket, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};
use pktvisor_common::packet::{
    Behind, Fragment, IpVersion, PacketMeta, Transport, walk_ethernet, walk_l3,
};
use proptest::prelude::*;

/// The parameters of a generated packet.
#[derive(Clone, Debug)]
struct Recipe {
    vlans: usize,
    ipv6: bool,
    options: usize,
    transport: u8,
    payload: Vec<u8>,
    ports: (u16, u16),
    addresses: ([u8; 16], [u8; 16]),
    flags: u8,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    (
        0..4usize,
        any::<bool>(),
        0..=10usize,
        0..4u8,
        prop::collection::vec(any::<u8>(), 0..200),
        any::<(u16, u16)>(),
        any::<([u8; 16], [u8; 16])>(),
        0..64u8,
    )
        .prop_map(|(vlans, ipv6, options, transport, payload, ports, addresses, flags)| {
            Recipe { vlans, ipv6, options, transport, payload, ports, addresses, flags }
        })
}

fn build(recipe: &Recipe) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let tags: &[u16] = match recipe.vlans {
        0 => &[],
        1 => &[0x8100],
        2 => &[0x88a8, 0x8100],
        _ => &[0x88a8, 0x9100, 0x8100],
    };
    for tag in tags {
        packet.extend(tag.to_be_bytes());
        packet.extend([0, 7]);
    }
    packet.extend(if recipe.ipv6 { [0x86, 0xdd] } else { [8, 0] });
    let (src, dst) = recipe.addresses;
    let v4 = |address: [u8; 16]| [address[0], address[1], address[2], address[3]];
    let builder = if recipe.ipv6 {
        PacketBuilder::ipv6(src, dst, 64)
    } else {
        let options = vec![1; recipe.options * 4];
        let mut header =
            etherparse::Ipv4Header::new(0, 64, IpNumber::UDP, v4(src), v4(dst)).unwrap();
        header.options = options.as_slice().try_into().unwrap();
        PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
            header,
            etherparse::Ipv4Extensions::default(),
        ))
    };
    let (src_port, dst_port) = recipe.ports;
    match recipe.transport {
        0 => builder.udp(src_port, dst_port).write(&mut packet, &recipe.payload).unwrap(),
        1 => {
            let mut header = etherparse::TcpHeader::new(src_port, dst_port, 0x0102_0304, 512);
            header.fin = recipe.flags & 1 != 0;
            header.syn = recipe.flags & 2 != 0;
            header.rst = recipe.flags & 4 != 0;
            header.ack = recipe.flags & 16 != 0;
            builder.tcp_header(header).write(&mut packet, &recipe.payload).unwrap();
        }
        2 if recipe.ipv6 => {
            builder.icmpv6_echo_request(1, 2).write(&mut packet, &recipe.payload).unwrap();
        }
        2 => builder.icmpv4_echo_request(1, 2).write(&mut packet, &recipe.payload).unwrap(),
        _ => builder.write(&mut packet, IpNumber::SCTP, &recipe.payload).unwrap(),
    }
    packet
}

/// Returns the etherparse result for a packet, as a result of the walk.
fn oracle(packet: &[u8]) -> Option<PacketMeta> {
    let sliced = SlicedPacket::from_ethernet(packet).ok()?;
    let mut meta = PacketMeta::default();
    let payload: &IpPayloadSlice<'_> = match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            meta.version = IpVersion::V4;
            meta.src[..4].copy_from_slice(&ip.header().source());
            meta.dst[..4].copy_from_slice(&ip.header().destination());
            ip.payload()
        }
        NetSlice::Ipv6(ip) => {
            meta.version = IpVersion::V6;
            meta.src = ip.header().source();
            meta.dst = ip.header().destination();
            ip.payload()
        }
        NetSlice::Arp(_) => return None,
    };
    let length = match sliced.transport.as_ref() {
        None | Some(TransportSlice::Igmp(_)) => payload.payload.len(),
        Some(TransportSlice::Udp(udp)) => {
            meta.transport = Transport::Udp;
            (meta.src_port, meta.dst_port) = (udp.source_port(), udp.destination_port());
            udp.payload().len()
        }
        Some(TransportSlice::Tcp(tcp)) => {
            meta.transport = Transport::Tcp;
            (meta.src_port, meta.dst_port) = (tcp.source_port(), tcp.destination_port());
            meta.tcp_seq = tcp.sequence_number();
            meta.tcp_flags = tcp.slice()[13];
            tcp.payload().len()
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => {
            meta.transport = Transport::Icmp;
            payload.payload.len()
        }
    };
    meta.payload_len = length as u32;
    Some(meta)
}

/// Keeps the fields that the oracle knows.
fn comparable(meta: &PacketMeta) -> PacketMeta {
    PacketMeta {
        l3_offset: 0,
        payload_offset: 0,
        protocol: 0,
        fragment: Fragment::None,
        addressed: false,
        behind: Behind::Payload,
        ..*meta
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_on_whole_packets(recipe in recipes()) {
        let packet = build(&recipe);
        let meta = walk_ethernet(packet.as_slice(), packet.len());
        prop_assert_eq!(comparable(&meta), oracle(&packet).unwrap());
    }

    /// A packet cut by the capture is malformed if and only if its headers are cut. Lengths are
    /// those of the IP header, even if the frame's length was shortened with the capture.
    #[test]
    fn agrees_on_cut_packets(recipe in recipes(), cut in any::<prop::sample::Index>()) {
        let packet = build(&recipe);
        let whole = walk_ethernet(packet.as_slice(), packet.len());
        let cut = cut.index(packet.len());
        let meta = walk_ethernet(&packet[..cut], packet.len());
        prop_assert_eq!(walk_ethernet(&packet[..cut], cut), meta);
        let headers = usize::from(whole.payload_offset);
        let transport = matches!(whole.transport, Transport::Tcp | Transport::Udp);
        if cut >= headers {
            prop_assert_eq!(meta, whole);
        } else if transport {
            prop_assert!(meta.malformed || meta.version == IpVersion::None);
            prop_assert_eq!(meta.transport, Transport::Other);
        }
    }

    /// For any bytes, the walk ends and stays within the IP length.
    #[test]
    fn walks_any_bytes(octets in prop::collection::vec(any::<u8>(), 0..300), kind in 0..3u8) {
        let meta = match kind {
            0 => walk_ethernet(octets.as_slice(), octets.len()),
            1 => walk_l3(octets.as_slice(), 0, 0x0800, octets.len()),
            _ => walk_l3(octets.as_slice(), 0, 0x86dd, octets.len()),
        };
        if !meta.malformed && meta.version != IpVersion::None {
            let end = usize::from(meta.payload_offset) + meta.payload_len as usize;
            let ip = usize::from(meta.l3_offset);
            let length = |at: usize| usize::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
            let own = match meta.version {
                IpVersion::V4 => length(ip + 2),
                _ => 40 + length(ip + 4),
            };
            prop_assert!(end <= octets.len().max(ip + own));
        }
        // The oracle's lax parser reads as much as it can: both results have the addresses, or
        // neither has.
        if kind == 1 && meta.version == IpVersion::V4 && !meta.malformed
            && let Ok(lax) = LaxSlicedPacket::from_ip(&octets)
            && let Some(etherparse::LaxNetSlice::Ipv4(ip)) = lax.net
        {
            prop_assert_eq!(&meta.src[..4], &ip.header().source()[..]);
        }
    }
}

fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((rest.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([1; 16]);
    packet.extend([2; 16]);
    packet.extend(rest);
    packet
}

#[test]
fn skips_extension_headers() {
    // Hop-by-hop, destination options, routing, then UDP.
    let mut rest = vec![60, 0, 0, 0, 0, 0, 0, 0];
    rest.extend([43, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    rest.extend([17, 0, 0, 0, 0, 0, 0, 0]);
    rest.extend([0, 53, 4, 0, 0, 10, 0, 0, 0xab, 0xcd]);
    let packet = ipv6(0, &rest);
    let meta = walk_l3(packet.as_slice(), 0, 0x86dd, packet.len());
    assert_eq!((meta.transport, meta.src_port, meta.payload_len), (Transport::Udp, 53, 2));
    assert_eq!(packet[usize::from(meta.payload_offset)], 0xab);
}

#[test]
fn distinguishes_first_and_later_fragments() {
    for (position, expected) in [
        ([0, 1], Fragment::First),
        ([0, 9], Fragment::Later),
        ([0, 8], Fragment::Later),
        ([0, 0], Fragment::None),
    ] {
        let mut rest = vec![17, 0, position[0], position[1], 0, 0, 0, 7];
        rest.extend([0, 53, 4, 0, 0, 200, 0, 0]);
        rest.extend([0; 192]);
        let packet = ipv6(44, &rest);
        let meta = walk_l3(packet.as_slice(), 0, 0x86dd, packet.len());
        assert_eq!(meta.fragment, expected, "{position:?}");
        let transport = if expected == Fragment::Later { Transport::Other } else { Transport::Udp };
        assert_eq!((meta.transport, meta.malformed), (transport, false), "{position:?}");
    }
}

#[test]
fn other_ethertypes_are_not_ip() {
    let ethertypes = [EtherType::ARP.0, 0x8863, 0x88cc, 100];
    for ethertype in ethertypes {
        let mut packet = vec![0; 12];
        packet.extend(ethertype.to_be_bytes());
        packet.extend([0x45; 60]);
        let meta = walk_ethernet(packet.as_slice(), packet.len());
        assert_eq!((meta.version, meta.malformed), (IpVersion::None, false));
    }
}

#[test]
fn contradictory_headers_are_malformed() {
    let good = build(&Recipe {
        vlans: 0,
        ipv6: false,
        options: 0,
        transport: 0,
        payload: vec![0; 20],
        ports: (1, 2),
        addresses: ([9; 16], [8; 16]),
        flags: 0,
    });
    assert!(!walk_ethernet(good.as_slice(), good.len()).malformed);
    for (at, value, what) in [
        (14, 0x65, "version 6 under the EtherType of IPv4"),
        (14, 0x44, "a header of 16 octets"),
        (17, 19, "a total length below the header's"),
        (39, 7, "a UDP length below its header's"),
        (39, 29, "a UDP length above the packet's"),
    ] {
        let mut packet = good.clone();
        packet[at] = value;
        let meta = walk_ethernet(packet.as_slice(), packet.len());
        assert!(meta.malformed, "{what}");
        assert_eq!(meta.transport, Transport::Other, "{what}");
    }
}
