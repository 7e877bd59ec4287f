//! Each link type with the same packets behind its headers, read and filtered.

use pktvisor_common::packet::{IpVersion, Transport};
use pktvisor_common::time::Timestamp;
use pktvisord::decode::block::{LinkType, PacketRecord};
use pktvisord::decode::link::walk;
use pktvisord::input::file::FileOptions;
use proptest::prelude::*;

use super::support::{MICROSECONDS, Order, PcapWriter, read, udp_packet};

/// Returns a UDP packet from port 53 to port 9, over IPv4 and over IPv6.
fn packets() -> [(IpVersion, Vec<u8>); 2] {
    let ipv4 = udp_packet(9, b"payload");
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 15, 17, 64];
    for end in [1, 2] {
        ipv6.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
    }
    ipv6.extend(&ipv4[20..]);
    [(IpVersion::V4, ipv4), (IpVersion::V6, ipv6)]
}

/// Returns link-layer headers for an IP version, each with the number of its link type.
fn headers(version: IpVersion) -> Vec<(&'static str, u32, Vec<u8>)> {
    let (ethertype, ppp, nlpid, families): ([u8; 2], [u8; 2], u8, &[u8]) = match version {
        IpVersion::V4 => ([0x08, 0x00], [0x00, 0x21], 0xcc, &[2]),
        _ => ([0x86, 0xdd], [0x00, 0x57], 0x8e, &[10, 24, 28, 30]),
    };
    let snap = [&[0xaa, 0xaa, 0x03, 0, 0, 0][..], &ethertype].concat();
    let wifi = |control: [u8; 2], header: usize, qos: &[u8]| {
        let mut frame = vec![0x11; header];
        frame[..2].copy_from_slice(&control);
        [&frame, qos, &snap].concat()
    };
    let data = wifi([0x08, 0x01], 24, &[]);
    let qos = wifi([0x88, 0x02], 24, &[0, 0]);
    let radiotap = [0, 0, 18, 0, 0x0f, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2];
    let mut headers = vec![
        ("PPP", 9, [&[0xff, 0x03], &ppp[..]].concat()),
        ("PPP without address", 9, ppp.to_vec()),
        ("PPP with a short protocol", 9, vec![ppp[1]]),
        ("PPP with address and a short protocol", 9, vec![0xff, 0x03, ppp[1]]),
        ("PPP in HDLC", 50, [&[0xff, 0x03], &ppp[..]].concat()),
        ("Cisco HDLC as PPP", 50, [&[0x0f, 0x00], &ethertype[..]].concat()),
        ("PPPoE", 51, [&[0x11, 0, 0, 7, 0, 37], &ppp[..]].concat()),
        ("Cisco HDLC", 104, [&[0x8f, 0x00], &ethertype[..]].concat()),
        ("Frame Relay", 107, vec![0x18, 0x41, 0x03, nlpid]),
        ("802.11", 105, data.clone()),
        ("802.11 QoS", 105, qos.clone()),
        ("radiotap", 127, [&radiotap[..], &qos].concat()),
        ("radiotap without fields", 127, [&[0, 0, 8, 0, 0, 0, 0, 0][..], &data].concat()),
        ("AVS", 163, [&[0x80, 0x21, 0x10, 0x01, 0, 0, 0, 64], &[0; 56][..], &data].concat()),
        ("Prism", 119, [&[0x44, 0, 0, 0, 0x90, 0, 0, 0], &[0; 136][..], &data].concat()),
        ("AVS as Prism", 119, [&[0x80, 0x21, 0x10, 2, 0, 0, 0, 64], &[0; 56][..], &data].concat()),
        ("PPI", 192, [&[0, 0, 12, 0, 105, 0, 0, 0, 1, 2, 3, 4], &data[..]].concat()),
        ("ATM", 100, snap.clone()),
        ("analyzer", 240, [&[1; 16][..], &ethertype].concat()),
        ("pktap with Ethernet", 258, [&pktap(1)[..], &[1; 12], &ethertype].concat()),
        ("pktap with IP", 258, pktap(12)),
        ("NFLOG", 239, nflog(Order::Little)),
        ("NFLOG, big-endian", 239, nflog(Order::Big)),
    ];
    for &family in families {
        let pflog = [&[61, family], &[0; 62][..]].concat();
        headers.push(("PFLOG", 117, pflog));
        headers.push(("loopback", 0, vec![family, 0, 0, 0]));
        headers.push(("loopback in network order", 108, vec![0, 0, 0, family]));
        headers.push(("enc", 109, [&[family, 0, 0, 0], &[0; 8][..]].concat()));
    }
    headers
}

/// Returns headers that the reader supports, but that libpcap's filters do not look behind.
fn unfiltered(version: IpVersion) -> Vec<(&'static str, u32, Vec<u8>)> {
    let (ethertype, nlpid): ([u8; 2], u8) = match version {
        IpVersion::V4 => ([0x08, 0x00], 0xcc),
        _ => ([0x86, 0xdd], 0x8e),
    };
    let snap = [&[0xaa, 0xaa, 0x03, 0, 0, 0][..], &ethertype].concat();
    let four = [&[0x88, 0x03], &[0x11; 28][..], &[0, 0], &snap].concat();
    let several = [&[0x88, 0x01], &[0x11; 22][..], &[0x80, 0], &[2; 14], &snap].concat();
    let ordered = [&[0x88, 0x81], &[0x11; 22][..], &[0; 6], &snap].concat();
    // Radiotap with the flag for a padded header, after a second word of present fields.
    let radiotap = [0, 0, 17, 0, 2, 0, 0, 0x80, 0, 0, 0, 0, 0x20, 0, 0, 0, 0];
    let padded = [&radiotap[..], &[0x88, 1], &[0x11; 22], &[0; 2], &[0; 2], &snap].concat();
    vec![
        ("802.11 with four addresses", 105, four),
        ("802.11 with several frames in one", 105, several),
        ("802.11 with HT control", 105, ordered),
        ("radiotap with padding", 127, padded),
        ("Frame Relay with a long address", 107, vec![0x18, 0x40, 0x40, 0x41, 0x03, nlpid]),
        (
            "Frame Relay with SNAP",
            107,
            [&[0x18, 0x41, 3, 0, 0x80, 0, 0, 0][..], &ethertype].concat(),
        ),
        ("Frame Relay of Cisco", 107, [&[0x18, 0x41][..], &ethertype].concat()),
        (
            "ATM with a bridged frame",
            100,
            [&[0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 7, 0, 0], &[2; 12][..], &ethertype].concat(),
        ),
    ]
}

fn pktap(dlt: u16) -> Vec<u8> {
    let mut header = vec![0; 108];
    (header[0], header[4]) = (108, 1);
    header[8..10].copy_from_slice(&dlt.to_le_bytes());
    header
}

/// Returns an NFLOG header with a packet header, a prefix, and the start of the payload.
fn nflog(order: Order) -> Vec<u8> {
    let mut header = vec![2, 0, 0, 1];
    for (kind, value) in [(1, &[8, 0, 3, 0][..]), (10, b"prefix\0"), (9, &[])] {
        // The payload follows the header. 47 bytes cover both packets.
        let length = if kind == 9 { 4 + 47 } else { 4 + value.len() as u16 };
        header.extend(order.u16(length));
        header.extend(order.u16(kind));
        header.extend(value);
        header.resize(header.len().next_multiple_of(4), 0);
    }
    header
}

fn meta(link: u32, bytes: &[u8]) -> pktvisor_common::packet::PacketMeta {
    let length = bytes.len() as u32;
    let link = LinkType::from_number(link).unwrap();
    walk(
        &PacketRecord {
            time: Timestamp::EPOCH,
            offset: 0,
            captured: length,
            wire_len: length,
            link,
        },
        bytes,
    )
}

#[test]
fn finds_the_packet_behind_each_header() {
    for (version, ip) in packets() {
        for (name, link, header) in [headers(version), unfiltered(version)].concat() {
            let bytes = [&header[..], &ip].concat();
            let meta = meta(link, &bytes);
            assert_eq!((meta.version, meta.transport), (version, Transport::Udp), "{name}");
            assert_eq!((meta.src_port, meta.dst_port, meta.payload_len), (53, 9, 7), "{name}");
            assert_eq!(usize::from(meta.l3_offset), header.len(), "{name}");
        }
    }
}

#[test]
fn filters_match_behind_each_header() {
    for (version, ip) in packets() {
        for (name, link, header) in headers(version) {
            let bytes = [&header[..], &ip].concat();
            let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 4), link);
            writer.packet(1, 0, bytes.len() as u32, &bytes);
            let passed = |expression: &str| {
                let filter = Some(expression.to_owned());
                let options = FileOptions { filter, ..FileOptions::default() };
                let outcome = read(&writer.bytes, &options);
                assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
                outcome.packets.len()
            };
            let (of, not_of) = match version {
                IpVersion::V4 => ("ip", "ip6"),
                _ => ("ip6", "ip"),
            };
            assert_eq!(passed("udp dst port 9"), 1, "{name}");
            assert_eq!(passed("udp dst port 8"), 0, "{name}");
            assert_eq!((passed(of), passed(not_of)), (1, 0), "{name}");
        }
    }
}

#[test]
fn truncated_header_is_not_udp() {
    for (version, ip) in packets() {
        for (name, link, header) in [headers(version), unfiltered(version)].concat() {
            let bytes = [&header[..], &ip].concat();
            for length in 0..header.len() {
                assert_ne!(meta(link, &bytes[..length]).transport, Transport::Udp, "{name}");
            }
        }
    }
}

#[test]
fn frames_without_packet_are_not_ip() {
    let [(_, ip), _] = packets();
    let snap = [0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00];
    for (name, link, header) in [
        ("beacon", 105, [&[0x80, 0x00], &[0x11; 22][..], &snap].concat()),
        ("acknowledgement", 105, [&[0xd4, 0x00], &[0x11; 22][..], &snap].concat()),
        ("encrypted", 105, [&[0x08, 0x41], &[0x11; 22][..], &snap].concat()),
        ("without data", 105, [&[0x48, 0x01], &[0x11; 22][..], &snap].concat()),
        ("LCP", 9, vec![0xff, 0x03, 0xc0, 0x21]),
        ("PPPoE discovery", 51, vec![0x11, 0x09, 0, 0, 0, 40, 0, 0x21]),
        ("LMI", 107, vec![0xfc, 0xf1, 0x03, 0x09]),
        ("pktap with what is not read", 258, pktap(189)),
        ("pktap within pktap", 258, [pktap(258), pktap(12)].concat()),
    ] {
        let bytes = [&header[..], &ip].concat();
        let meta = meta(link, &bytes);
        assert_eq!((meta.version, meta.malformed), (IpVersion::None, false), "{name}");
    }
}

proptest! {
    /// No packet causes a panic, with or without a filter, for any link type.
    #[test]
    fn no_packet_panics(
        link in prop_oneof![
            Just(9), Just(50), Just(51), Just(100), Just(104), Just(105), Just(107), Just(109),
            Just(117), Just(119), Just(127), Just(163), Just(192), Just(239), Just(240), Just(258),
        ],
        mut bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(9), Just(105), any::<u8>()], 0..200),
        small in any::<bool>(),
    ) {
        if small {
            bytes.truncate(12);
        }
        meta(link, &bytes);
        let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 4), link);
        writer.packet(1, 0, bytes.len() as u32, &bytes);
        let filter = Some("udp port 53".to_owned());
        let outcome = read(&writer.bytes, &FileOptions { filter, ..FileOptions::default() });
        prop_assert!(outcome.error.is_none(), "{:?}", outcome.error);
    }
}
