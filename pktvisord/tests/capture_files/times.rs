//! Which packet times the reader believes.

use pktvisord::decode::block::Mark;
use proptest::prelude::*;

use super::support::{NANOSECONDS, Order, Outcome, PcapNgWriter, PcapWriter, read_all};

/// Nanoseconds of a second.
const SECOND: i64 = pktvisord::time::SECOND.as_nanos();

/// 2025-01-01.
const START: i64 = 1_735_689_600;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// 2055-01-01.
const IN_2055: i64 = 2_682_374_400;

fn read_seconds(seconds: &[i64]) -> Outcome {
    let mut writer = PcapWriter::new(Order::Little, NANOSECONDS, (2, 4), 1);
    for &second in seconds {
        writer.packet(second as u32, 0, 60, &[1; 60]);
    }
    read_all(&writer.bytes)
}

/// Returns the times of packets in seconds, and the reader's marks.
fn times(seconds: &[i64]) -> (Vec<i64>, Vec<(usize, Mark)>) {
    let outcome = read_seconds(seconds);
    let marks = outcome.marks.clone();
    (outcome.complete().iter().map(|packet| packet.time / SECOND).collect(), marks)
}

#[test]
fn step_that_reverts_is_an_outlier() {
    for odd in [IN_2055, 0, START - DAY, START + HOUR + 100] {
        for length in [1, 3, 16] {
            let mut seconds: Vec<i64> = (START..START + 40).collect();
            seconds[5..5 + length].fill(odd);
            let (read, marks) = times(&seconds);
            assert_eq!(read[5..5 + length], vec![START + 4; length]);
            assert_eq!(marks, (5..5 + length).map(|at| (at, Mark::Outlier)).collect::<Vec<_>>());
        }
    }
    let mut seconds: Vec<i64> = (START..START + 9).collect();
    seconds[3] = IN_2055;
    let warnings = read_seconds(&seconds).warnings;
    let expected = "the time of packet 4, 2055-01-01T00:00:00Z, is more than an hour off ";
    assert!(warnings[0].starts_with(expected), "{warnings:?}");
}

#[test]
fn step_that_lasts_is_believed() {
    for step in [2 * HOUR, DAY, 200 * DAY] {
        let seconds: Vec<i64> = (0..100).map(|at| START + at * step).collect();
        assert_eq!(times(&seconds), (seconds, vec![]));
    }
    // Pairs, and a return after more than 16 packets.
    let pairs: Vec<i64> = (0..40).map(|at| START + at / 2 * DAY + at % 2).collect();
    assert_eq!(times(&pairs), (pairs, vec![]));
    let mut long: Vec<i64> = (START..START + 40).collect();
    long[5..22].fill(START + DAY);
    let (read, marks) = times(&long);
    assert_eq!(read, long);
    assert_eq!(marks, [(22, Mark::Back)]);
}

#[test]
fn later_packets_decide_about_the_first_one() {
    for odd in [0, IN_2055, START - 2 * DAY, START + 2 * HOUR] {
        let mut seconds: Vec<i64> = (START..START + 30).collect();
        seconds[0] = odd;
        let (read, marks) = times(&seconds);
        assert_eq!((read[0], marks), (START + 1, vec![(0, Mark::Outlier)]), "{odd}");
    }
    // The second packet is the outlier, not the first.
    let mut seconds: Vec<i64> = (START..START + 30).collect();
    seconds[1] = IN_2055;
    assert_eq!(times(&seconds).1, [(1, Mark::Outlier)]);
}

#[test]
fn last_packet_may_be_off_by_up_to_a_year() {
    let mut seconds: Vec<i64> = (START..START + 10).collect();
    for (odd, marks) in [
        (IN_2055, vec![(9, Mark::Outlier)]),
        (0, vec![(9, Mark::Outlier)]),
        (START + 300 * DAY, vec![]),
        (START - 300 * DAY, vec![(9, Mark::Back)]),
    ] {
        seconds[9] = odd;
        assert_eq!(times(&seconds).1, marks, "{odd}");
    }
}

#[test]
fn looks_ahead_beyond_the_block() {
    // Records have 76 bytes, so a block holds about 3,449.
    for at in (3_430..3_470).chain([6_890, 6_899]) {
        let mut seconds: Vec<i64> = (0..7_000).map(|at| START + at / 100).collect();
        seconds[at] = IN_2055;
        let (read, marks) = times(&seconds);
        assert_eq!(marks, [(at, Mark::Outlier)]);
        assert_eq!((read.len(), read[at]), (7_000, START + (at as i64 - 1) / 100));
    }
}

#[test]
fn time_goes_back_if_packets_do_not_return() {
    let seconds: Vec<i64> = (0..50).chain(-600..-500).map(|at| START + at).collect();
    assert_eq!(times(&seconds), (seconds, vec![(50, Mark::Back)]));
    // Packets are out of order, but time goes on.
    let seconds: Vec<i64> = (0..50).chain([20, 30]).chain(50..60).map(|at| START + at).collect();
    assert_eq!(times(&seconds), (seconds, vec![]));
}

fn section(writer: &mut PcapNgWriter, start: i64, packets: i64) {
    writer.section(Order::Little).interface(1, 0, Some(0), None);
    for second in start..start + packets {
        writer.enhanced(0, second as u64, 60, &[1; 60]);
    }
}

#[test]
fn each_section_has_its_own_time() {
    let mut writer = PcapNgWriter::new(Order::Little);
    section(&mut writer, START + 10 * DAY, 5);
    section(&mut writer, START, 5);
    section(&mut writer, START + 20 * DAY, 5);
    section(&mut writer, IN_2055, 1);
    let outcome = read_all(&writer.bytes);
    assert_eq!(outcome.marks, [(5, Mark::Back)]);
    assert_eq!(outcome.complete().len(), 16);
}

#[test]
fn counts_and_reports_times_out_of_range() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, Some(0), None);
    for second in [9_300_000_000, 9_300_000_001, 9_300_000_002] {
        writer.enhanced(0, second, 4, &[1; 4]);
    }
    let outcome = read_all(&writer.bytes);
    assert!(outcome.warnings[0].starts_with(
        "3 packets with a time outside the years 1823 to 2262, the first is packet 1;"
    ));
    assert_eq!(outcome.warnings.len(), 1);
    let packets = outcome.complete();
    assert_eq!(packets.len(), 3);
    assert!(packets[0].time > 9_000_000_000 * SECOND && packets[0].time == packets[2].time);
}

#[test]
fn reports_capture_without_times() {
    let mut writer = PcapNgWriter::new(Order::Little);
    writer.interface(1, 0, None, None).simple(4, &[1; 4]).simple(4, &[1; 4]);
    let warnings = read_all(&writer.bytes).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("no packet has a timestamp"), "{warnings:?}");
    let all_zero = read_seconds(&[0, 0, 0]).warnings;
    assert_eq!(all_zero, warnings);
    assert!(read_seconds(&[0, 0, 1]).warnings.is_empty());
}

proptest! {
    /// For any times, no packet is lost, and only outliers get another time.
    #[test]
    fn loses_no_packet(
        seconds in prop::collection::vec(prop_oneof![
            8 => START..START + 100, 1 => 0..IN_2055, 1 => START..START + 20 * HOUR,
        ], 0..200),
    ) {
        let (read, marks) = times(&seconds);
        prop_assert_eq!(read.len(), seconds.len());
        for (at, (read, second)) in read.iter().zip(&seconds).enumerate() {
            prop_assert!(read == second || marks.contains(&(at, Mark::Outlier)));
        }
    }
}
