//! Filters: which packets they keep, and the errors for invalid expressions.

use pcap::{Capture, Linktype};
use pktvisor_common::time::Timestamp;
use pktvisord::decode::block::{Block, LinkType, Mark, PacketRecord};
use pktvisord::input::file::FileOptions;
use pktvisord::input::filter::Filter;
use proptest::prelude::*;

use super::support::{
    MICROSECONDS, Order, Outcome, PcapNgWriter, PcapWriter, read, udp_frame, udp_packet,
};

fn filtered(bytes: &[u8], expression: &str) -> Outcome {
    let filter = Some(expression.to_owned());
    read(bytes, &FileOptions { filter, ..FileOptions::default() })
}

#[test]
fn reads_only_matching_packets() {
    let mut writer = PcapWriter::ethernet();
    for port in 1..=1_000 {
        let frame = udp_frame(port, b"hello");
        writer.packet(u32::from(port), 0, frame.len() as u32, &frame);
    }
    let outcome = filtered(&writer.bytes, "udp dst port 7 or udp dst port 900");
    assert_eq!(outcome.filtered_out, 998);
    let times: Vec<_> =
        outcome.complete().iter().map(|packet| packet.time / 1_000_000_000).collect();
    assert_eq!(times, [7, 900]);
    let outcome = filtered(&writer.bytes, "tcp");
    assert_eq!(outcome.filtered_out, 1_000);
    assert!(outcome.complete().is_empty());
    assert_eq!(filtered(&writer.bytes, "").complete().len(), 1_000);
}

#[test]
fn finds_truncation_after_filtered_packets() {
    let mut writer = PcapWriter::ethernet();
    writer.packet(1, 0, 60, &[0; 60]).packet(1, 0, 60, &[0; 60]);
    writer.bytes.pop();
    let outcome = filtered(&writer.bytes, "udp");
    assert_eq!(outcome.filtered_out, 1);
    assert_eq!(outcome.truncation.unwrap().packet, 2);
}

#[test]
fn filters_by_length_on_the_wire() {
    let mut writer = PcapWriter::ethernet();
    writer.packet(1, 0, 1_500, &[0; 60]).packet(2, 0, 60, &[0; 60]);
    let packets = filtered(&writer.bytes, "greater 1000").complete();
    assert_eq!(packets.iter().map(|packet| packet.wire_len).collect::<Vec<_>>(), [1_500]);
    let packets = filtered(&writer.bytes, "len < 1000").complete();
    assert_eq!(packets.iter().map(|packet| packet.wire_len).collect::<Vec<_>>(), [60]);
}

#[test]
fn compiles_the_filter_for_the_link_type() {
    let packet = udp_packet(9, b"x");
    let mut cooked = vec![0; 14];
    cooked.extend([8, 0]);
    cooked.extend(&packet);
    let mut cooked2 = vec![8, 0];
    cooked2.extend([0; 18]);
    cooked2.extend(&packet);
    let family = |bytes: [u8; 4]| [bytes.as_slice(), &packet].concat();
    for (link, bytes) in [
        (0, family([2, 0, 0, 0])),
        (0, family([0, 0, 0, 2])),
        (108, family([0, 0, 0, 2])),
        (1, udp_frame(9, b"x")),
        (12, packet.clone()),
        (101, packet.clone()),
        (228, packet.clone()),
        (113, cooked),
        (276, cooked2),
    ] {
        let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 4), link);
        writer.packet(1, 0, bytes.len() as u32, &bytes);
        assert_eq!(filtered(&writer.bytes, "udp dst port 9").complete().len(), 1, "{link}");
        assert_eq!(filtered(&writer.bytes, "udp dst port 8").complete().len(), 0, "{link}");

        let mut writer = PcapNgWriter::new(Order::Big);
        writer.interface(105, 0, None, None).interface(link as u16, 0, None, None);
        writer.enhanced(1, 1, bytes.len() as u32, &bytes);
        assert_eq!(filtered(&writer.bytes, "udp dst port 9").complete().len(), 1, "{link}");
    }
}

#[test]
fn error_names_expression_and_reason() {
    for expression in ["udp port", "nonsense", "ip host 1.2.3.4.5", "wlan type mgt", "a\0b"] {
        let error = filtered(&PcapWriter::ethernet().bytes, expression).error.unwrap();
        let message = error.to_string();
        let start = format!(": invalid filter `{expression}`: ");
        assert!(message.contains(&start), "{message}");
    }
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).enhanced(0, 1, 1, &[1]);
    let message = filtered(&writer.bytes, "udp port").error.unwrap().to_string();
    assert!(message.contains("invalid filter `udp port`: "), "{message}");
}

/// Expressions that together use every kind of instruction.
const EXPRESSIONS: [&str; 18] = [
    "",
    "udp port 53",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0",
    "ip6 protochain 17",
    "ip protochain 6",
    "vlan and udp",
    "greater 64",
    "len = 60 or len % 7 == 3",
    "ip[2:2] - ((ip[0] & 0xf) << 2) != 0",
    "ether[0] * ether[1] / ether[2] > 3",
    "ether[0] % ether[1] = 1",
    "(ether[0] ^ ether[1]) | ether[2] = 255",
    "ether[ether[0]:4] >= ether[ether[1]:4]",
    "(ether[0] << ether[1]) + (ether[2] >> ether[3]) = -1",
    "ether[0:4] = 0x01020304",
    "portrange 10-1000 and not ip multicast",
    "net 192.0.2.0/24 and ip[8] < 65",
    "-ether[0] = ether[1] or icmp[icmptype] = 8",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The filter accepts the same packets as in libpcap.
    #[test]
    fn matches_like_libpcap(
        expression in 0..EXPRESSIONS.len(),
        ethertype in prop_oneof![Just([8, 0]), Just([0x86, 0xdd]), Just([0x81, 0]), any::<[u8; 2]>()],
        version in prop_oneof![Just(0x45), Just(0x46), Just(0x60), any::<u8>()],
        protocol in prop_oneof![Just(17), Just(6), Just(0), Just(51), any::<u8>()],
        small in any::<bool>(),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        if small {
            for byte in &mut bytes {
                *byte &= 7;
            }
        }
        for (at, value) in [
            (12, ethertype[0]), (13, ethertype[1]), (14, version), (20, protocol), (23, protocol),
        ] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let expression = EXPRESSIONS[expression];
        let expected = Capture::dead(Linktype(1))
            .unwrap()
            .compile(expression, true)
            .unwrap()
            .filter(&bytes);
        let length = bytes.len() as u32;
        let record = PacketRecord {
            time: Timestamp::EPOCH, offset: 0, captured: length, wire_len: length, link: LinkType::Ethernet,
        };
        let mut block = Block { data: bytes, packets: vec![record], ..Block::default() };
        let left_out = Filter::new(expression).apply(&mut block).unwrap();
        prop_assert_eq!(left_out == 0, expected, "{}", expression);
        prop_assert_eq!(block.packets.len(), usize::from(expected));
    }
}

#[test]
fn warns_with_a_reason_if_the_filter_matches_nothing() {
    let frame = udp_frame(9, b"x");
    let tagged = |tag: &[u8]| [&frame[..12], tag, &frame[12..]].concat();
    let warnings = |frames: &[Vec<u8>]| {
        let mut writer = PcapWriter::ethernet();
        for frame in frames {
            writer.packet(1, 0, frame.len() as u32, frame);
        }
        filtered(&writer.bytes, "udp dst port 9").warnings
    };
    let vlan = tagged(&[0x81, 0, 0, 7]);
    let left_out = warnings(&[vlan.clone(), vlan.clone()]);
    let expected = "the filter rejected all 2 packets; 2 have a VLAN tag, and a filter looks behind it \
                    only after the keyword `vlan`: `vlan and (EXPRESSION)`";
    assert_eq!(left_out, [expected]);
    let mpls = [&frame[..12], &[0x88, 0x47, 0, 0, 0x11, 64], &frame[14..]].concat();
    let pppoe = [&frame[..12], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21], &frame[14..]].concat();
    let left_out = warnings(&[mpls, pppoe]);
    assert!(left_out[0].contains("`mpls`") && left_out[0].contains("`pppoes`"), "{left_out:?}");
    assert_eq!(warnings(&[udp_frame(8, b"x")]), ["the filter rejected all 1 packet"]);
    // One matching packet is enough, and a capture may be empty.
    assert!(warnings(&[vlan, frame.clone()]).is_empty());
    assert!(warnings(&[]).is_empty());
}

#[test]
fn keeps_marks_with_their_packets() {
    // Packets of port 8 are filtered out. One of them is an outlier, and time goes back at another
    // one.
    let mut writer = PcapWriter::ethernet();
    for (second, port) in [
        (10_000, 9),
        (10_001, 8),
        (2_000_000_000, 8),
        (2_000_000_000, 9),
        (10_002, 9),
        (9_000, 8),
        (9_001, 9),
    ] {
        let frame = udp_frame(port, b"x");
        writer.packet(second, 0, frame.len() as u32, &frame);
    }
    let outcome = filtered(&writer.bytes, "udp dst port 9");
    assert_eq!(outcome.marks, [(1, Mark::Outlier), (3, Mark::Back)]);
    assert_eq!(outcome.packets.len(), 4);
}
