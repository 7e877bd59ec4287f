//! Heavy hitters by the frequent-items sketch of Apache DataSketches.
//!
//! Every estimate is at least the true count and at most `error` above it, in any order of updates and
//! merges (Anderson et al., "A High-Performance Algorithm for Identifying Frequent Items in Data
//! Streams", 2017). `error` is 0 up to [`EXACT`] distinct keys, and at most 3.5 / [`MAP_SIZE`] of the
//! total weight beyond.
//!
//! If a batch of keys with their whole counts is large, only the [`EXACT`] highest reach the sketch.
//! `error` grows by the highest count passed over, which is at most the batch's total over [`EXACT`].
//! So over all batches it grows by at most 1 / [`EXACT`] of the total weight.
//!
//! A key whose count is certainly at or above `error` keeps its label through all merges: if the sum of
//! two counts is at or above the sum of two errors, one of the counts was at or above its error. Keys
//! below are noise that no list needs, and in a flood of distinct names nearly all keys are below. If
//! labels take more than [`LABEL_BYTES`], those of the lowest counts are dropped first.

mod counts;
mod disguise;
mod labels;

use std::collections::BTreeMap;

use datasketches::frequencies::FrequentItemsSketch;
use serde::{Deserialize, Serialize};

use self::counts::Counts;
use self::disguise::DISGUISE;
use self::labels::Labels;
pub use self::labels::{LABEL_BYTES, Label};
use super::key::FleetKey;

/// Number of slots of the sketch.
pub const MAP_SIZE: usize = 4096;
/// Maximum distinct keys that are counted exactly: the sketch's load limit.
pub const EXACT: usize = MAP_SIZE * 3 / 4;
/// Maximum total that is decoded or merged to.
const MAX_TOTAL: u64 = u64::MAX / 4;
/// Maximum entries of a top list.
const ENTRIES: usize = 10;

/// Heavy hitters among hashed keys. Their labels are kept beside the sketch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "State<L>", into = "State<L>")]
#[serde(bound(serialize = "L: Label + Serialize", deserialize = "L: Label + Deserialize<'de>"))]
pub struct Top<L: Label> {
    counts: Option<Box<Counts>>,
    labels: Labels<L>,
}

impl<L: Label> Default for Top<L> {
    fn default() -> Self {
        Self { counts: None, labels: Labels::default() }
    }
}

/// A key of a batch with its whole count.
struct Candidate {
    count: u64,
    key: u64,
    /// Position in the batch.
    place: usize,
}

impl<L: Label> Top<L> {
    /// Adds `count` to the key. Calls `label` only if the key needs a label and has none.
    #[inline]
    pub fn add(&mut self, key: u64, count: u64, label: impl FnOnce() -> L) {
        if count == 0 {
            return;
        }
        let counts = self.counts.get_or_insert_default();
        counts.sketch.update_with_count(DISGUISE.put_on(key), count);
        let error = counts.error();
        // If all counts are exact and there is room for all labels, no lookup is needed.
        let needs_label = error == 0 && self.labels.has_room(count) || {
            let at_least = counts.at_least(key);
            at_least >= error && self.labels.has_room(at_least)
        };
        if needs_label {
            self.labels.add(key, label);
            self.drop_labels_past_bounds();
        }
    }

    /// Adds a batch of distinct keys, each with its whole count. `label` returns the label of the key
    /// at a position of the batch.
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
            // Break ties by key, so that the choice does not depend on the order.
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

    /// Merges `other` into this list.
    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.counts else { return };
        let counts = self.counts.get_or_insert_default();
        if counts.total().saturating_add(theirs.total()) > MAX_TOTAL {
            // No traffic adds up to such a total. Keep the counts from before.
            return;
        }
        let error = counts.error();
        counts.sketch.merge(&theirs.sketch);
        counts.error = counts.error.saturating_add(theirs.error);
        counts.weight = counts.weight.saturating_add(theirs.weight);
        let has_grown = counts.error() != error;
        for (key, label) in other.labels.iter() {
            self.labels.add(key, || label.clone());
        }
        // If the error has not grown, all labels from before are still needed.
        if has_grown {
            self.drop_labels();
        } else if error > 0 {
            for (key, _) in other.labels.iter() {
                if counts.at_least(key) < error {
                    self.labels.remove(key);
                }
            }
        }
        self.drop_labels_past_bounds();
    }

    #[inline]
    fn drop_labels_past_bounds(&mut self) {
        if self.labels.is_past_bounds() {
            self.drop_labels();
        }
    }

    /// Keeps the `keys` keys with the highest counts, to save space. `error` grows by the highest count that
    /// is dropped, so all bounds still hold.
    pub fn truncate(&mut self, keys: usize) {
        let Some(counts) = &self.counts else { return };
        let mut kept = counts.lower_bounds();
        if kept.len() <= keys {
            return;
        }
        // Break ties by key, so that the choice does not depend on the order.
        let (_, &mut (_, highest), _) =
            kept.select_nth_unstable_by(keys, |a, b| (b.1, b.0).cmp(&(a.1, a.0)));
        kept.truncate(keys);
        let total = counts.total();
        let error = counts.error().saturating_add(highest).min(total);
        let label = |key: u64| self.labels.get(key).cloned();
        let mut entries: Vec<_> =
            kept.into_iter().map(|(key, count)| (key, count, label(key))).collect();
        entries.sort_unstable_by_key(|&(key, ..)| key);
        // An inconsistent list is left as it is rather than made wrong.
        if let Ok(truncated) = Self::try_from(State { error, total, entries }) {
            *self = truncated;
        }
    }

    /// Returns a copy whose keys are hashes of the labels, whatever they were before.
    ///
    /// Keys without a label are left out, and the error grows by the highest of their counts.
    #[must_use]
    pub fn by_label(&self) -> Self {
        let Some(counts) = &self.counts else { return Self::default() };
        let mut left_out = 0;
        let mut by_label: BTreeMap<u64, (u64, L)> = BTreeMap::new();
        for (key, count) in counts.lower_bounds() {
            let Some(label) = self.labels.get(key) else {
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
        // An inconsistent list is shown empty rather than wrong.
        Self::try_from(State { error, total, entries: entries.collect() }).unwrap_or_default()
    }

    /// Drops the labels that are no longer needed or for which there is no room.
    #[cold]
    fn drop_labels(&mut self) {
        if let Some(counts) = &self.counts {
            self.labels.trim(counts.error(), |key| counts.at_least(key));
        }
    }

    /// Returns the ten keys with the highest estimates, ordered by estimate, then by name.
    pub fn entries(&self) -> Vec<Entry> {
        let Some(counts) = &self.counts else { return Vec::new() };
        let error = counts.error();
        let mut estimates: Vec<(u64, &L)> = self
            .labels
            .iter()
            .map(|(key, label)| (counts.at_least(key), label))
            .filter(|&(at_least, _)| at_least > 0)
            .map(|(at_least, label)| (at_least.saturating_add(error), label))
            .collect();
        // Create names only for the candidates of the list.
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

/// An entry of a top list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, address, port or location.
    pub name: String,
    /// Estimated count, never below the true count.
    pub estimate: u64,
    /// Maximum excess of the estimate over the true count; `None` if the estimate is exact.
    pub error: Option<u64>,
}

/// Returns the ten entries with the highest counts, ordered by count, then by name.
pub fn rank(
    counts: impl Iterator<Item = (String, u64)>,
    error: impl Fn(u64) -> Option<u64>,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        counts.map(|(name, estimate)| Entry { name, estimate, error: error(estimate) }).collect();
    entries.sort_unstable_by(|a, b| b.estimate.cmp(&a.estimate).then_with(|| a.name.cmp(&b.name)));
    entries.truncate(ENTRIES);
    entries
}

/// The byte form of a [`Top`].
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "L: Serialize", deserialize = "L: Deserialize<'de>"))]
struct State<L> {
    /// Maximum excess of a true count over the stored one.
    error: u64,
    /// Sum of all counts added.
    total: u64,
    /// Key, count and optional label of each kept key, in ascending order of keys.
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
            .map(|(key, count)| (key, count, top.labels.get(key).cloned()))
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
            return Err(format!("{} keys; the maximum is {EXACT}", state.entries.len()));
        }
        if state.error > state.total || state.total > MAX_TOTAL {
            return Err("impossible error or total".into());
        }
        // Only the sketch's own image (family 10, version 1) can set its error.
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
                top.labels.add(key, || label);
            }
        }
        top.drop_labels_past_bounds();
        Ok(top)
    }
}

#[cfg(test)]
mod tests;
