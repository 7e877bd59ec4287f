//! Distinct counts: exact while small, then HyperLogLog.

use std::collections::HashSet;

use ahash::RandomState;
use serde::{Deserialize, Serialize};

use super::hyperloglog::{ERROR_PCT, HyperLogLog};

/// Maximum distinct hashes that are stored and counted exactly.
pub const EXACT: usize = 8192;

/// A count of distinct hashes.
///
/// Its state depends only on the set of hashes, not on their order, so it merges exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Cardinality(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Exact(HashSet<u64, RandomState>),
    Sketch(HyperLogLog),
}

impl Default for Cardinality {
    fn default() -> Self {
        Self(Inner::Exact(HashSet::default()))
    }
}

impl Cardinality {
    /// Adds a hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        match &mut self.0 {
            Inner::Sketch(sketch) => sketch.insert(hash),
            Inner::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT {
                    let mut sketch = HyperLogLog::default();
                    hashes.iter().for_each(|&hash| sketch.insert(hash));
                    self.0 = Inner::Sketch(sketch);
                }
            }
        }
    }

    /// Returns true if no hash was added.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Inner::Exact(hashes) if hashes.is_empty())
    }

    /// Merges `other` into this count.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Inner::Sketch(sketch), Inner::Sketch(other)) => sketch.merge(other),
            (Inner::Exact(hashes), Inner::Sketch(other)) => {
                let mut sketch = other.clone();
                hashes.iter().for_each(|&hash| sketch.insert(hash));
                self.0 = Inner::Sketch(sketch);
            }
            (_, Inner::Exact(hashes)) => hashes.iter().for_each(|&hash| self.insert(hash)),
        }
    }

    /// Returns the number of distinct hashes among `items` counted items. `items` caps the estimate.
    pub fn count(&self, items: u64) -> u64 {
        match &self.0 {
            Inner::Exact(hashes) => hashes.len() as u64,
            Inner::Sketch(sketch) => (sketch.estimate().round() as u64).min(items),
        }
    }

    /// Returns the standard error of [`Self::count`] in percent, for items chosen without knowledge of
    /// the hash key; 0 while the count is exact.
    pub fn error_pct(&self) -> f64 {
        match &self.0 {
            Inner::Exact(_) => 0.0,
            Inner::Sketch(_) => ERROR_PCT,
        }
    }
}

/// The byte form of a [`Cardinality`].
#[derive(Serialize, Deserialize)]
enum State {
    /// The hashes in ascending order.
    Exact(Vec<u64>),
    /// One byte per register.
    Registers(Vec<u8>),
}

impl From<Cardinality> for State {
    fn from(cardinality: Cardinality) -> Self {
        match cardinality.0 {
            Inner::Exact(hashes) => {
                let mut hashes: Vec<u64> = hashes.into_iter().collect();
                hashes.sort_unstable();
                State::Exact(hashes)
            }
            Inner::Sketch(sketch) => State::Registers(sketch.registers().to_vec()),
        }
    }
}

impl TryFrom<State> for Cardinality {
    type Error = String;

    fn try_from(state: State) -> Result<Self, String> {
        match state {
            State::Exact(hashes) if hashes.len() <= EXACT => {
                Ok(Self(Inner::Exact(hashes.into_iter().collect())))
            }
            State::Exact(hashes) => Err(format!("{} hashes; the maximum is {EXACT}", hashes.len())),
            State::Registers(registers) => Ok(Self(Inner::Sketch(HyperLogLog::of(&registers)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::mix;

    fn of(range: std::ops::Range<u64>) -> Cardinality {
        let mut cardinality = Cardinality::default();
        range.for_each(|value| cardinality.insert(mix(value + 1)));
        cardinality
    }

    fn bytes(cardinality: &Cardinality) -> Vec<u8> {
        postcard::to_stdvec(cardinality).unwrap()
    }

    #[test]
    fn counts_exactly_while_small() {
        assert_eq!(of(0..EXACT as u64).count(0), EXACT as u64);
        assert_eq!(of(0..EXACT as u64).error_pct().to_bits(), 0f64.to_bits());
    }

    #[test]
    fn stays_within_three_standard_errors_when_large() {
        for count in [EXACT as u64 + 1, 20_000, 100_000, 1_000_000] {
            let cardinality = of(0..count);
            let error =
                (cardinality.count(u64::MAX) as f64 - count as f64).abs() / count as f64 * 100.0;
            assert!(error <= 3.0 * cardinality.error_pct(), "{count}: {error} %");
        }
    }

    #[test]
    fn count_never_exceeds_the_number_of_items() {
        let cardinality = of(0..50_000);
        assert!(cardinality.count(u64::MAX) > 49_000);
        assert_eq!(cardinality.count(40_000), 40_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Merging, in either order, gives the same bytes as adding all hashes to one count.
        #[test]
        fn merges_exactly(a in 0..20_000u64, b in 0..20_000u64, from in 0..20_000u64) {
            let (left, right) = (of(0..a), of(from..from + b));
            let mut all = left.clone();
            (from..from + b).for_each(|value| all.insert(mix(value + 1)));
            let mut merged = left.clone();
            merged.merge(&right);
            let mut turned = right.clone();
            turned.merge(&left);
            prop_assert_eq!(bytes(&merged), bytes(&all));
            prop_assert_eq!(bytes(&turned), bytes(&all));
        }

        /// A decoded count is equal, and also continues equally.
        #[test]
        fn round_trips_the_byte_form(count in 0..30_000u64) {
            let cardinality = of(0..count);
            let mut back: Cardinality = postcard::from_bytes(&bytes(&cardinality)).unwrap();
            prop_assert_eq!(back.count(u64::MAX), cardinality.count(u64::MAX));
            back.merge(&of(count..count + 10));
            prop_assert_eq!(bytes(&back), bytes(&of(0..count + 10)));
        }
    }
}
