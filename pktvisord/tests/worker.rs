//! A worker that the kernel feeds: minutes close on time, and the clock can be set.

use std::sync::Arc;

use pktvisor_common::abi::{Counters, Kind, SampleHeader};
use pktvisor_common::direction::Direction;
use pktvisor_common::sketch::key::FleetKey;
use pktvisord::aggregate::flows::Share;
use pktvisord::aggregate::geo::GeoDatabases;
use pktvisord::aggregate::settings::{DnsPorts, Settings};
use pktvisord::aggregate::worker::Worker;
use pktvisord::store::Store;
use pktvisord::store::minutes::Retention;
use pktvisord::time::{MINUTE, SECOND, Timestamp};

/// A time within a minute.
const NOW: Timestamp = Timestamp::from_second(28_000_000 * 60 + 20);

fn worker() -> (Worker, Store) {
    worker_of(settings())
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings::default())
}

fn worker_of(settings: Arc<Settings>) -> (Worker, Store) {
    let store = Store::inline(1, Retention { periods: 5, single: false });
    let share = Share { worker: 0, of: 1 };
    let mut worker = Worker::of_spread_packets(settings, store.intake(), share);
    worker.advance(NOW);
    (worker, store)
}

fn counted(packets: u64) -> Counters {
    Counters { packets: [packets, 0, 0], ..Counters::default() }
}

#[test]
fn closes_minutes_on_time_without_traffic() {
    let (mut worker, store) = worker();
    worker.advance(NOW + MINUTE - SECOND);
    assert_eq!(store.available(), 2, "the minute is over");
    worker.advance(NOW + 3 * MINUTE);
    assert_eq!(store.available(), 4, "and so are two that saw nothing");
}

#[test]
fn clock_step_starts_a_bucket_without_empty_ones_between() {
    for step in [60 * MINUTE, -60 * MINUTE, 3 * SECOND] {
        let (mut worker, store) = worker();
        worker.add_counted(&counted(7), Some(NOW));
        let before = NOW + 5 * SECOND;
        worker.restart(before, before + step);
        assert_eq!(store.available(), 2, "{step:?}");
        let closed = store.closed(1).unwrap();
        assert_eq!((closed.start, closed.end), (NOW, before), "{step:?}");
        assert_eq!(closed.totals.packets[Direction::In], 7, "{step:?}");
        // The next bucket ends at the end of its own minute.
        worker.add_counted(&counted(2), Some(before + step));
        let minute = (before + step).minute();
        worker.advance(Timestamp::from_minute(minute + 1));
        assert_eq!(store.available(), 3, "{step:?}");
        assert_eq!(store.closed(1).unwrap().totals.packets[Direction::In], 2, "{step:?}");
    }
}

#[test]
fn slow_reading_of_counters_adds_no_rate() {
    let (mut worker, _) = worker();
    worker.add_counted(&counted(10), Some(NOW + SECOND));
    worker.add_counted(&counted(500), None);
    let mut geo =
        pktvisord::aggregate::geo::Geo::new(Arc::new(GeoDatabases::default()), FleetKey::default());
    let end = NOW + 10 * SECOND;
    let summary = worker.snapshot(end).finish(end, &mut geo).0;
    assert_eq!(summary.totals.packets[Direction::In], 510);
    let seconds: u64 = (0..10)
        .map(|second| summary.rates.second(NOW.second() + second).packets[Direction::In])
        .sum();
    assert_eq!(seconds, 10);
}

#[test]
fn takes_losses_and_outcomes_from_the_kernel() {
    let (mut worker, _) = worker();
    let mut counted = counted(3);
    counted.outcomes[7] = 3;
    counted.lost[0][Kind::Dns as usize] = 2;
    counted.lost[3][Kind::Headers as usize] = 1;
    worker.add_counted(&counted, Some(NOW));
    // A record is inspected but not counted again.
    let header = SampleHeader {
        time: 0,
        wire_len: 42,
        weight: 4,
        n: 2,
        captured: 42,
        kind: Kind::Headers as u8,
        direction: 0,
        part: 0,
        flags: 0,
    };
    let mut bytes = [0u8; 42];
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..18].copy_from_slice(&[0x45, 0, 0, 28]);
    bytes[23] = 17;
    bytes[26..34].copy_from_slice(&[192, 0, 2, 7, 192, 0, 2, 1]);
    bytes[34..40].copy_from_slice(&[0, 9, 0, 10, 0, 8]);
    worker.sample(&header, &bytes, NOW);
    let mut geo =
        pktvisord::aggregate::geo::Geo::new(Arc::new(GeoDatabases::default()), FleetKey::default());
    let view = worker.snapshot(NOW).finish(NOW, &mut geo).0.view();
    assert_eq!(view.packets.total, 3);
    assert_eq!(view.capture.ring_full, 3);
    assert_eq!(view.capture.evictions["ring_full_dns"], 2);
    assert_eq!(view.capture.evictions["ring_full_headers"], 1);
    assert_eq!(view.packets.top_ports[0].name, "9/udp");
    assert_eq!(view.packets.top_ports[0].estimate, 8, "two segments that stand for four each");
}

#[test]
fn remembers_minutes_that_other_ports_counted() {
    let settings = settings();
    let (mut worker, _) = worker_of(Arc::clone(&settings));
    let now = NOW.minute();
    worker.reload();
    assert!(!settings.other_ports.cover(now), "nothing has changed");
    settings.ports.set(DnsPorts::new(&[53, 5300]));
    worker.reload();
    assert!(settings.other_ports.cover(now - 1) && settings.other_ports.cover(now));
    assert!(!settings.other_ports.cover(now + 1));
}
