//! Counts per Unix second. Rates are computed from them when they are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::direction::{Direction, PerDirection};
use crate::sketch::quantiles::{Percentiles, Quantiles, of_sorted};
use crate::time::{SECONDS_OF_MINUTE, Timestamp};

/// Counts of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Packets by direction.
    pub packets: PerDirection<u64>,
    /// Bytes on the wire by direction.
    pub bytes: PerDirection<u64>,
    /// DNS messages.
    pub dns: u64,
}

impl Second {
    fn add(&mut self, other: &Self) {
        let Self { packets, bytes, dns } = self;
        packets.add(&other.packets);
        bytes.add(&other.bytes);
        *dns = dns.saturating_add(other.dns);
    }

    /// Returns the series that have percentiles: packets and bits in, out and in total, DNS messages.
    fn series(&self) -> [u64; SERIES] {
        let Self { packets, bytes, dns } = self;
        let bits = |bytes: u64| bytes.saturating_mul(8);
        [
            packets[Direction::In],
            packets[Direction::Out],
            packets.total(),
            bits(bytes[Direction::In]),
            bits(bytes[Direction::Out]),
            bits(bytes.total()),
            *dns,
        ]
    }
}

const SERIES: usize = 7;

/// Percentiles of the per-second counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePercentiles {
    /// Packets to HOST.
    pub pps_in: Option<Percentiles>,
    /// Packets from HOST.
    pub pps_out: Option<Percentiles>,
    /// Packets of all directions.
    pub pps_total: Option<Percentiles>,
    /// Bits to HOST.
    pub bps_in: Option<Percentiles>,
    /// Bits from HOST.
    pub bps_out: Option<Percentiles>,
    /// Bits of all directions.
    pub bps_total: Option<Percentiles>,
    /// DNS messages.
    pub dns: Option<Percentiles>,
}

/// Minutes of a single summary whose seconds are kept one by one. Within them, overlapping parts of a
/// capture add up second by second.
const KEPT_MINUTES: usize = 256;

/// The 60 seconds of a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Second>")]
pub struct Minute(Vec<Second>);

impl Default for Minute {
    fn default() -> Self {
        Self(vec![Second::default(); SECONDS_OF_MINUTE as usize])
    }
}

impl TryFrom<Vec<Second>> for Minute {
    type Error = &'static str;

    fn try_from(seconds: Vec<Second>) -> Result<Self, Self::Error> {
        let fits = seconds.len() == SECONDS_OF_MINUTE as usize;
        fits.then_some(Self(seconds)).ok_or("a minute without exactly 60 seconds")
    }
}

impl Minute {
    /// Returns the given second of the minute, 0 to 59.
    #[inline]
    pub fn second(&mut self, at: usize) -> &mut Second {
        &mut self.0[at]
    }
}

/// Seconds by minute. Older seconds of a long summary are folded into one distribution per series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    minutes: BTreeMap<i64, Minute>,
    folded: [Quantiles; SERIES],
    /// End of the latest folded minute in Unix seconds, or the first full second if none was folded.
    /// If set, minutes without packets can be missing.
    folded_until: Option<i64>,
}

impl Rates {
    /// Creates the rates of one minute.
    pub fn of(minute: i64, seconds: Minute) -> Self {
        Self { minutes: BTreeMap::from([(minute, seconds)]), ..Self::default() }
    }

    /// Merges `other`: counts of the same second add up.
    pub fn merge(&mut self, other: &Self) {
        for (minute, seconds) in &other.minutes {
            let mine = self.minutes.entry(*minute).or_default();
            mine.0.iter_mut().zip(&seconds.0).for_each(|(mine, theirs)| mine.add(theirs));
        }
        for (mine, theirs) in self.folded.iter_mut().zip(&other.folded) {
            mine.merge(theirs);
        }
        self.folded_until = self.folded_until.max(other.folded_until);
    }

    /// Folds all but the latest `KEPT_MINUTES` minutes into the distributions and removes them.
    /// Seconds that are not full, because they are before `start`, are left out. Minutes without
    /// packets may be missing.
    pub fn fold(&mut self, start: Timestamp) {
        self.fold_to(start, KEPT_MINUTES);
    }

    /// Folds all minutes into the distributions, like [`Self::fold`].
    pub fn fold_all(&mut self, start: Timestamp) {
        self.fold_to(start, 0);
    }

    fn fold_to(&mut self, start: Timestamp, kept: usize) {
        let from = start.next_second();
        let mut until = self.folded_until.unwrap_or(from);
        while self.minutes.len() > kept
            && let Some((minute, seconds)) = self.minutes.pop_first()
        {
            let first = minute.saturating_mul(SECONDS_OF_MINUTE);
            for (_, counts) in (first..).zip(&seconds.0).filter(|(second, _)| *second >= from) {
                for (folded, value) in self.folded.iter_mut().zip(counts.series()) {
                    folded.record(value, 1);
                }
            }
            until = until.max(first.saturating_add(SECONDS_OF_MINUTE));
        }
        self.folded_until = Some(until);
    }

    /// Returns the number of minutes whose seconds are kept one by one.
    pub fn minutes(&self) -> usize {
        self.minutes.len()
    }

    /// Returns true if [`Self::fold`] was called on it or on a merged part: minutes can be missing.
    pub fn is_folded(&self) -> bool {
        self.folded_until.is_some()
    }

    /// Returns the counts of a Unix second.
    pub fn second(&self, second: i64) -> Second {
        let minute = second.div_euclid(SECONDS_OF_MINUTE);
        let at = second.rem_euclid(SECONDS_OF_MINUTE) as usize;
        self.minutes.get(&minute).map(|seconds| seconds.0[at]).unwrap_or_default()
    }

    /// Returns percentiles over the full seconds from `start` to `end`, idle ones included. Each is
    /// `None` without a full second.
    pub fn percentiles(&self, start: Timestamp, end: Timestamp) -> RatePercentiles {
        let seconds = end.second().saturating_sub(start.next_second());
        self.percentiles_covering(start, end, seconds.max(0).unsigned_abs())
    }

    /// Does the same if only `covered` of these seconds were counted, because the counting was
    /// interrupted: the others are not idle.
    pub fn percentiles_covering(
        &self,
        start: Timestamp,
        end: Timestamp,
        covered: u64,
    ) -> RatePercentiles {
        let columns = self.columns(start.next_second()..end.second());
        let counted = columns[0].len() as u64 + self.folded[0].count();
        // Not listed one by one, because there can be many between two merged summaries.
        let idle = covered.saturating_sub(counted);
        let percentiles: [Option<Percentiles>; SERIES] = if self.folded[0].count() == 0 {
            columns.map(|mut column| {
                column.sort_unstable();
                of_sorted(idle, &column)
            })
        } else {
            let mut folded = self.folded.clone();
            for (folded, column) in folded.iter_mut().zip(columns) {
                folded.record(0, idle);
                column.iter().for_each(|&value| folded.record(value, 1));
            }
            folded.map(|folded| folded.percentiles())
        };
        let [pps_in, pps_out, pps_total, bps_in, bps_out, bps_total, dns] = percentiles;
        RatePercentiles { pps_in, pps_out, pps_total, bps_in, bps_out, bps_total, dns }
    }

    /// Returns the values of each series in `seconds`, without those of missing minutes.
    fn columns(&self, seconds: std::ops::Range<i64>) -> [Vec<u64>; SERIES] {
        let mut columns: [Vec<u64>; SERIES] = Default::default();
        if seconds.is_empty() {
            return columns;
        }
        let minute = |second: i64| second.div_euclid(SECONDS_OF_MINUTE);
        for (minute, counts) in self.minutes.range(minute(seconds.start)..=minute(seconds.end)) {
            let numbers = minute.saturating_mul(SECONDS_OF_MINUTE)..;
            for (_, second) in numbers.zip(&counts.0).filter(|(at, _)| seconds.contains(at)) {
                for (column, value) in columns.iter_mut().zip(second.series()) {
                    column.push(value);
                }
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn minute(packets: impl Fn(u64) -> u64) -> Minute {
        let mut minute = Minute::default();
        for at in 0..60 {
            minute.second(at as usize).packets[Direction::In] = packets(at);
        }
        minute
    }

    #[test]
    fn partial_seconds_do_not_count() {
        let rates = Rates::of(1, minute(|at| if at < 3 { 10 + at } else { 0 }));
        let pps = |start, end| {
            let (start, end) = (Timestamp::from_nanos(start), Timestamp::from_nanos(end));
            rates.percentiles(start, end).pps_in.map(|pps| (pps.p50, pps.p99))
        };
        let second = SECOND.as_nanos();
        assert_eq!(pps(60 * second, 63 * second), Some((11, 12)));
        assert_eq!(pps(60 * second + 1, 62 * second + 999), Some((11, 11)), "one full second");
        assert_eq!(pps(60 * second + 1, 61 * second + 999), None);
        assert_eq!(pps(61 * second, 64 * second), Some((11, 12)), "the idle one is the least");
    }

    #[test]
    fn seconds_that_were_not_counted_are_not_idle() {
        let mut rates = Rates::of(1, minute(|_| 4));
        rates.merge(&Rates::of(5, minute(|_| 4)));
        let (start, end) = (Timestamp::from_minute(1), Timestamp::from_minute(6));
        let least = |rates: &Rates, covered| {
            rates.percentiles_covering(start, end, covered).pps_in.unwrap().p50
        };
        assert_eq!(rates.percentiles(start, end).pps_in.unwrap().p50, 0);
        assert_eq!((least(&rates, 300), least(&rates, 120)), (0, 4));
        rates.fold_all(start);
        assert_eq!((least(&rates, 300), least(&rates, 120), least(&rates, 1)), (0, 4, 4));
    }

    #[test]
    fn folding_keeps_the_distribution() {
        let minutes = KEPT_MINUTES as i64 + 3;
        let (start, end) = (Timestamp::from_minute(1), Timestamp::from_minute(minutes + 2));
        let mut whole = Rates::default();
        let mut folded = Rates::default();
        // Adds the last minute first, and leaves out the second one.
        for number in [minutes].into_iter().chain([1]).chain(3..minutes) {
            let minute = Rates::of(number, minute(|at| at + number as u64));
            whole.merge(&minute);
            folded.merge(&minute);
            folded.fold(start);
        }
        assert_eq!((folded.minutes(), whole.minutes()), (KEPT_MINUTES, minutes as usize - 1));
        let exact = whole.percentiles(start, end);
        let near = folded.percentiles(start, end);
        let (exact, near) = (exact.pps_in.unwrap(), near.pps_in.unwrap());
        for (near, exact) in [(near.p50, exact.p50), (near.p99, exact.p99)] {
            assert!(near.abs_diff(exact) * 100 <= exact, "{near} for {exact}");
        }
        // Nothing but idle seconds is added by time that passes.
        let idle = folded.percentiles(start, Timestamp::from_minute(minutes * 100));
        assert_eq!(idle.pps_in.unwrap().p50, 0);
    }
}
