//! Exact counts by a number of 16 bits (ports, types, codes, sizes): at most 65536 of them.

use pktvisor_common::api;
use serde::{Deserialize, Serialize};

use super::quantiles;

/// Cells of a group, as a power of 2.
const GROUP_BITS: u32 = 9;
const GROUPS: usize = 1 << (16 - GROUP_BITS);

/// Counts by number, one cell for each number: for the packet path. Groups of cells that were
/// counted in are known, so that taking a few counts costs as little as there are.
#[derive(Clone, Debug)]
pub struct FlatTally {
    counts: Box<[u64]>,
    /// The groups that were counted in.
    touched: [bool; GROUPS],
}

impl Default for FlatTally {
    fn default() -> Self {
        Self { counts: vec![0; 1 << 16].into_boxed_slice(), touched: [false; GROUPS] }
    }
}

impl FlatTally {
    /// Adds to the count of a number.
    #[inline]
    pub fn add(&mut self, number: u16, count: u64) {
        self.touched[usize::from(number >> GROUP_BITS)] = true;
        self.counts[usize::from(number)] += count;
    }

    /// The counts above 0; all are 0 then.
    pub fn take(&mut self) -> Tally {
        let mut taken = Vec::new();
        for (group, touched) in self.touched.iter_mut().enumerate() {
            if !std::mem::take(touched) {
                continue;
            }
            let first = group << GROUP_BITS;
            let cells = &mut self.counts[first..first + (1 << GROUP_BITS)];
            for (number, count) in (first..).zip(cells).filter(|(_, count)| **count > 0) {
                taken.push((number as u16, std::mem::take(count)));
            }
        }
        Tally(taken)
    }
}

/// Counts by number, numbers ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u64)>")]
pub struct Tally(Vec<(u16, u64)>);

impl Tally {
    /// Numbers and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The quantiles of the numbers; `None` where there are none.
    pub fn quantiles(&self) -> Option<api::Quantiles> {
        let total = self.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(count));
        let counts = self.iter().map(|(number, count)| (u64::from(number), count));
        quantiles::from_counts(total, counts, |number| number)
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.0.is_empty() {
            return;
        }
        let mine = std::mem::take(&mut self.0);
        let mut left = mine.into_iter().peekable();
        let mut right = other.iter().peekable();
        while let (Some(&(a, count_a)), Some(&(b, count_b))) = (left.peek(), right.peek()) {
            self.0.push(match a.cmp(&b) {
                std::cmp::Ordering::Less => (a, count_a),
                std::cmp::Ordering::Greater => (b, count_b),
                std::cmp::Ordering::Equal => (a, count_a.saturating_add(count_b)),
            });
            if a <= b {
                left.next();
            }
            if b <= a {
                right.next();
            }
        }
        self.0.extend(left);
        self.0.extend(right);
    }
}

impl TryFrom<Vec<(u16, u64)>> for Tally {
    type Error = &'static str;

    fn try_from(counts: Vec<(u16, u64)>) -> Result<Self, Self::Error> {
        let ascending = counts.is_sorted_by(|a, b| a.0 < b.0);
        ascending.then_some(Self(counts)).ok_or("numbers that do not ascend")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merges_like_a_map(a in prop::collection::vec((0..50u16, 1..9u64), 0..80), b in prop::collection::vec((0..50u16, 1..9u64), 0..80)) {
            let tally = |counts: &[(u16, u64)]| {
                let mut flat = FlatTally::default();
                counts.iter().for_each(|&(number, count)| flat.add(number, count));
                flat.take()
            };
            let mut map: BTreeMap<u16, u64> = BTreeMap::new();
            a.iter().chain(&b).for_each(|&(number, count)| *map.entry(number).or_default() += count);
            let mut merged = tally(&a);
            merged.merge(&tally(&b));
            prop_assert_eq!(merged.iter().collect::<Vec<_>>(), map.into_iter().collect::<Vec<_>>());
        }
    }
}
