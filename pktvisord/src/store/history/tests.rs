//! Tests of the history on real files.

use std::sync::Arc;

use pktvisor_common::direction::Direction;
use pktvisor_common::flow::mix;
use pktvisor_common::sketch::key::FleetKey;
use pktvisor_common::summary::cumulative::Cumulative;
use pktvisor_common::time::Timestamp;

use super::*;
use crate::store::feed::PolicyName;

/// The first minute of 2026-11-01 in UTC.
const FIRST: i64 = 1_793_491_200 / 60;

fn counted() -> Counted {
    let terms = Terms { ports: vec![53], public_suffix: false, mask: None, names: None };
    Counted { terms, keyed: FleetKey::default().into() }
}

fn open(folder: &Path, keep: Keep) -> History {
    open_for(folder, keep, Repeats::Replace)
}

fn open_for(folder: &Path, keep: Keep, repeats: Repeats) -> History {
    History::open(folder, PolicyName::DEFAULT.as_str(), keep, repeats).unwrap()
}

/// Stores a minute and merges and removes periods with it.
fn add(history: &History, closed: &Closed, counted: &Counted) {
    history.add(closed, counted).unwrap();
    history.keep_up(closed).unwrap();
}

/// Returns a minute with `1 + minute % 7` packets in each second, for `names` names.
fn minute(minute: i64, names: u64) -> Closed {
    let (start, end) = (Timestamp::from_minute(minute), Timestamp::from_minute(minute + 1));
    let mut summary = Summary::empty(minute, start, end);
    let packets = 1 + minute as u64 % 7;
    let mut seconds = pktvisor_common::summary::rates::Minute::default();
    for second in 0..60 {
        seconds.second(second).packets[Direction::In] = packets;
    }
    summary.rates = pktvisor_common::summary::rates::Rates::of(minute, seconds);
    summary.totals.packets[Direction::In] = 60 * packets;
    for name in 0..names {
        let key = mix(name + minute as u64 % 3 + 1);
        summary.dns.qnames.insert(key);
        summary.dns.qname2.add(key, 1 + name % 5, || format!("n{name}").into());
    }
    Closed {
        policy: PolicyName::DEFAULT,
        summary: Arc::new(summary),
        cumulative: Arc::new(Cumulative::default()),
    }
}

fn all(history: &History, resolution: Resolution) -> Vec<(Stored, Summary)> {
    of(history, resolution, Detail::Full)
}

fn of(history: &History, resolution: Resolution, detail: Detail) -> Vec<(Stored, Summary)> {
    let stored = history.list(resolution, detail, i64::MIN, i64::MAX).unwrap();
    let read = stored.into_iter().map(|stored| {
        let part = history.read(&stored).unwrap().unwrap();
        assert_eq!(part.counted, counted());
        (stored, part.summary)
    });
    read.collect()
}

/// Three days, with a pause, in a process that ends now and then.
#[test]
fn hours_and_days_are_the_merge_of_their_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path(), Keep::default());
    let minutes =
        (FIRST..=FIRST + 3 * 1440).filter(|minute| !(90..200).contains(&(minute - FIRST)));
    let mut expected = std::collections::BTreeMap::<i64, u64>::new();
    for number in minutes {
        let closed = minute(number, 3);
        let hour = Resolution::Hour.start_of(number * 60);
        *expected.entry(hour).or_default() += closed.summary.totals.total();
        if number % 217 == 0 {
            drop(history);
            history = open(folder.path(), Keep::default());
        }
        add(&history, &closed, &counted());
    }
    // The last hour is not over.
    expected.pop_last();
    let hours = all(&history, Resolution::Hour);
    let counts = hours.iter().map(|(stored, hour)| (stored.period, hour.totals.total()));
    assert_eq!(counts.collect::<Vec<_>>(), Vec::from_iter(expected.clone()));
    let days = all(&history, Resolution::Day);
    assert_eq!(
        days.iter().map(|(stored, _)| stored.period - FIRST * 60).collect::<Vec<_>>(),
        [0, 86_400, 172_800]
    );
    let total: u64 = days.iter().map(|(_, day)| day.totals.total()).sum();
    assert_eq!(total, expected.values().sum::<u64>());
    assert_eq!(days[0].0.covered, (1440 - 110) * 60, "a pause");
    let rates = days[1].1.rate_percentiles().pps_in.unwrap();
    assert_eq!((rates.p50, rates.p99), (4, 7));
    assert_eq!(days[1].1.dns.qnames.count(100), 5);
    let second: Vec<i64> = days.iter().map(|(_, day)| day.start.second()).collect();
    assert_eq!(second, [FIRST * 60, FIRST * 60 + 86_400, FIRST * 60 + 172_800]);
}

#[test]
fn late_minutes_count_in_the_hour_and_day_that_were_over() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), Keep::default());
    for number in [FIRST, FIRST + 61, FIRST + 1441, FIRST + 2, FIRST + 185] {
        add(&history, &minute(number, 1), &counted());
    }
    let of = |resolution| -> Vec<(i64, u64)> {
        let periods = all(&history, resolution).into_iter();
        periods.map(|(stored, one)| ((stored.period / 60) - FIRST, one.totals.total())).collect()
    };
    let packets = |number: i64| minute(number, 0).summary.totals.total();
    let [first, second, fourth] =
        [packets(FIRST) + packets(FIRST + 2), packets(FIRST + 61), packets(FIRST + 185)];
    assert_eq!(of(Resolution::Hour), [(0, first), (60, second), (180, fourth)]);
    assert_eq!(of(Resolution::Day), [(0, first + second + fourth)]);
}

#[test]
fn old_minutes_lose_their_lists_and_then_go() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { minutes: 7_200, counters: 14_400, hours: 36_000, ..Keep::default() };
    let history = open(folder.path(), keep);
    for number in FIRST..FIRST + 1441 {
        add(&history, &minute(number, 2), &counted());
    }
    let full = all(&history, Resolution::Minute);
    assert_eq!(full.first().unwrap().0.period, (FIRST + 1440 - 120) * 60);
    assert!(full.iter().all(|(_, minute)| minute.dns.qname2.entries().len() == 2));
    let minutes = of(&history, Resolution::Minute, Detail::Counters);
    assert_eq!(minutes.first().unwrap().0.period, (FIRST + 1440 - 240) * 60);
    for (_, minute) in &minutes {
        assert!(minute.dns.qname2.entries().is_empty());
        assert!(minute.totals.total() > 0 && minute.rate_percentiles().pps_in.is_some());
    }
    let hours = all(&history, Resolution::Hour);
    assert_eq!(hours.first().unwrap().0.period, (FIRST + 1440 - 600) * 60);
    assert!(hours.iter().all(|(_, hour)| hour.dns.qname2.entries().len() >= 2));
}

#[test]
fn the_finest_and_oldest_go_first_at_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { bytes: 2 << 20, ..Keep::default() };
    let history = open(folder.path(), keep);
    for number in FIRST..FIRST + 400 {
        add(&history, &minute(number, 2_000), &counted());
        let size: u64 = ["history.db", "history.db-wal"]
            .iter()
            .map(|file| std::fs::metadata(folder.path().join(file)).unwrap().len())
            .sum();
        assert!(size <= keep.bytes + (8 << 20), "{size} at {number}");
    }
    let used = history.database.bytes().unwrap();
    assert!(used <= keep.bytes && used > keep.bytes * 9 / 10, "{used}");
    let minutes = history.list(Resolution::Minute, Detail::Full, i64::MIN, i64::MAX).unwrap();
    assert_eq!(minutes.last().unwrap().period, (FIRST + 399) * 60);
    assert_eq!(history.list(Resolution::Hour, Detail::Full, i64::MIN, i64::MAX).unwrap().len(), 6);
}

/// A host without a battery starts in the wrong year, until the time comes from the network.
#[test]
fn a_clock_that_was_wrong_removes_nothing_and_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), Keep::default());
    let far = FIRST + 20 * 365 * 1_440;
    for number in (FIRST..FIRST + 730).chain(far..far + 70).chain(FIRST + 730..FIRST + 1_000) {
        add(&history, &minute(number, 1), &counted());
    }
    let near = |resolution, detail| -> Vec<(i64, u64)> {
        let all = of(&history, resolution, detail).into_iter();
        let near = all.filter(|(stored, _)| stored.period < far * 60);
        near.map(|(stored, one)| (stored.period / 60 - FIRST, one.totals.total())).collect()
    };
    let packets = |hour: i64| -> u64 {
        let minutes = FIRST + 60 * hour..FIRST + 60 * (hour + 1);
        minutes.map(|number| minute(number, 0).summary.totals.total()).sum()
    };
    // Some of the oldest went while the year was wrong. The rest is whole.
    let gone = 70 * i64::from(EXPIRED);
    let hours = near(Resolution::Hour, Detail::Full).into_iter();
    let whole: Vec<(i64, u64)> = hours.filter(|(start, _)| *start >= gone).collect();
    let expected: Vec<(i64, u64)> =
        (gone / 60 + 1..16).map(|hour| (60 * hour, packets(hour))).collect();
    assert_eq!(whole, expected);
    let gone = 70 * EXPIRED as usize;
    assert_eq!(near(Resolution::Minute, Detail::Full).len(), 1_000 - gone);
    assert_eq!(near(Resolution::Minute, Detail::Counters).len(), 1_000 - gone);
}

/// Hours that fill the bound must not take the minutes that the running hour needs.
#[test]
fn hours_are_whole_at_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { bytes: 800 << 10, ..Keep::default() };
    let history = open(folder.path(), keep);
    for number in FIRST..=FIRST + 50 * 60 {
        add(&history, &minute(number, 200), &counted());
    }
    let hours = all(&history, Resolution::Hour);
    assert!(hours.len() > 5 && hours.len() < 50, "{}", hours.len());
    assert!(hours.iter().all(|(stored, _)| stored.covered == 3_600));
    let days = all(&history, Resolution::Day);
    assert!(days.iter().all(|(stored, _)| stored.covered == 86_400), "{}", days.len());
    assert!(history.database.bytes().unwrap() <= keep.bytes);
}

/// Captures of other times are replayed into a history, the newest first.
#[test]
fn hours_and_days_do_not_depend_on_the_order_of_captures() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), Keep::default());
    for first in [FIRST + 2_880, FIRST, FIRST + 1_440, FIRST + 4_320, FIRST] {
        for number in first + 30..first + 110 {
            add(&history, &minute(number, 1), &counted());
        }
    }
    add(&history, &minute(FIRST + 7_200, 1), &counted());
    let covered = |resolution| -> Vec<u64> {
        all(&history, resolution).iter().map(|(stored, _)| stored.covered).collect()
    };
    assert_eq!(covered(Resolution::Hour), [1_800, 3_000].repeat(4));
    assert_eq!(covered(Resolution::Day), [4_800; 4]);
}

/// The clock of a live daemon is set back by ten minutes.
#[test]
fn live_minutes_with_the_same_start_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let history = open_for(folder.path(), Keep::default(), Repeats::Add);
    for number in (FIRST..FIRST + 65).chain(FIRST + 55..FIRST + 121) {
        add(&history, &minute(number, 1), &counted());
    }
    let packets = |minutes: std::ops::Range<i64>| -> u64 {
        minutes.map(|at| minute(FIRST + at, 0).summary.totals.total()).sum()
    };
    let hours: Vec<u64> =
        all(&history, Resolution::Hour).iter().map(|(_, hour)| hour.totals.total()).collect();
    assert_eq!(hours, [packets(0..60) + packets(55..60), packets(60..120) + packets(60..65)]);
}

/// Bits can flip on a disk.
#[test]
fn a_damaged_period_is_left_out_and_the_others_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), Keep::default());
    for number in FIRST..FIRST + 60 {
        if number == FIRST + 30 {
            let stored =
                history.list(Resolution::Minute, Detail::Full, i64::MIN, i64::MAX).unwrap();
            history.database.damage(stored[7].id);
        }
        add(&history, &minute(number, 1), &counted());
    }
    add(&history, &minute(FIRST + 60, 1), &counted());
    let hours = all(&history, Resolution::Hour);
    assert_eq!((hours.len(), hours[0].0.covered), (1, 59 * 60));
}

/// The replay of a capture brings the same minutes again.
#[test]
fn minutes_that_come_again_are_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), Keep::default());
    let add_all = || {
        for number in FIRST..FIRST + 1_500 {
            add(&history, &minute(number, 1), &counted());
        }
        Resolution::ALL.map(|resolution| {
            let all = of(&history, resolution, Detail::Counters).into_iter();
            all.map(|(stored, one)| (stored.period, one.totals.total())).collect::<Vec<_>>()
        })
    };
    let (once, twice) = (add_all(), add_all());
    assert!(once == twice);
}

/// Another DNS port makes an hour of two parts.
#[test]
fn an_hour_has_a_part_for_each_set_of_terms() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), Keep::default());
    let mut other = counted();
    other.terms.ports.push(5353);
    for number in FIRST..FIRST + 61 {
        let counted = if number < FIRST + 20 { counted() } else { other.clone() };
        add(&history, &minute(number, 1), &counted);
    }
    let hours = history.list(Resolution::Hour, Detail::Full, i64::MIN, i64::MAX).unwrap();
    let spans: Vec<_> = hours.iter().map(|hour| hour.end.second() - hour.start.second()).collect();
    assert_eq!(spans, [20 * 60, 40 * 60]);
    assert_eq!(history.read(&hours[1]).unwrap().unwrap().counted, other);
}
