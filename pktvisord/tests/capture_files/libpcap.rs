//! The reader gives the same packets as libpcap.

use pcap::{Capture, Precision};
use pktvisord::input::file::Truncation;

use super::support::{
    MICROSECONDS, MODIFIED, NANOSECONDS, Order, Packet, PcapNgWriter, PcapWriter, read_all, store,
    udp_frame,
};

/// Time, length on the wire, and bytes of a packet.
type Plain = (i64, u32, Vec<u8>);

fn plain(packets: Vec<Packet>) -> Vec<Plain> {
    packets.into_iter().map(|packet| (packet.time, packet.wire_len, packet.bytes)).collect()
}

fn by_libpcap(bytes: &[u8]) -> Vec<Plain> {
    let stored = store(bytes);
    let mut capture = Capture::from_file_with_precision(&stored.path, Precision::Nano).unwrap();
    let mut packets = Vec::new();
    loop {
        match capture.next_packet() {
            Ok(packet) => packets.push((
                packet.header.ts.tv_sec * 1_000_000_000 + packet.header.ts.tv_usec,
                packet.header.len,
                packet.data.to_vec(),
            )),
            Err(pcap::Error::NoMorePackets) => return packets,
            Err(error) => panic!("{error}"),
        }
    }
}

fn fill_pcap(writer: &mut PcapWriter) {
    for number in 0..3_000_u16 {
        let frame = udp_frame(number, &vec![number as u8; usize::from(number % 1_400)]);
        let wire_len = frame.len() as u32 + u32::from(number % 3);
        writer.packet(1_600_000_000 + u32::from(number), u32::from(number) * 300, wire_len, &frame);
    }
}

#[test]
fn reads_pcap_like_libpcap() {
    for order in Order::BOTH {
        for magic in [MICROSECONDS, NANOSECONDS, MODIFIED] {
            let mut writer = PcapWriter::new(order, magic, (2, 4), 1);
            fill_pcap(&mut writer);
            let packets = plain(read_all(&writer.bytes).complete());
            assert_eq!(packets.len(), 3_000);
            assert!(packets == by_libpcap(&writer.bytes), "{order:?} {magic:#x}");
        }
    }
}

#[test]
fn reads_pcapng_like_libpcap() {
    for order in Order::BOTH {
        for (resolution, step) in
            [(None, 1_000), (Some(9), 1_000_000), (Some(3), 1), (Some(0x94), 77)]
        {
            for offset in [None, Some(-5_000), Some(86_400)] {
                let mut writer = PcapNgWriter::new(order);
                writer.interface(1, 65_535, resolution, offset);
                for number in 1..2_000_u64 {
                    let frame = udp_frame(number as u16, &vec![1; number as usize % 1_400]);
                    let ticks = 6_000_000_000 + number * step;
                    let wire_len = frame.len() as u32;
                    match number % 4 {
                        0 => writer.obsolete(0, ticks, wire_len, &frame),
                        1 => writer.commented(0, ticks, &frame),
                        2 => writer.enhanced(0, ticks, wire_len + 4, &frame),
                        _ => writer.block(5, &[0; 12]),
                    };
                }
                let packets = plain(read_all(&writer.bytes).complete());
                assert_eq!(packets.len(), 1_499);
                assert!(
                    packets == by_libpcap(&writer.bytes),
                    "{order:?} {resolution:?} {offset:?}"
                );
            }
        }
    }
}

/// libpcap knows the oddities of older versions: version 2.2 swaps the two lengths.
#[test]
fn reads_older_versions_through_libpcap() {
    for version in [(2, 4), (2, 3)] {
        let mut writer = PcapWriter::new(Order::Big, MICROSECONDS, version, 1);
        fill_pcap(&mut writer);
        let outcome = read_all(&writer.bytes);
        assert!(outcome.error.is_none(), "{version:?} {:?}", outcome.error);
        assert!(plain(outcome.packets) == by_libpcap(&writer.bytes), "{version:?}");
    }
    let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 2), 1);
    for number in 0..5_000_u32 {
        // The captured length is at the place of the wire length in later versions.
        let frame = udp_frame(7, &[1; 300]);
        writer.packet(number, 5, frame.len() as u32, &frame);
    }
    let packets = plain(read_all(&writer.bytes).complete());
    assert_eq!(packets.len(), 5_000);
    assert_eq!((packets[1].0, packets[1].1), (1_000_005_000, 342));
    assert!(packets == by_libpcap(&writer.bytes));

    let cut = writer.bytes.len() - 5;
    let outcome = read_all(&writer.bytes[..cut]);
    assert!(outcome.error.is_none());
    assert_eq!(outcome.packets.len(), 4_999);
    assert_eq!(outcome.truncation, Some(Truncation { byte: cut as u64, packet: 5_000 }));
}

#[test]
fn reads_compressed_older_versions_through_libpcap() {
    let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 3), 113);
    for number in 0..9_000_u32 {
        writer.packet(number, 5, 300, &[1; 300]);
    }
    let compressed = zstd::encode_all(writer.bytes.as_slice(), 1).unwrap();
    assert_eq!(read_all(&compressed).complete().len(), 9_000);

    let outcome = read_all(&compressed[..compressed.len() - 3]);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert!(outcome.truncation.is_some());
}

#[test]
fn passes_on_errors_of_libpcap() {
    let writer = PcapWriter::new(Order::Little, MICROSECONDS, (3, 0), 1);
    let message = read_all(&writer.bytes).error.unwrap().to_string();
    assert!(message.contains("libpcap: unsupported pcap savefile version 3.0"), "{message}");

    let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 3), 1);
    writer.packet(1, 1, 3, &[1; 3]);
    writer.bytes.extend([0xff; 16]);
    let outcome = read_all(&writer.bytes);
    assert_eq!(outcome.packets.len(), 1);
    let message = outcome.error.unwrap().to_string();
    assert!(message.contains(": libpcap stopped at packet 2: "), "{message}");

    let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 3), 189);
    writer.packet(1, 1, 3, &[1; 3]);
    let outcome = read_all(&writer.bytes);
    assert!(outcome.warnings[0].contains("link type 189 (USB_LINUX"), "{:?}", outcome.warnings);
    assert_eq!((outcome.unread, outcome.complete().len()), (1, 0));
}
