//! Drops that captures report, and packets of unsupported interfaces.

use pktvisord::input::file::Drops;

use super::support::{Order, PcapNgWriter, read_all};

#[test]
fn uses_last_statistics_of_each_interface() {
    for order in Order::BOTH {
        let mut writer = PcapNgWriter::new(order);
        writer.interface(1, 0, None, None).interface(1, 0, None, None);
        writer.enhanced(0, 1, 1, &[1]).statistics(0, 10, 1).statistics(1, 100, 7);
        writer.enhanced(1, 2, 1, &[1]).statistics(0, 30, 2);
        // Statistics of an unknown interface are ignored.
        writer.statistics(9, 1_000, 1_000);
        // The next section has its own interfaces.
        let other = if order == Order::Big { Order::Little } else { Order::Big };
        writer.section(other).interface(1, 0, None, None).statistics(0, 5, 3);
        let outcome = read_all(&writer.bytes);
        assert_eq!(outcome.drops, Drops { interface: 30 + 100 + 5, system: 2 + 7 + 3 });
        assert_eq!(outcome.complete().len(), 2);
    }
}

#[test]
fn drops_before_packets_count_beyond_statistics() {
    for order in Order::BOTH {
        let mut writer = PcapNgWriter::new(order);
        writer.interface(1, 0, None, None).interface(1, 0, None, None);
        writer.behind_drops(0, 1, 20).behind_drops(0, 2, 22).behind_drops(1, 3, 9);
        let outcome = read_all(&writer.bytes);
        assert_eq!(outcome.drops, Drops { interface: 0, system: 51 });
        // Interface and system drops add up to 40. Of the 42 drops before packets, all but two are
        // among them.
        writer.statistics(0, 30, 10);
        let drops = read_all(&writer.bytes).drops;
        assert_eq!(drops, Drops { interface: 30, system: 10 + 2 + 9 });
    }
}

#[test]
fn ignores_invalid_statistics() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).enhanced(0, 1, 1, &[1]);
    for body in [
        &[][..],
        &[0; 8],
        &[0; 12],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0xff, 0xff, 1, 2, 3, 4],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 4, 0, 1, 2, 3, 4],
    ] {
        writer.block(5, body);
    }
    writer.enhanced(0, 2, 1, &[1]);
    let outcome = read_all(&writer.bytes);
    assert_eq!(outcome.drops, Drops::default());
    assert_eq!(outcome.complete().len(), 2);
}

#[test]
fn unsupported_interface_does_not_end_the_capture() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).interface(189, 0, None, None);
    for number in 0..6_000 {
        writer.enhanced(number % 2, u64::from(number), 64, &[7; 64]);
    }
    let outcome = read_all(&writer.bytes);
    assert_eq!((outcome.packets.len(), outcome.unread), (3_000, 3_000));
    let start = "ignored 3000 packets, the first is packet 2: link type 189 (USB_LINUX";
    assert!(outcome.warnings[0].starts_with(start), "{:?}", outcome.warnings);
    assert_eq!(outcome.warnings.len(), 1);
    outcome.complete();
}
