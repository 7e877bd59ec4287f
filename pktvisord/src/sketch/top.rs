//! Heavy hitters by the frequent-items sketch of Apache DataSketches.
//!
//! Every estimate is at least the true count and at most `error` above it, in any order of updates
//! and merges (Anderson et al., "A High-Performance Algorithm for Identifying Frequent Items in
//! Data Streams", 2017). `error` is 0 up to [`EXACT`] distinct keys, and at most 3.5 / [`MAP_SIZE`]
//! of the total weight beyond.
//!
//! Where many keys come at once with their whole counts, only the [`EXACT`] highest reach the
//! sketch. `error` grows by the highest count passed over, which is at most the batch's total over
//! [`EXACT`], so that over all batches it grows by at most 1 / [`EXACT`] of the total weight.
//!
//! What a key stands for is kept for every key whose count is surely at or above `error`, whatever
//! is merged: where the sum of two counts is at or above the sum of two errors, one of them was.
//! Keys below are noise that no list needs, and in a flood of distinct names they are nearly all. Where
//! labels take more than [`LABEL_OCTETS`], those of the lowest counts go first.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ahash::RandomState;
use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use pktvisor_common::api::TopEntry;
use serde::{Deserialize, Serialize};

use super::key::FleetKey;

/// Slots of the sketch.
pub const MAP_SIZE: usize = 4096;
/// Distinct keys that are counted exactly: the sketch's load limit.
pub const EXACT: usize = MAP_SIZE * 3 / 4;
/// Octets of the labels of a list, at most.
pub const LABEL_OCTETS: usize = 96 << 10;
/// The highest total that is taken from outside, or merged to.
const MAX_TOTAL: u64 = u64::MAX / 4;
/// Entries of a top list.
const ENTRIES: usize = 10;

type Labels<L> = std::collections::HashMap<u64, L, RandomState>;

/// What stands for a key in a top list.
pub trait Label: Clone {
    /// The name shown.
    fn name(&self) -> String;

    /// Octets that it takes beside its place.
    fn octets(&self) -> usize;
}

impl Label for Box<str> {
    fn name(&self) -> String {
        self.to_string()
    }

    fn octets(&self) -> usize {
        self.len()
    }
}

/// Heavy hitters among keys that are hashes; what they stand for is kept beside the sketch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "State<L>", into = "State<L>")]
#[serde(bound(serialize = "L: Label + Serialize", deserialize = "L: Label + Deserialize<'de>"))]
pub struct Top<L: Label> {
    counts: Option<Box<Counts>>,
    labels: Labels<L>,
    /// Octets of all labels.
    octets: usize,
    /// The highest count for whose label there was no room: those that are not above it get none.
    without: u64,
}

impl<L: Label> Default for Top<L> {
    fn default() -> Self {
        Self { counts: None, labels: Labels::default(), octets: 0, without: 0 }
    }
}

/// Turns keys into what stands for them in a sketch, whose table hashes by a public function: mixed
/// with what only this process knows, so that nobody outside can tell which keys fall together.
struct Disguise {
    mask: u64,
    /// An odd number, and its inverse modulo 2^64.
    factor: u64,
    inverse: u64,
}

static DISGUISE: LazyLock<Disguise> = LazyLock::new(|| {
    let random = RandomState::new();
    let factor = random.hash_one(1) | 1;
    // Newton's iteration: each step doubles the bits that are right, 3 at the start.
    let inverse = (0..5).fold(factor, |inverse, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(inverse)))
    });
    Disguise { mask: random.hash_one(0), factor, inverse }
});

impl Disguise {
    #[inline]
    fn put_on(&self, key: u64) -> u64 {
        (key ^ self.mask).wrapping_mul(self.factor)
    }

    #[inline]
    fn take_off(&self, item: u64) -> u64 {
        item.wrapping_mul(self.inverse) ^ self.mask
    }
}

/// The sketch, and what did not reach it.
#[derive(Clone, Debug)]
struct Counts {
    /// Of keys in [`Disguise`].
    sketch: FrequentItemsSketch<u64>,
    /// The sum of the highest counts passed over in each batch.
    error: u64,
    /// The sum of all counts passed over.
    weight: u64,
}

impl Default for Counts {
    fn default() -> Self {
        let sketch = FrequentItemsSketch::new(MAP_SIZE).expect("the size is a constant that fits");
        Self { sketch, error: 0, weight: 0 }
    }
}

impl Counts {
    fn error(&self) -> u64 {
        self.sketch.maximum_error().saturating_add(self.error)
    }

    fn total(&self) -> u64 {
        self.sketch.total_weight().saturating_add(self.weight)
    }

    fn at_least(&self, key: u64) -> u64 {
        self.sketch.lower_bound(&DISGUISE.put_on(key))
    }

    /// All keys of the sketch, each with what its true count is at least.
    fn lower_bounds(&self) -> Vec<(u64, u64)> {
        let rows = self.sketch.frequent_items(ErrorType::NoFalseNegatives);
        rows.iter().map(|row| (DISGUISE.take_off(*row.item()), row.lower_bound())).collect()
    }

    /// Whether a key of a count that is surely at least this needs its label.
    fn needs_label(&self, at_least: u64) -> bool {
        at_least >= self.error()
    }
}

/// A key of a batch with its whole count.
struct Candidate {
    count: u64,
    key: u64,
    /// Its place in the batch.
    place: usize,
}

impl<L: Label> Top<L> {
    /// Adds `count` to the key; `label` is asked for a key that has none.
    #[inline]
    pub fn add(&mut self, key: u64, count: u64, label: impl FnOnce() -> L) {
        if count == 0 {
            return;
        }
        let counts = self.counts.get_or_insert_default();
        counts.sketch.update_with_count(DISGUISE.put_on(key), count);
        let at_least = counts.at_least(key);
        if at_least > self.without && counts.needs_label(at_least) {
            self.label(key, label);
            self.drop_labels_past_bounds();
        }
    }

    /// Adds many keys, each of them once with all of its count; `label` is asked for the key at a
    /// place of the batch.
    pub fn add_batch(
        &mut self,
        batch: impl Iterator<Item = (u64, u64)>,
        label: impl Fn(usize) -> L,
    ) {
        let mut candidates: Vec<Candidate> = batch
            .enumerate()
            .filter(|&(_, (_, count))| count > 0)
            .map(|(place, (key, count))| Candidate { count, key, place })
            .collect();
        if candidates.len() > EXACT {
            // Ties go by the key, so that the choice does not depend on the order.
            let (_, highest, lower) = candidates
                .select_nth_unstable_by(EXACT, |a, b| (b.count, b.key).cmp(&(a.count, a.key)));
            let counts = self.counts.get_or_insert_default();
            counts.error = counts.error.saturating_add(highest.count);
            counts.weight =
                lower.iter().fold(counts.weight.saturating_add(highest.count), |sum, candidate| {
                    sum.saturating_add(candidate.count)
                });
            candidates.truncate(EXACT);
        }
        for Candidate { count, key, place } in candidates {
            self.add(key, count, || label(place));
        }
    }

    /// Takes in all that `other` took in.
    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.counts else { return };
        let counts = self.counts.get_or_insert_default();
        if counts.total().saturating_add(theirs.total()) > MAX_TOTAL {
            // No packets add up to so much: what was there is believed.
            return;
        }
        let error = counts.error();
        counts.sketch.merge(&theirs.sketch);
        counts.error = counts.error.saturating_add(theirs.error);
        counts.weight = counts.weight.saturating_add(theirs.weight);
        let has_grown = counts.error() != error;
        for (&key, label) in &other.labels {
            self.label(key, || label.clone());
        }
        // Where the error has not grown, no key here needs its label any less.
        if has_grown {
            self.drop_labels();
        } else if error > 0 {
            for key in other.labels.keys() {
                if !self.needs_label(*key) {
                    let label = self.labels.remove(key);
                    self.octets -= label.map_or(0, |label| label.octets());
                }
            }
        }
        self.drop_labels_past_bounds();
    }

    fn needs_label(&self, key: u64) -> bool {
        self.counts.as_ref().is_some_and(|counts| counts.needs_label(counts.at_least(key)))
    }

    /// Keeps the label of a key that has none.
    #[inline]
    fn label(&mut self, key: u64, label: impl FnOnce() -> L) {
        let octets = &mut self.octets;
        self.labels.entry(key).or_insert_with(|| {
            let label = label();
            *octets += label.octets();
            label
        });
    }

    #[inline]
    fn drop_labels_past_bounds(&mut self) {
        if self.labels.len() > 2 * EXACT || self.octets > LABEL_OCTETS {
            self.drop_labels();
        }
    }

    /// The same with keys that are made of labels, whatever they were made of before.
    ///
    /// Keys without a label are left out: the error grows by the highest of their counts.
    #[must_use]
    pub fn by_label(&self) -> Self {
        let Some(counts) = &self.counts else { return Self::default() };
        let mut left_out = 0;
        let mut by_label: BTreeMap<u64, (u64, L)> = BTreeMap::new();
        for (key, count) in counts.lower_bounds() {
            let Some(label) = self.labels.get(&key) else {
                left_out = count.max(left_out);
                continue;
            };
            let key = FleetKey::default().hash(label.name().as_bytes());
            let (sum, _) = by_label.entry(key).or_insert_with(|| (0, label.clone()));
            *sum = sum.saturating_add(count);
        }
        let total = counts.total().min(MAX_TOTAL);
        let error = counts.error().saturating_add(left_out).min(total);
        let entries = by_label.into_iter().map(|(key, (count, label))| (key, count, Some(label)));
        // What cannot be so is not shown, rather than shown wrong.
        Self::try_from(State { error, total, entries: entries.collect() }).unwrap_or_default()
    }

    /// Forgets the labels that are not needed any more or for which there is no room, and gives their
    /// memory back.
    #[cold]
    fn drop_labels(&mut self) {
        let Self { counts: Some(counts), labels, octets, without } = self else { return };
        labels.retain(|&key, _| counts.needs_label(counts.at_least(key)));
        *octets = labels.values().map(Label::octets).sum();
        if *octets > LABEL_OCTETS {
            let mut keys: Vec<(u64, u64)> =
                labels.keys().map(|&key| (counts.at_least(key), key)).collect();
            keys.sort_unstable();
            // Some more than need to go, so that this is not to be done again for the next one.
            for (at_least, key) in keys {
                if *octets <= LABEL_OCTETS / 4 * 3 {
                    break;
                }
                *octets -= labels.remove(&key).map_or(0, |label| label.octets());
                *without = at_least.max(*without);
            }
        }
        labels.shrink_to_fit();
    }

    /// The ten keys of the highest estimates, by estimate, then by name.
    pub fn entries(&self) -> Vec<TopEntry> {
        let Some(counts) = &self.counts else { return Vec::new() };
        let error = counts.error();
        let mut estimates: Vec<(u64, &L)> = self
            .labels
            .iter()
            .map(|(&key, label)| (counts.at_least(key), label))
            .filter(|&(at_least, _)| at_least > 0)
            .map(|(at_least, label)| (at_least.saturating_add(error), label))
            .collect();
        // Names are made only for what can stand in the list.
        if estimates.len() > ENTRIES {
            let (_, &mut (least, _), _) =
                estimates.select_nth_unstable_by(ENTRIES - 1, |a, b| b.0.cmp(&a.0));
            estimates.retain(|&(estimate, _)| estimate >= least);
        }
        let error = Some(error).filter(|&error| error > 0);
        rank(estimates.into_iter().map(|(estimate, label)| (label.name(), estimate)), |estimate| {
            error.map(|error| error.min(estimate))
        })
    }
}

/// The first ten by count, then by name.
pub fn rank(
    counts: impl Iterator<Item = (String, u64)>,
    error: impl Fn(u64) -> Option<u64>,
) -> Vec<TopEntry> {
    let mut entries: Vec<TopEntry> = counts
        .map(|(name, estimate)| TopEntry { name, estimate, error: error(estimate) })
        .collect();
    entries.sort_unstable_by(|a, b| b.estimate.cmp(&a.estimate).then_with(|| a.name.cmp(&b.name)));
    entries.truncate(ENTRIES);
    entries
}

/// What is stored of a [`Top`].
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "L: Serialize", deserialize = "L: Deserialize<'de>"))]
struct State<L> {
    /// By how much a true count can be above the stored one.
    error: u64,
    /// The sum of all counts taken in.
    total: u64,
    /// Key, count and label, where it has one, of each key kept, keys ascending.
    entries: Vec<(u64, u64, Option<L>)>,
}

impl<L: Label> From<Top<L>> for State<L> {
    fn from(top: Top<L>) -> Self {
        let Some(counts) = &top.counts else {
            return State { error: 0, total: 0, entries: Vec::new() };
        };
        let mut entries: Vec<(u64, u64, Option<L>)> = counts
            .lower_bounds()
            .into_iter()
            .map(|(key, count)| (key, count, top.labels.get(&key).cloned()))
            .collect();
        entries.sort_unstable_by_key(|&(key, ..)| key);
        State { error: counts.error(), total: counts.total(), entries }
    }
}

impl<L: Label> TryFrom<State<L>> for Top<L> {
    type Error = String;

    fn try_from(state: State<L>) -> Result<Self, String> {
        if state.total == 0 {
            return Ok(Self::default());
        }
        if state.entries.len() > EXACT {
            return Err(format!("{} keys where at most {EXACT} are kept", state.entries.len()));
        }
        if state.error > state.total || state.total > MAX_TOTAL {
            return Err("an error or total that no stream can have".into());
        }
        // The sketch's own image (family 10, version 1) is the one way to set its error.
        let lg_size = |size: usize| size.trailing_zeros() as u8;
        let needed = (state.entries.len() * 4).div_ceil(3).next_power_of_two().max(8);
        let mut image = vec![4, 1, 10, lg_size(MAP_SIZE), lg_size(needed.min(MAP_SIZE)), 0, 0, 0];
        image.extend((state.entries.len() as u32).to_le_bytes());
        image.extend([0; 4]);
        image.extend(state.total.to_le_bytes());
        image.extend(state.error.to_le_bytes());
        for (_, count, _) in &state.entries {
            image.extend(count.to_le_bytes());
        }
        for (key, ..) in &state.entries {
            image.extend(DISGUISE.put_on(*key).to_le_bytes());
        }
        let sketch = FrequentItemsSketch::deserialize(&image).map_err(|error| error.to_string())?;
        let counts = Counts { sketch, error: 0, weight: 0 };
        let mut top = Self { counts: Some(Box::new(counts)), ..Self::default() };
        for (key, _, label) in state.entries {
            if let Some(label) = label {
                top.label(key, || label);
            }
        }
        top.drop_labels_past_bounds();
        Ok(top)
    }
}

#[cfg(test)]
mod tests {
    use pktvisor_common::flow::mix;
    use proptest::prelude::*;

    use super::*;

    type Names = Top<Box<str>>;

    fn add(top: &mut Names, value: u64, count: u64) {
        top.add(mix(value + 1), count, || value.to_string().into());
    }

    fn of(values: impl IntoIterator<Item = (u64, u64)>) -> Names {
        let mut top = Names::default();
        values.into_iter().for_each(|(value, count)| add(&mut top, value, count));
        top
    }

    #[test]
    fn exact_up_to_the_bound_with_ties_by_name() {
        let top = of((0..EXACT as u64).map(|value| (value, if value < 3 { 9 } else { 1 })));
        let entries = top.entries();
        assert_eq!(entries.len(), 10);
        assert!(entries.iter().all(|entry| entry.error.is_none()));
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["0", "1", "2", "10", "100", "1000", "1001", "1002", "1003", "1004"]);
    }

    #[test]
    fn keys_come_back_out_of_their_disguise() {
        for key in [0, 1, u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0] {
            assert_eq!(DISGUISE.take_off(DISGUISE.put_on(key)), key);
        }
    }

    #[test]
    fn labels_stay_bounded() {
        let top = of((0..100_000).map(|value| (value, 1)));
        assert!(top.labels.len() <= 2 * EXACT);
    }

    #[test]
    fn labels_of_the_lowest_counts_go_where_they_take_too_much() {
        let text = |value: u64| format!("{value:0250}").into_boxed_str();
        let mut top = Names::default();
        for value in 0..EXACT as u64 {
            // The highest counts neither first nor last.
            let count = if value % 300 == 7 { 100 + value } else { 1 + value % 3 };
            top.add(mix(value + 1), count, || text(value));
            assert!(top.octets <= LABEL_OCTETS);
        }
        let entries = top.entries();
        let expected: Vec<Box<str>> = (1..=10).rev().map(|at| text(7 + 300 * at)).collect();
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, expected.iter().map(|name| &**name).collect::<Vec<_>>());
        assert!(entries.iter().all(|entry| entry.error.is_none()), "counts stay exact");
        let mut twice = top.clone();
        twice.merge(&top);
        assert!(twice.octets <= LABEL_OCTETS);
        assert_eq!(twice.octets, twice.labels.values().map(|label| label.len()).sum::<usize>());
        let back: Names = postcard::from_bytes(&postcard::to_stdvec(&top).unwrap()).unwrap();
        assert_eq!((back.octets, back.entries()), (top.octets, entries));
    }

    #[test]
    fn refuses_a_state_that_does_not_fit() {
        let entries = vec![(1, 5, Some("a".into()))];
        assert!(Names::try_from(State { error: 9, total: 5, entries: entries.clone() }).is_err());
        assert!(Names::try_from(State { error: 0, total: 4, entries }).is_err());
    }

    #[test]
    fn totals_that_nothing_adds_up_to_are_not_merged() {
        let of = |total| {
            Names::try_from(State { error: 0, total, entries: vec![(1, total, Some("a".into()))] })
        };
        let mut sum = of(MAX_TOTAL).unwrap();
        (0..9).for_each(|_| sum.merge(&of(MAX_TOTAL).unwrap()));
        assert_eq!(sum.counts.as_ref().unwrap().total(), MAX_TOTAL);
        assert!(of(MAX_TOTAL + 1).is_err());
    }

    #[test]
    fn of_a_batch_the_highest_are_kept_exactly() {
        let counts: Vec<(u64, u64)> =
            (0..10_000).map(|value| (mix(value + 1), 1 + 10_000 / (value + 1))).collect();
        let batch = |counts: &[(u64, u64)]| {
            let mut top = Names::default();
            top.add_batch(counts.iter().copied(), |place| counts[place].0.to_string().into());
            top
        };
        let top = batch(&counts);
        let entries = top.entries();
        let passed_over = 1 + 10_000 / (EXACT as u64 + 1);
        for (entry, (key, count)) in entries.iter().zip(&counts) {
            assert_eq!((&entry.name, entry.estimate), (&key.to_string(), count + passed_over));
            assert_eq!(entry.error, Some(passed_over));
        }
        let mut turned = counts.clone();
        turned.reverse();
        assert_eq!(batch(&turned).entries(), entries, "whatever the order");
        let total: u64 = counts.iter().map(|&(_, count)| count).sum();
        assert_eq!(top.counts.as_ref().unwrap().total(), total, "nothing is lost of the total");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// However a stream is split, counted one by one or in batches, and in whatever order its
        /// parts merge, the true count of every entry lies within its stated bound, and no key of
        /// twice the bound is missing.
        #[test]
        fn true_counts_lie_within_the_bound(seed in any::<u64>(), parts in 1..5usize, keys in 10..20_000u64) {
            let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
            let mut shards: Vec<Names> = (0..parts).map(|_| Names::default()).collect();
            let mut batches: Vec<BTreeMap<u64, u64>> = vec![BTreeMap::new(); parts];
            for step in 0..30_000u64 {
                let random = mix(seed ^ mix(step));
                // Roughly Zipf: the key is log-uniform.
                let key = (keys as f64).powf((random >> 11) as f64 / (1u64 << 53) as f64) as u64;
                *truth.entry(key).or_default() += 1;
                let part = (random % parts as u64) as usize;
                if step % 3 == 0 {
                    add(&mut shards[part], key, 1);
                } else {
                    *batches[part].entry(key).or_default() += 1;
                }
                if step % 10_000 == 9_999 {
                    for (shard, batch) in shards.iter_mut().zip(&mut batches) {
                        let batch: Vec<(u64, u64)> = std::mem::take(batch).into_iter().collect();
                        let hashed = batch.iter().map(|&(key, count)| (mix(key + 1), count));
                        shard.add_batch(hashed, |place| batch[place].0.to_string().into());
                    }
                }
            }
            let mut forward = Names::default();
            shards.iter().for_each(|shard| forward.merge(shard));
            let mut backward = Names::default();
            shards.iter().rev().for_each(|shard| backward.merge(shard));
            let octets = postcard::to_stdvec(&forward).unwrap();
            let back: Names = postcard::from_bytes(&octets).unwrap();
            prop_assert_eq!(back.entries(), forward.entries());
            for top in [forward, backward] {
                let error = top.counts.as_ref().unwrap().error();
                let entries = top.entries();
                for entry in &entries {
                    let count = truth[&entry.name.parse::<u64>().unwrap()];
                    prop_assert!(count <= entry.estimate);
                    prop_assert!(entry.estimate - entry.error.unwrap_or(0) <= count);
                }
                let least = entries.get(9).map_or(0, |entry| entry.estimate);
                for (key, &count) in &truth {
                    let listed = entries.iter().any(|entry| entry.name == key.to_string());
                    prop_assert!(listed || count <= least.max(2 * error));
                }
            }
        }
    }
}
