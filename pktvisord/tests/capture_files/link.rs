//! The walk over link-layer headers.

use pktvisor_common::packet::{IpVersion, Transport};
use pktvisor_common::time::Timestamp;
use pktvisord::decode::block::{LinkType, PacketRecord};
use pktvisord::decode::link::{network_layer, walk};
use proptest::prelude::*;

use super::support::{udp_frame, udp_packet};

const LINKS: [LinkType; 5] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::RawIp,
    LinkType::BsdLoopback,
];

fn record(link: LinkType, bytes: &[u8]) -> PacketRecord {
    let length = bytes.len() as u32;
    PacketRecord { time: Timestamp::EPOCH, offset: 0, captured: length, wire_len: length, link }
}

/// Returns the same IP packet behind each link header, with the length of the header.
fn behind_each_header(
    ethertype: [u8; 2],
    family: u8,
    ip: &[u8],
) -> Vec<(LinkType, Vec<u8>, usize)> {
    let mut packets = vec![(LinkType::RawIp, ip.to_vec(), 0)];
    let mut put = |link, header: &[u8]| {
        packets.push((link, [header, ip].concat(), header.len()));
    };
    put(LinkType::Ethernet, &[&[1; 12], ethertype.as_slice()].concat());
    put(LinkType::LinuxSll, &[&[0; 14], ethertype.as_slice()].concat());
    put(LinkType::LinuxSll2, &[ethertype.as_slice(), &[0; 18]].concat());
    put(LinkType::BsdLoopback, &[0, 0, 0, family]);
    put(LinkType::BsdLoopback, &[family, 0, 0, 0]);
    packets
}

#[test]
fn finds_the_same_packet_behind_each_header() {
    let ip = udp_packet(4_242, b"payload");
    for (link, bytes, header) in behind_each_header([8, 0], 2, &ip) {
        assert_eq!(network_layer(link, &bytes), Some((0x0800, header)), "{link:?}");
        let meta = walk(&record(link, &bytes), &bytes);
        assert_eq!((meta.version, meta.transport), (IpVersion::V4, Transport::Udp), "{link:?}");
        assert_eq!((meta.src_port, meta.dst_port), (53, 4_242));
        assert_eq!(usize::from(meta.l3_offset), header);
        assert_eq!(usize::from(meta.payload_offset), header + 28);
        assert_eq!(meta.payload_len, 7);
    }
    let mut ip = vec![0; 48];
    ip[0] = 0x60;
    ip[5] = 8;
    ip[6] = 17;
    ip[45] = 8;
    for family in [10, 24, 28, 30] {
        for (link, bytes, header) in behind_each_header([0x86, 0xdd], family, &ip) {
            assert_eq!(network_layer(link, &bytes), Some((0x86dd, header)), "{link:?}");
            let meta = walk(&record(link, &bytes), &bytes);
            assert_eq!((meta.version, meta.transport), (IpVersion::V6, Transport::Udp), "{link:?}");
        }
    }
}

#[test]
fn truncated_header_is_malformed() {
    let ip = udp_packet(1, b"");
    for (link, bytes, header) in behind_each_header([8, 0], 2, &ip) {
        for length in 0..header {
            assert!(walk(&record(link, &bytes[..length]), &bytes[..length]).malformed, "{link:?}");
            if link != LinkType::Ethernet {
                assert_eq!(network_layer(link, &bytes[..length]), None, "{link:?} {length}");
            }
        }
    }
    assert_eq!(network_layer(LinkType::RawIp, &[]), None);
    assert_eq!(network_layer(LinkType::Ethernet, &[0; 13]), None);
}

#[test]
fn recognizes_packets_that_are_not_ip() {
    assert_eq!(network_layer(LinkType::RawIp, &[0x50]), Some((0, 0)));
    assert_eq!(network_layer(LinkType::BsdLoopback, &[7, 0, 0, 0]), Some((0, 4)));
    let mut arp = udp_frame(1, b"");
    arp[13] = 6;
    let meta = walk(&record(LinkType::Ethernet, &arp), &arp);
    assert_eq!((meta.version, meta.malformed), (IpVersion::None, false));
}

proptest! {
    #[test]
    fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), extra in 0..2_000_u32) {
        for link in LINKS {
            let mut record = record(link, &bytes);
            record.wire_len += extra;
            network_layer(link, &bytes);
            walk(&record, &bytes);
        }
    }
}
