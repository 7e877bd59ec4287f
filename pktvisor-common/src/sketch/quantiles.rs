//! Quantiles of values, with `hdrhistogram`.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Maximum value; higher ones count as this one. Enough for 12 days in microseconds or 1 Tbit/s.
pub const MAX_VALUE: u64 = (1 << 40) - 1;
/// Two significant digits: values in one cell differ by at most 1/128. The middle of the cell is
/// reported.
const DIGITS: u8 = 2;

/// The distribution of values from 0 to [`MAX_VALUE`]. Allocates memory at the first value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Quantiles(Option<Histogram<u64>>);

/// Percentiles of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 95th percentile.
    pub p95: u64,
    /// The 99th percentile.
    pub p99: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_VALUE, DIGITS).expect("the bounds are constants that fit")
}

impl Quantiles {
    /// Records `value` `count` times.
    #[inline]
    pub fn record(&mut self, value: u64, count: u64) {
        self.0.get_or_insert_with(histogram).saturating_record_n(value, count);
    }

    /// Returns the number of recorded values.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// Merges `other` into this distribution.
    pub fn merge(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            self.0
                .get_or_insert_with(histogram)
                .add(other)
                .expect("all histograms have the same bounds");
        }
    }

    /// Returns the percentiles; `None` without values. Each is within 0.4 % of the value at index
    /// min(n−1, ⌊n·q⌋) of the sorted values.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let counts = histogram
            .iter_recorded()
            .map(|value| (value.value_iterated_to(), value.count_since_last_iteration()));
        from_counts(histogram.len(), counts, |value| histogram.median_equivalent(value))
    }
}

/// Returns the exact percentiles of sorted `values` preceded by this many zeros; `None` without
/// values.
pub fn of_sorted(zeros: u64, values: &[u64]) -> Option<Percentiles> {
    let counts = std::iter::once((0, zeros)).chain(values.iter().map(|&value| (value, 1)));
    from_counts(zeros.saturating_add(values.len() as u64), counts, |value| value)
}

/// Returns the percentiles of `total` values, given as pairs of a value and its count in ascending
/// order of values. `value` converts a value to the reported number.
pub(super) fn from_counts(
    total: u64,
    counts: impl Iterator<Item = (u64, u64)>,
    value: impl Fn(u64) -> u64,
) -> Option<Percentiles> {
    let last = total.checked_sub(1)?;
    let ranks = [50u64, 90, 95, 99]
        .map(|percent| last.min((u128::from(total) * u128::from(percent) / 100) as u64));
    let mut found = [0; 4];
    let mut next = 0;
    let mut seen = 0u64;
    for (at, count) in counts {
        seen = seen.saturating_add(count);
        while next < ranks.len() && ranks[next] < seen {
            found[next] = value(at);
            next += 1;
        }
    }
    let [p50, p90, p95, p99] = found;
    Some(Percentiles { p50, p90, p95, p99 })
}

/// The byte form of [`Quantiles`]: pairs of a value and its count, in ascending order of values.
#[derive(Serialize, Deserialize)]
struct State(Vec<(u64, u64)>);

impl From<Quantiles> for State {
    fn from(quantiles: Quantiles) -> Self {
        State(
            quantiles
                .0
                .iter()
                .flat_map(|histogram| histogram.iter_recorded())
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect(),
        )
    }
}

impl TryFrom<State> for Quantiles {
    type Error = String;

    fn try_from(State(counts): State) -> Result<Self, String> {
        let mut quantiles = Self::default();
        let mut total = 0u64;
        for (value, count) in counts {
            if value > MAX_VALUE {
                return Err(format!("a value of {value}, above {MAX_VALUE}"));
            }
            total = total.checked_add(count).ok_or("counts overflow 64 bits")?;
            quantiles.record(value, count);
        }
        Ok(quantiles)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        values.iter().for_each(|&value| quantiles.record(value, 1));
        quantiles
    }

    proptest! {
        #[test]
        fn stays_within_one_percent_of_the_sorted_values(mut values in prop::collection::vec(0..MAX_VALUE, 1..300)) {
            let got = of(&values).percentiles().unwrap();
            values.sort_unstable();
            let want = of_sorted(0, &values).unwrap();
            for (got, want) in [(got.p50, want.p50), (got.p90, want.p90), (got.p95, want.p95), (got.p99, want.p99)] {
                prop_assert!(got.abs_diff(want) * 100 <= want, "{} for {}", got, want);
            }
        }

        #[test]
        fn merges_exactly_and_round_trips_the_byte_form(
            a in prop::collection::vec(0..MAX_VALUE * 2, 0..100),
            b in prop::collection::vec(0..MAX_VALUE * 2, 0..100),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let all = of(&[a, b].concat());
            prop_assert_eq!(&merged, &all);
            let bytes = postcard::to_stdvec(&merged).unwrap();
            let back: Quantiles = postcard::from_bytes(&bytes).unwrap();
            prop_assert_eq!(back.percentiles(), all.percentiles());
            prop_assert_eq!(postcard::to_stdvec(&back).unwrap(), bytes);
        }
    }

    #[test]
    fn percentile_index_is_the_floor_of_n_q() {
        let values: Vec<u64> = (1..=10).collect();
        let quantiles = of_sorted(0, &values).unwrap();
        assert_eq!((quantiles.p50, quantiles.p90, quantiles.p99), (6, 10, 10));
        assert_eq!(of_sorted(0, &[]), None);
    }
}
