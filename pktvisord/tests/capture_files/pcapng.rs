//! The pcapng format.

use pktvisord::decode::block::LinkType;
use pktvisord::input::file::Truncation;

use super::support::{Order, PcapNgWriter, read_all};

#[test]
fn sections_and_interfaces_have_their_own_parameters() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).interface(101, 0, Some(9), None);
    writer.enhanced(0, 1_700_000_000_123_456, 90, &[1; 60]);
    writer.enhanced(1, 1_700_000_000_123_456_789, 33, &[2; 33]);
    writer.section(Order::Big);
    writer.interface(276, 0, Some(0), Some(1_000));
    writer.enhanced(0, 500, 5, &[3; 5]);
    writer.commented(0, 501, &[4; 6]);
    writer.section(Order::Little);
    writer.interface(113, 0, Some(3), Some(-1));
    writer.enhanced(0, 2_500, 7, &[5; 7]);
    let packets = read_all(&writer.bytes).complete();
    let seen: Vec<_> = packets
        .iter()
        .map(|packet| {
            (packet.link, packet.time, packet.wire_len, packet.bytes.len(), packet.bytes[0])
        })
        .collect();
    assert_eq!(
        seen,
        [
            (LinkType::Ethernet, 1_700_000_000_123_456_000, 90, 60, 1),
            (LinkType::RawIp, 1_700_000_000_123_456_789, 33, 33, 2),
            (LinkType::LinuxSll2, 1_500_000_000_000, 5, 5, 3),
            (LinkType::LinuxSll2, 1_501_000_000_000, 6, 6, 4),
            (LinkType::LinuxSll, 1_500_000_000, 7, 7, 5),
        ]
    );
}

#[test]
fn reads_every_packet_block_in_both_byte_orders() {
    for order in Order::BOTH {
        let mut writer = PcapNgWriter::new(order);
        writer.interface(1, 8, None, None);
        writer.simple(3, &[1, 1, 1]);
        writer.enhanced(0, 2_000_000, 6, &[2, 2, 2, 2, 2]);
        writer.simple(99, &[3; 8]);
        writer.block(0xbad, &[9; 40]);
        writer.block(5, &[9; 12]);
        writer.obsolete(0, 4_000_000, 2, &[4; 7]);
        let packets = read_all(&writer.bytes).complete();
        let seen: Vec<_> = packets
            .iter()
            .map(|packet| (packet.time, packet.wire_len, packet.bytes.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 3, vec![1; 3]),
                (2_000_000_000, 6, vec![2; 5]),
                (2_000_000_000, 99, vec![3; 8]),
                (4_000_000_000, 7, vec![4; 7]),
            ]
        );
    }
}

/// Latest time that the reader returns.
const LATEST: i64 = i64::MAX - 86_400_000_000_000;

#[test]
fn reads_resolutions_in_powers_of_two_and_ten() {
    for (resolution, ticks, nanoseconds) in [
        (0, 7, 7_000_000_000),
        (6, 1, 1_000),
        (9, 1, 1),
        (12, 1_999, 1),
        (19, u64::MAX, 1_844_674_407),
        (0x80, 3, 3_000_000_000),
        (0x81, 3, 1_500_000_000),
        (0x80 | 32, 1 << 31, 500_000_000),
        (0x80 | 63, u64::MAX, 1_999_999_999),
        // More than 64 bits of nanoseconds.
        (0, u64::MAX, LATEST),
    ] {
        let mut writer = PcapNgWriter::new(Order::Little);
        writer.interface(1, 0, Some(resolution), None).enhanced(0, ticks, 0, &[]);
        assert_eq!(read_all(&writer.bytes).complete()[0].time, nanoseconds, "{resolution:#x}");
    }
    for (offset, time) in [(i64::MIN, -(1 << 62)), (i64::MAX, LATEST), (-3, -2_000_000_000)] {
        for order in Order::BOTH {
            let mut writer = PcapNgWriter::new(order);
            writer.interface(1, 0, Some(0), Some(offset)).enhanced(0, 1, 0, &[]);
            assert_eq!(read_all(&writer.bytes).complete()[0].time, time);
        }
    }
    for resolution in [20, 0x7f, 0x80 | 64, 0xff] {
        let mut writer = PcapNgWriter::new(Order::Little);
        writer.interface(1, 0, Some(resolution), None).enhanced(0, 1, 0, &[]);
        let message = read_all(&writer.bytes).error.unwrap().to_string();
        assert!(message.contains("too fine for 64 bits"), "{message}");
    }
}

#[test]
fn section_alone_is_a_capture_without_packets() {
    let mut writer = PcapNgWriter::new(Order::Big);
    assert!(read_all(&writer.bytes).complete().is_empty());
    writer.interface(1, 0, None, None);
    assert!(read_all(&writer.bytes).complete().is_empty());
}

#[test]
fn skips_other_blocks_of_any_length() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).enhanced(0, 1, 1, &[1]);
    writer.block(4, &vec![0; 20 * 1024 * 1024]);
    writer.enhanced(0, 2, 1, &[2]);
    let packets = read_all(&writer.bytes).complete();
    assert_eq!(packets.len(), 2);
    assert_eq!(packets[1].bytes, [2]);

    writer.bytes.truncate(5 * 1024 * 1024);
    let outcome = read_all(&writer.bytes);
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(outcome.truncation, Some(Truncation { byte: 5 * 1024 * 1024, packet: 2 }));
}

#[test]
fn reads_large_packet_blocks() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None);
    for number in 0..20_u8 {
        writer.enhanced(0, u64::from(number), 262_144, &vec![number; 262_144]);
    }
    // 3 MiB of options after a packet of one byte.
    let mut body = vec![0; 20];
    body[12] = 1;
    body[16] = 1;
    body.extend([42, 0, 0, 0]);
    for _ in 0..48 {
        body.extend([1, 0, 0xfc, 0xff]);
        body.extend(vec![b' '; 0xfffc]);
    }
    writer.block(6, &body);
    writer.enhanced(0, 21, 1, &[21]);
    let packets = read_all(&writer.bytes).complete();
    assert_eq!(packets.len(), 22);
    assert!(packets[19].bytes.iter().all(|byte| *byte == 19));
    assert_eq!(packets[20].bytes, [42]);
    assert_eq!(packets[21].bytes, [21]);
}

#[test]
fn unsupported_link_type_matters_only_with_packets() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).interface(189, 0, None, None);
    writer.enhanced(0, 1, 1, &[1]);
    assert_eq!(read_all(&writer.bytes).complete().len(), 1);
    writer.enhanced(1, 1, 1, &[1]);
    let outcome = read_all(&writer.bytes);
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(outcome.unread, 1);
    let message = &outcome.warnings[0];
    assert!(message.contains("packet 2: link type 189 (USB_LINUX: "), "{message}");
}

#[test]
fn reports_truncation_by_byte_and_packet() {
    let mut writer = PcapNgWriter::new(Order::Big);
    let header = writer.bytes.len();
    let mut ends = vec![header];
    writer.interface(1, 0, Some(9), None);
    ends.push(writer.bytes.len());
    let mut packets = Vec::new();
    for length in [10, 0, 3] {
        writer.block(4, &[0; 16]);
        ends.push(writer.bytes.len());
        writer.enhanced(0, 1, length, &vec![1; length as usize]);
        ends.push(writer.bytes.len());
        packets.push(writer.bytes.len());
    }
    for cut in 4..writer.bytes.len() {
        let outcome = read_all(&writer.bytes[..cut]);
        if cut < header {
            let message = outcome.error.unwrap().to_string();
            let expected = format!(": truncated at byte {cut}, inside the file header");
            assert!(message.contains(&expected), "{message}");
            continue;
        }
        assert!(outcome.error.is_none());
        let complete = packets.iter().filter(|end| **end <= cut).count();
        assert_eq!(outcome.packets.len(), complete, "{cut}");
        let expected = (!ends.contains(&cut))
            .then_some(Truncation { byte: cut as u64, packet: complete as u64 + 1 });
        assert_eq!(outcome.truncation, expected, "{cut}");
    }
}

#[test]
fn errors_name_the_place_of_contradictions() {
    let mut start = PcapNgWriter::new(Order::Little);
    start.interface(1, 0, None, None).enhanced(0, 1, 1, &[1]);
    let start = start.bytes;
    let block = |kind: u32, body: &[u8]| {
        let mut writer = PcapNgWriter { order: Order::Little, bytes: start.clone() };
        writer.block(kind, body);
        writer.bytes
    };
    let raw = |bytes: &[u8]| [start.as_slice(), bytes].concat();
    let mut long = [0; 24];
    long[12..16].copy_from_slice(&300_000_u32.to_le_bytes());
    let long = [long.as_slice(), &vec![0; 300_000]].concat();
    let mut other = [0; 20];
    other[0] = 1;
    let mut version = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    version.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (bytes, what) in [
        (block(6, &[0; 16]), "invalid enhanced packet block"),
        (block(6, &[0xff; 20]), "invalid enhanced packet block"),
        (block(6, &long), "the block claims 300000 captured bytes; the maximum is 262144"),
        (
            block(6, &other),
            "a packet of interface 1, but the number of interfaces in the section is 1",
        ),
        (block(2, &[0; 12]), "invalid obsolete packet block"),
        (block(2, &[0xff; 20]), "invalid obsolete packet block"),
        (block(3, &[]), "invalid simple packet block"),
        (block(1, &[0; 4]), "invalid interface description"),
        (block(0x0a0d_0d0a, &[0; 16]), "section header without a byte-order magic"),
        (block(0x0a0d_0d0a, &version[..4]), "invalid section header"),
        (
            block(0x0a0d_0d0a, &version),
            "unsupported pcapng version 2.0; supported are versions 1.x",
        ),
        (
            raw(&[7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]),
            "a block of type 0x7 claims an invalid length of 8 bytes",
        ),
        (
            raw(&[7, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0]),
            "a block of type 0x7 claims an invalid length of 13 bytes",
        ),
        (
            raw(&[6, 0, 0, 0, 0, 0, 0, 0x70, 0, 0, 0, 0]),
            "a block of type 0x6 claims a length of 1879048192 bytes; the maximum is 4194304",
        ),
    ] {
        let outcome = read_all(&bytes);
        assert_eq!(outcome.packets.len(), 1, "{what}");
        let message = outcome.error.expect(what).to_string();
        let expected = format!(": corrupt at byte {}, packet 2: {what}", start.len());
        assert!(message.ends_with(&expected), "{what}: {message}");
    }
}
