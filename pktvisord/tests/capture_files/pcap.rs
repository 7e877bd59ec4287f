//! The pcap format.

use pktvisord::decode::block::LinkType;
use pktvisord::input::file::Truncation;

use super::support::{MICROSECONDS, MODIFIED, NANOSECONDS, Order, PcapWriter, read_all};

#[test]
fn reads_both_byte_orders_and_resolutions() {
    for order in Order::BOTH {
        for (magic, nanoseconds) in [(MICROSECONDS, 123_456_000), (NANOSECONDS, 123_456)] {
            let mut writer = PcapWriter::new(order, magic, (2, 4), 1);
            writer.packet(1_700_000_000, 123_456, 90, &[7; 60]);
            writer.packet(1_700_000_100, 999_999, 60, &[8; 61]);
            writer.packet(1_700_000_101, 0, 0, &[]);
            let packets = read_all(&writer.bytes).complete();
            assert_eq!(packets.len(), 3);
            assert_eq!(packets[0].time, 1_700_000_000_000_000_000 + nanoseconds);
            assert_eq!(packets[0].wire_len, 90);
            assert_eq!(packets[0].link, LinkType::Ethernet);
            assert_eq!(packets[0].bytes, [7; 60]);
            assert_eq!(packets[1].time / 1_000_000_000, 1_700_000_100);
            assert_eq!(packets[1].wire_len, 61, "at least what was captured");
            assert_eq!(packets[2].bytes.len(), 0);
            let mut latest = PcapWriter::new(order, magic, (2, 4), 1);
            latest.packet(u32::MAX, 999_999, 60, &[8; 60]);
            let packets = read_all(&latest.bytes).complete();
            assert_eq!(packets[0].time / 1_000_000_000, i64::from(u32::MAX));
        }
    }
}

#[test]
fn reads_modified_record_headers() {
    for order in Order::BOTH {
        let mut writer = PcapWriter::new(order, MODIFIED, (2, 4), 1);
        writer.packet(5, 6, 3, &[1, 2, 3]).packet(7, 8, 4, &[4, 5, 6, 7]);
        let packets = read_all(&writer.bytes).complete();
        assert_eq!(packets.len(), 2);
        assert_eq!(
            (packets[1].time, packets[1].bytes.as_slice()),
            (7_000_008_000, &[4, 5, 6, 7][..])
        );
    }
}

#[test]
fn reads_every_link_type() {
    for (number, link) in [
        (0, LinkType::BsdLoopback),
        (1, LinkType::Ethernet),
        (12, LinkType::RawIp),
        (101, LinkType::RawIp),
        (108, LinkType::BsdLoopback),
        (113, LinkType::LinuxSll),
        (228, LinkType::RawIp),
        (229, LinkType::RawIp),
        (276, LinkType::LinuxSll2),
    ] {
        let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 4), number);
        writer.packet(1, 1, 1, &[0]);
        assert_eq!(read_all(&writer.bytes).complete()[0].link, link, "{number}");
    }
}

#[test]
fn ignores_frame_check_sequence_in_link_type() {
    let mut writer = PcapWriter::new(Order::Big, MICROSECONDS, (2, 4), 0x2400_0001);
    writer.packet(1, 1, 1, &[0]);
    assert_eq!(read_all(&writer.bytes).complete()[0].link, LinkType::Ethernet);
}

#[test]
fn header_alone_is_a_capture_without_packets() {
    assert!(read_all(&PcapWriter::ethernet().bytes).complete().is_empty());
}

#[test]
fn reads_records_across_blocks() {
    let mut writer = PcapWriter::ethernet();
    let lengths = [0, 1, 60, 1514, 9000, 65_535, 262_144];
    for number in 0..200_u32 {
        let length = lengths[number as usize % lengths.len()];
        writer.packet(number, 0, length, &vec![number as u8; length as usize]);
    }
    assert!(writer.bytes.len() > 8 * 1024 * 1024);
    let packets = read_all(&writer.bytes).complete();
    assert_eq!(packets.len(), 200);
    for (number, packet) in (0_u32..).zip(&packets) {
        assert_eq!(packet.time, i64::from(number) * 1_000_000_000);
        assert_eq!(packet.bytes.len(), lengths[number as usize % lengths.len()] as usize);
        assert!(packet.bytes.iter().all(|byte| *byte == number as u8));
    }
}

#[test]
fn reports_truncation_by_byte_and_packet() {
    let mut writer = PcapWriter::ethernet();
    let mut ends = vec![writer.bytes.len()];
    for length in [10, 0, 3] {
        writer.packet(1, 1, length, &vec![1; length as usize]);
        ends.push(writer.bytes.len());
    }
    for cut in 24..writer.bytes.len() {
        let outcome = read_all(&writer.bytes[..cut]);
        assert!(outcome.error.is_none());
        let complete = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!(outcome.packets.len(), complete, "{cut}");
        let expected = (!ends.contains(&cut))
            .then_some(Truncation { byte: cut as u64, packet: complete as u64 + 1 });
        assert_eq!(outcome.truncation, expected, "{cut}");
    }
}

#[test]
fn reads_packets_before_a_corrupt_record() {
    let mut writer = PcapWriter::ethernet();
    writer.packet(1, 1, 4, &[1; 4]).packet(2, 2, 4, &[2; 4]);
    let start = writer.bytes.len();
    for length in [262_145_u32, 0x7fff_ffff, u32::MAX] {
        writer.bytes.truncate(start);
        writer.bytes.extend([0; 8]);
        writer.bytes.extend(length.to_le_bytes());
        writer.bytes.extend([0; 100]);
        let outcome = read_all(&writer.bytes);
        assert_eq!(outcome.packets.len(), 2);
        let message = outcome.error.unwrap().to_string();
        let expected = format!(
            ": corrupt at byte {start}, packet 3: the record claims {length} captured bytes; the \
             maximum is 262144"
        );
        assert!(message.ends_with(&expected), "{message}");
    }
}
