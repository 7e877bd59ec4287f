//! Arbitrary bytes as captures. None causes a panic.

use proptest::prelude::*;

use super::support::{MICROSECONDS, NANOSECONDS, Order, PcapNgWriter, PcapWriter, read_all};

fn captures() -> Vec<Vec<u8>> {
    let mut captures = Vec::new();
    for order in Order::BOTH {
        let mut writer = PcapWriter::new(order, NANOSECONDS, (2, 4), 113);
        writer.packet(1, 2, 30, &[3; 20]).packet(4, 5, 6, &[7; 8]);
        captures.push(writer.bytes);
        let mut writer = PcapWriter::new(order, MICROSECONDS, (2, 2), 1);
        writer.packet(1, 2, 20, &[3; 20]);
        captures.push(writer.bytes);
        let mut writer = PcapNgWriter::new(order);
        writer.interface(1, 0, Some(9), Some(7)).interface(12, 9, Some(0x8a), None);
        writer.enhanced(0, 1, 9, &[1; 9]).simple(3, &[2; 3]).obsolete(1, 9, 9, &[3; 5]);
        writer.commented(1, 5, &[4; 2]).block(5, &[0; 12]);
        captures.push(writer.bytes);
    }
    captures
}

#[test]
fn survives_any_value_of_any_byte() {
    for capture in captures() {
        for at in 0..capture.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = capture.clone();
                damaged[at] = value;
                let outcome = read_all(&damaged);
                assert!(outcome.packets.len() <= 4);
            }
        }
    }
}

proptest! {
    #[test]
    fn survives_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }

    #[test]
    fn survives_arbitrary_bytes_after_a_header(
        capture in 0..6_usize,
        keep in 24..60_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut damaged = captures().swap_remove(capture);
        damaged.truncate(keep);
        damaged.extend(bytes);
        read_all(&damaged);
    }

    #[test]
    fn survives_arbitrary_changes(
        capture in 0..6_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut damaged = captures().swap_remove(capture);
        for (at, value) in changes {
            let at = at.index(damaged.len());
            damaged[at] = value;
        }
        read_all(&damaged);
    }
}
