//! Latencies by class, and the names of slow transactions.
//!
//! Class bounds are spaced by √2. Each class keeps exact counts of the names with the lowest hashes, up
//! to a number of names or bytes. The result does not depend on the order or split of the stream.

use serde::{Deserialize, Serialize};

use super::key::FleetKey;
use super::top::{Entry, rank};

/// Upper bounds of the classes in microseconds, inclusive: √2 to the power of 0, 2, 3, … rounded, up to
/// 2^26 (67 s).
const BOUNDS: [u64; CLASSES] = bounds();
const CLASSES: usize = 52;
/// Maximum names kept in a class.
pub const NAMES: usize = 128;
/// Bytes of their texts at which a class is full.
const BYTES: usize = 3 << 10;
/// Up to this many transactions, a direction has no slow names.
const MIN_TRANSACTIONS: u64 = 10;

const fn bounds() -> [u64; CLASSES] {
    let mut bounds = [1; CLASSES];
    let mut at = 1;
    while at < CLASSES {
        let power = at + 1;
        // 2^(k + 1/2) = 2^k · 1.41421356…, rounded to an integer.
        bounds[at] = if power.is_multiple_of(2) {
            1 << (power / 2)
        } else {
            ((1u64 << (power / 2)) * 1_414_213_562 + 500_000_000) / 1_000_000_000
        };
        at += 1;
    }
    bounds
}

/// Counts by latency class, with the names of each class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Class>", into = "Vec<Class>")]
pub struct Latencies(Vec<Class>);

/// Returns the class of a latency: the first whose bound is not below it, or else the last.
#[inline]
fn class_of(microseconds: u64) -> usize {
    // From 2 on, there are two classes per power of two.
    let doublings = microseconds.max(1).ilog2() as usize;
    let guess = (2 * doublings).saturating_sub(1).min(CLASSES - 1);
    let above = |at: usize| usize::from(BOUNDS[at] < microseconds);
    (guess + above(guess) + above((guess + 1).min(CLASSES - 1))).min(CLASSES - 1)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Class {
    count: u64,
    /// Hash, count and text of names, in ascending order of hashes.
    names: Vec<(u64, u64, Box<str>)>,
    /// Bytes of all texts.
    #[serde(skip)]
    bytes: usize,
}

impl Class {
    /// Returns true if a class with this many names and bytes is full.
    fn is_full(names: usize, bytes: usize) -> bool {
        names >= NAMES || bytes >= BYTES
    }

    fn add(&mut self, hash: u64, count: u64, text: impl FnOnce() -> Box<str>) {
        let is_behind = self.names.last().is_some_and(|&(highest, ..)| hash > highest);
        if is_behind && Self::is_full(self.names.len(), self.bytes) {
            return;
        }
        match self.names.binary_search_by_key(&hash, |&(hash, ..)| hash) {
            Ok(at) => self.names[at].1 = self.names[at].1.saturating_add(count),
            Err(at) => {
                let text = text();
                self.bytes += text.len();
                self.names.insert(at, (hash, count, text));
                self.trim();
            }
        }
    }

    /// Keeps only the lowest hashes that fill the class.
    fn trim(&mut self) {
        while let Some((.., last)) = self.names.last()
            && Self::is_full(self.names.len() - 1, self.bytes - last.len())
        {
            self.bytes -= last.len();
            self.names.pop();
        }
    }
}

impl Latencies {
    /// Records `count` transactions of `microseconds`. `name` is the hash of their query name.
    pub fn record(
        &mut self,
        microseconds: u64,
        count: u64,
        name: Option<u64>,
        text: impl FnOnce() -> Box<str>,
    ) {
        if self.0.is_empty() {
            self.0.resize(CLASSES, Class::default());
        }
        let class = &mut self.0[class_of(microseconds)];
        class.count = class.count.saturating_add(count);
        if let Some(name) = name {
            class.add(name, count, text);
        }
    }

    /// Merges `other` into these latencies.
    pub fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.count = mine.count.saturating_add(theirs.count);
            for (hash, count, text) in &theirs.names {
                mine.add(*hash, *count, || text.clone());
            }
        }
    }

    /// Rekeys all names by the hash of their text, whatever their keys were before.
    pub fn key_by_label(&mut self) {
        for class in &mut self.0 {
            for (key, _, text) in &mut class.names {
                *key = FleetKey::default().hash(text.as_bytes());
            }
            class.names.sort_unstable_by_key(|&(key, ..)| key);
            class.names.dedup_by(|later, first| {
                let is_same = later.0 == first.0;
                if is_same {
                    first.1 = first.1.saturating_add(later.1);
                    class.bytes -= later.2.len();
                }
                is_same
            });
        }
    }

    /// Removes the names and keeps the counts.
    pub fn drop_names(&mut self) {
        for class in &mut self.0 {
            class.names = Vec::new();
            class.bytes = 0;
        }
    }

    /// Returns the number of transactions.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|class| class.count).fold(0, u64::saturating_add)
    }

    /// Returns the upper bound of each class in microseconds, inclusive, and its count. The last class
    /// has no upper bound: `u64::MAX`. Empty without transactions.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let last = self.0.len().saturating_sub(1);
        self.0.iter().zip(BOUNDS).enumerate().map(move |(at, (class, bound))| {
            (if at == last { u64::MAX } else { bound }, class.count)
        })
    }

    /// Returns bounds and counts like [`Latencies::counts`], but with the nominal bound of the last class
    /// and without the empty classes at both ends. Empty without transactions.
    pub fn filled(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let is_filled = |class: &Class| class.count > 0;
        let first = self.0.iter().position(is_filled).unwrap_or(0);
        let end = self.0.iter().rposition(is_filled).map_or(0, |last| last + 1);
        BOUNDS[first..end].iter().copied().zip(self.0[first..end].iter().map(|class| class.count))
    }

    /// Returns the names in the class of the 90th percentile and above, by count. Empty up to ten
    /// transactions.
    pub fn slow(&self) -> Vec<Entry> {
        let total = self.total();
        if total <= MIN_TRANSACTIONS {
            return Vec::new();
        }
        let rank_p90 = (u128::from(total) * 9 / 10) as u64;
        let mut below = 0u64;
        let first = self.0.iter().position(|class| {
            below = below.saturating_add(class.count);
            below > rank_p90
        });
        let mut names = std::collections::BTreeMap::new();
        for (_, count, text) in self.0[first.unwrap_or(0)..].iter().flat_map(|class| &class.names) {
            let sum = names.entry(text).or_insert(0u64);
            *sum = sum.saturating_add(*count);
        }
        rank(names.into_iter().map(|(text, count)| (text.to_string(), count)), |_| None)
    }
}

impl From<Latencies> for Vec<Class> {
    fn from(latencies: Latencies) -> Self {
        latencies.0
    }
}

impl TryFrom<Vec<Class>> for Latencies {
    type Error = &'static str;

    fn try_from(classes: Vec<Class>) -> Result<Self, Self::Error> {
        let fits = |class: &Class| {
            class.names.len() <= NAMES && class.names.is_sorted_by(|a, b| a.0 < b.0)
        };
        // Another release may keep more names.
        let mut classes = classes;
        for class in &mut classes {
            class.bytes = class.names.iter().map(|(.., text)| text.len()).sum();
            class.trim();
        }
        if !(classes.is_empty() || classes.len() == CLASSES) || !classes.iter().all(fits) {
            return Err("unknown latency classes");
        }
        classes
            .iter()
            .try_fold(0u64, |sum, class| sum.checked_add(class.count))
            .ok_or("counts overflow 64 bits")?;
        Ok(Self(classes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::mix;

    #[test]
    fn bounds_are_spaced_by_the_square_root_of_two() {
        assert_eq!(BOUNDS[..8], [1, 2, 3, 4, 6, 8, 11, 16]);
        assert_eq!(BOUNDS[CLASSES - 1], 1 << 26);
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn computes_the_class_that_a_search_finds() {
        for microseconds in (0..100_000).chain((0..40).map(|power| 1 << power)).chain([u64::MAX]) {
            let searched = BOUNDS.partition_point(|&bound| bound < microseconds).min(CLASSES - 1);
            assert_eq!(class_of(microseconds), searched, "{microseconds}");
        }
    }

    fn of(values: &[(u64, u64)]) -> Latencies {
        of_texts(values, &|name| name.to_string())
    }

    fn of_texts(values: &[(u64, u64)], text: &dyn Fn(u64) -> String) -> Latencies {
        let mut latencies = Latencies::default();
        for &(microseconds, name) in values {
            latencies.record(microseconds, 1, Some(mix(name)), || text(name).into());
        }
        latencies
    }

    #[test]
    fn slow_names_start_at_the_90th_percentile() {
        let mut values: Vec<(u64, u64)> = (0..89).map(|name| (100, name)).collect();
        values.extend([(5000, 500); 8]);
        values.extend([(9000, 600); 3]);
        let slow = of(&values).slow();
        let names: Vec<(&str, u64)> =
            slow.iter().map(|entry| (entry.name.as_str(), entry.estimate)).collect();
        assert_eq!(names, [("500", 8), ("600", 3)]);
        assert!(of(&values[..10]).slow().is_empty(), "too few to tell");
    }

    proptest! {
        /// Holds beyond the maximum number of names too.
        #[test]
        fn does_not_depend_on_order_or_split(mut values in prop::collection::vec((0..3000u64, 0..2000u64), 0..1500), cut in 0..1500usize, long in 0..255usize) {
            let of = |values: &[(u64, u64)]| of_texts(values, &|name| format!("{name:0$}", long * (name % 3) as usize));
            let all = of(&values);
            prop_assert!(all.0.iter().all(|class| class.names.len() <= NAMES && class.bytes <= BYTES + 2 * 255));
            values.reverse();
            let (a, b) = values.split_at(cut.min(values.len()));
            let mut merged = of(a);
            merged.merge(&of(b));
            prop_assert_eq!(merged, all);
        }
    }
}
