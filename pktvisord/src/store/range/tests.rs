//! Tests of ranges over real histories.

use std::collections::BTreeMap;
use std::time::Duration;

use pktvisor_common::direction::Direction;
use pktvisor_common::sketch::key::FleetKey;
use pktvisor_common::summary::cumulative::Cumulative;
use pktvisor_common::summary::state::Terms;
use proptest::prelude::*;

use super::*;
use crate::store::feed::{Closed, PolicyName};
use crate::store::history::{History, Keep, Repeats};
use crate::time::Timestamp;

/// The first minute of 2026-11-01 in UTC.
const FIRST: i64 = 1_793_491_200 / 60;

fn counted(port: u16) -> Counted {
    let terms = Terms { ports: vec![port], public_suffix: false, mask: None, names: None };
    Counted { terms, keyed: FleetKey::default().into() }
}

fn minute(minute: i64, packets: u64) -> Arc<Summary> {
    let (start, end) = (Timestamp::from_minute(minute), Timestamp::from_minute(minute + 1));
    let mut summary = Summary::empty(minute, start, end);
    summary.totals.packets[Direction::In] = packets;
    summary.dns.qname2.add(1, packets, || "a.example".into());
    Arc::new(summary)
}

fn closed(summary: Arc<Summary>) -> Closed {
    Closed { policy: PolicyName::DEFAULT, summary, cumulative: Arc::new(Cumulative::default()) }
}

fn series(all: &Ranges<'_>, from: i64, to: i64, step: i64) -> Result<(i64, Vec<Whole>)> {
    let mut parts = Vec::new();
    let step = all.series(from, to, step, &mut |part| parts.push(part.clone()))?;
    Ok((step, parts))
}

fn shared(folder: &tempfile::TempDir, keep: Keep) -> SharedHistory {
    SharedHistory::open(folder.path(), PolicyName::DEFAULT.as_str(), keep, Repeats::Add)
}

/// A history with minutes of known counts, and the newest ones in memory.
struct Case {
    folder: tempfile::TempDir,
    keep: Keep,
    /// Packets by minute.
    minutes: BTreeMap<i64, u64>,
    memory: Vec<Arc<Summary>>,
}

impl Case {
    /// Stores the minutes that `is_there`, of `count` ones.
    fn new(keep: Keep, count: i64, is_there: impl Fn(i64) -> bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = PolicyName::DEFAULT.as_str();
        let history = History::open(folder.path(), policy, keep, Repeats::Add).unwrap();
        let minutes = (0..count).filter(|&minute| is_there(minute));
        let minutes: BTreeMap<i64, u64> =
            minutes.map(|at| (FIRST + at, 1 + at.unsigned_abs() % 5)).collect();
        let all: Vec<_> = minutes.iter().map(|(&at, &packets)| minute(at, packets)).collect();
        // The last one is live.
        for stored in &all[..all.len().saturating_sub(1)] {
            let stored = closed(Arc::clone(stored));
            history.add(&stored, &counted(53)).unwrap();
            history.keep_up(&stored).unwrap();
        }
        let memory = all.into_iter().rev().take(5).rev().collect();
        Self { folder, keep, minutes, memory }
    }

    fn check(&self, ask: impl FnOnce(&Ranges<'_>)) {
        let history = shared(&self.folder, self.keep);
        assert_eq!(history.problem(), None);
        let until = Instant::now() + Duration::from_mins(1);
        ask(&Ranges::new(self.memory.iter().cloned(), counted(53), Some(&history), until));
    }

    /// Checks that a part has the packets of its minutes.
    fn check_part(&self, part: &Whole) {
        let minutes: Vec<u64> =
            self.minutes.range(part.from / 60..part.to / 60).map(|(_, &packets)| packets).collect();
        let span = (part.from / 60 - FIRST, part.to / 60 - FIRST);
        assert_eq!(part.summary.totals.total(), minutes.iter().sum::<u64>(), "{span:?}");
        assert_eq!(part.covered, 60 * minutes.len() as u64, "{span:?}");
        assert_eq!(part.left_out, 0);
        let lists: u64 = part.summary.dns.qname2.entries().iter().map(|entry| entry.estimate).sum();
        let expected = if part.detail == Detail::Full { minutes.iter().sum() } else { 0 };
        assert_eq!(lists, expected, "{span:?}");
    }
}

/// Minutes in full for 3 hours, their counters for 10 hours, hours for a day.
const SHORT: Keep =
    Keep { bytes: 1 << 30, minutes: 10_800, counters: 36_000, hours: 86_400, days: None };

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn ranges_have_the_packets_of_their_minutes(
        count in 1_i64..3_500,
        gaps in prop::collection::vec((0_i64..3_500, 1_i64..700), 0..4),
        ranges in prop::collection::vec((-100_i64..3_600, 1_i64..3_000), 40),
        steps in prop::collection::vec(1_i64..400, 4),
    ) {
        let case = Case::new(SHORT, count, |minute| {
            !gaps.iter().any(|&(at, length)| (at..at + length).contains(&minute))
        });
        let first = case.minutes.keys().next().copied().unwrap_or(i64::MAX);
        case.check(|all| {
            for &(start, length) in &ranges {
                let (from, to) = ((FIRST + start) * 60, (FIRST + start + length) * 60);
                let asked = case.minutes.range(from / 60..to / 60).count();
                match all.merged(from, to).unwrap() {
                    None => assert_eq!(asked, 0),
                    Some(part) => {
                        case.check_part(&part);
                        let last = case.minutes.keys().next_back().unwrap();
                        assert!(part.from <= from.max(first * 60));
                        assert!(part.to >= to.min((last + 1) * 60));
                        // It is widened to no more than days.
                        assert!(part.from > from - 86_400 && part.to < to + 86_400);
                        assert_eq!(part.detail, Detail::Full);
                    }
                }
                for &step in &steps {
                    let (served, parts) = match series(all, from, to, step * 60) {
                        Err(RangeError::TooManyParts) => continue,
                        served => served.unwrap(),
                    };
                    assert!(served >= step * 60);
                    let mut end = i64::MIN;
                    for part in &parts {
                        case.check_part(part);
                        assert_eq!((part.from % served, part.to - part.from), (0, served));
                        assert!(part.from >= end);
                        end = part.to;
                    }
                    let found: u64 = parts.iter().map(|part| part.covered).sum();
                    assert!(found >= 60 * asked as u64);
                }
            }
        });
    }
}

#[test]
fn the_finest_periods_that_are_left_answer() {
    let case = Case::new(SHORT, 3_500, |_| true);
    let end = (FIRST + 3_500) * 60;
    case.check(|all| {
        let merged = |from, to| all.merged(from, to).unwrap().unwrap();
        let recent = merged(end - 7_080, end - 600);
        assert_eq!((recent.from, recent.to), (end - 7_080, end - 600), "minutes are left");
        // Here only hours are, and there only days.
        let (hours, days) =
            (merged(end - 80_000, end - 79_000), merged(end - 200_000, end - 199_000));
        assert_eq!((hours.from % 3_600, hours.to - hours.from), (0, 3_600));
        assert_eq!((days.from % 86_400, days.to - days.from), (0, 86_400));
        let step = |from, step| series(all, from, from + 4_000, step).unwrap().0;
        assert_eq!(step(end - 4_000, 60), 60);
        assert_eq!(step(end - 30_000, 120), 120, "counters of minutes are left");
        assert_eq!(step(end - 80_000, 120), 3_600);
        assert_eq!(step(end - 200_000, 7_200), 86_400);
        let (_, parts) = series(all, end - 30_000, end - 29_000, 60).unwrap();
        assert!(parts.len() >= 16 && parts.iter().all(|part| part.detail == Detail::Counters));
        assert!(matches!(series(all, end - 36_000, end, 60), Err(RangeError::TooManyParts)));
    });
}

#[test]
fn periods_on_other_terms_are_left_out_and_counted() {
    let case = Case::new(SHORT, 10, |_| true);
    let until = Instant::now() + Duration::from_mins(1);
    let history = shared(&case.folder, SHORT);
    let ranges = Ranges::new(case.memory.iter().cloned(), counted(5353), Some(&history), until);
    let merged = ranges.merged(FIRST * 60, (FIRST + 10) * 60).unwrap().unwrap();
    assert_eq!((merged.left_out, merged.covered), (5, 300));
    let late =
        Ranges::new(case.memory.iter().cloned(), counted(53), Some(&history), Instant::now());
    std::thread::sleep(Duration::from_millis(2));
    assert!(matches!(late.merged(0, i64::MAX / 2), Err(RangeError::OutOfTime)));
}

#[test]
fn any_limits_are_accepted() {
    let case = Case::new(SHORT, 100, |_| true);
    case.check(|all| {
        for (from, to) in [(0, i64::MAX), (i64::MIN, 0), (i64::MAX, i64::MAX), (5, 5), (9, 3)] {
            assert!(all.merged(from, to).unwrap().is_none_or(|whole| whole.covered == 6_000));
            let _ = series(all, from, to, 60);
        }
    });
}
