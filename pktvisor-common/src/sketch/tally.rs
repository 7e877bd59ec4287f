//! Exact counts of 16-bit numbers (ports, types, codes, sizes): at most 65,536 counts.

use serde::{Deserialize, Serialize};

use super::quantiles::{self, Percentiles};

/// Cells of a group, as a power of two.
const GROUP_BITS: u32 = 9;
const GROUPS: usize = 1 << (16 - GROUP_BITS);

/// Counts by number with one cell per number, for the packet path. Tracks which groups of cells were
/// used, so that taking a few counts is cheap.
#[derive(Clone, Debug)]
pub struct FlatTally {
    counts: Box<[u64]>,
    /// The groups that were used.
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

    /// Returns the counts above 0 and resets all counts.
    pub fn take(&mut self) -> Tally {
        let Self { counts, touched } = self;
        let groups = counts.chunks_mut(1 << GROUP_BITS).zip(touched).enumerate();
        let touched = groups.filter_map(|(group, (cells, touched))| {
            std::mem::take(touched).then_some((group << GROUP_BITS, cells))
        });
        Tally::of(touched.flat_map(|(first, cells)| {
            let counts = (first..).zip(cells.iter_mut().map(std::mem::take));
            counts.filter(|&(_, count)| count > 0).map(|(number, count)| (number as u16, count))
        }))
    }
}

/// Counts by number, in ascending order of numbers.
///
/// Each entry is stored as two LEB128 values: the distance to the previous number, and the count. So
/// counts of all numbers take 128 KiB if the counts are small, instead of 1 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
pub struct Tally(Box<[u8]>);

impl Tally {
    /// Returns the numbers and their counts, in ascending order of numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let (mut rest, mut number) = (&*self.0, 0u16);
        std::iter::from_fn(move || {
            number = number.wrapping_add(take(&mut rest)? as u16);
            Some((number, take(&mut rest)?))
        })
    }

    /// Encodes counts in ascending order of numbers.
    fn of(counts: impl Iterator<Item = (u16, u64)>) -> Self {
        let (mut bytes, mut before) = (Vec::new(), 0);
        for (number, count) in counts {
            put(&mut bytes, u64::from(number - before));
            put(&mut bytes, count);
            before = number;
        }
        Self(bytes.into())
    }

    /// Returns the sum of all counts.
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Returns percentiles of the numbers; `None` if there are none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let total = self.total();
        let counts = self.iter().map(|(number, count)| (u64::from(number), count));
        quantiles::from_counts(total, counts, |number| number)
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.0.is_empty() {
            return;
        }
        let mine = std::mem::take(self);
        let (mut left, mut right) = (mine.iter().peekable(), other.iter().peekable());
        let next = || match (left.peek(), right.peek()) {
            (Some(&(a, count_a)), Some(&(b, count_b))) if a == b => {
                left.next();
                right.next();
                Some((a, count_a.saturating_add(count_b)))
            }
            (Some((a, _)), Some((b, _))) if a > b => right.next(),
            (None, _) => right.next(),
            _ => left.next(),
        };
        *self = Self::of(std::iter::from_fn(next));
    }
}

/// Appends a number as LEB128.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Removes a LEB128 number from the start of `bytes`.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    Some(number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
}

impl From<Tally> for Vec<(u16, u64)> {
    fn from(tally: Tally) -> Self {
        tally.iter().collect()
    }
}

impl TryFrom<Vec<(u16, u64)>> for Tally {
    type Error = &'static str;

    fn try_from(counts: Vec<(u16, u64)>) -> Result<Self, Self::Error> {
        let ascending = counts.is_sorted_by(|a, b| a.0 < b.0);
        ascending.then(|| Self::of(counts.into_iter())).ok_or("numbers not in ascending order")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_of_all_numbers_take_128_kib() {
        let mut flat = FlatTally::default();
        (0..=u16::MAX).for_each(|number| flat.add(number, 1 + u64::from(number % 100)));
        let tally = flat.take();
        assert_eq!((tally.iter().count(), tally.0.len()), (1 << 16, 1 << 17));
    }

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

        #[test]
        fn stores_any_number_and_count(counts in prop::collection::btree_map(any::<u16>(), any::<u64>(), 0..300)) {
            let counts: Vec<(u16, u64)> = counts.into_iter().collect();
            let tally = Tally::try_from(counts.clone()).unwrap();
            prop_assert_eq!(Vec::from(tally), counts);
        }
    }
}
