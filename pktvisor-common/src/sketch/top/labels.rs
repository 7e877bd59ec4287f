//! Labels of keys, within a memory budget.

use std::collections::HashMap;

use ahash::RandomState;

use super::EXACT;

/// Maximum bytes of the labels of a list.
pub const LABEL_BYTES: usize = 96 << 10;

/// The label of a key in a top list.
pub trait Label: Clone {
    /// Returns the displayed name.
    fn name(&self) -> String;

    /// Returns the heap memory that it takes in bytes.
    fn bytes(&self) -> usize;
}

impl Label for Box<str> {
    fn name(&self) -> String {
        self.to_string()
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Labels by key.
#[derive(Clone, Debug)]
pub(super) struct Labels<L> {
    by_key: HashMap<u64, L, RandomState>,
    /// Bytes of all labels.
    bytes: usize,
    /// Highest count whose label was dropped for lack of room. Keys with this or a lower count get no
    /// label.
    without: u64,
}

impl<L> Default for Labels<L> {
    fn default() -> Self {
        Self { by_key: HashMap::default(), bytes: 0, without: 0 }
    }
}

impl<L: Label> Labels<L> {
    pub(super) fn get(&self, key: u64) -> Option<&L> {
        self.by_key.get(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &L)> {
        self.by_key.iter().map(|(&key, label)| (key, label))
    }

    /// Returns true if a key with at least this count can get a label.
    #[inline]
    pub(super) fn has_room(&self, at_least: u64) -> bool {
        at_least > self.without
    }

    /// Stores the label of a key that has none.
    #[inline]
    pub(super) fn add(&mut self, key: u64, label: impl FnOnce() -> L) {
        let bytes = &mut self.bytes;
        self.by_key.entry(key).or_insert_with(|| {
            let label = label();
            *bytes += label.bytes();
            label
        });
    }

    pub(super) fn remove(&mut self, key: u64) {
        self.bytes -= self.by_key.remove(&key).map_or(0, |label| label.bytes());
    }

    /// Returns true if [`Labels::trim`] is due.
    #[inline]
    pub(super) fn is_past_bounds(&self) -> bool {
        self.by_key.len() > 2 * EXACT || self.bytes > LABEL_BYTES
    }

    /// Drops labels of keys whose count is below `error` and labels beyond the budget, and frees their
    /// memory.
    pub(super) fn trim(&mut self, error: u64, at_least: impl Fn(u64) -> u64) {
        self.by_key.retain(|&key, _| at_least(key) >= error);
        self.bytes = self.by_key.values().map(Label::bytes).sum();
        if self.bytes > LABEL_BYTES {
            let mut keys: Vec<(u64, u64)> =
                self.by_key.keys().map(|&key| (at_least(key), key)).collect();
            keys.sort_unstable();
            // Drop more than necessary, so that the next label does not trigger this again.
            for (at_least, key) in keys {
                if self.bytes <= LABEL_BYTES / 4 * 3 {
                    break;
                }
                self.remove(key);
                self.without = at_least.max(self.without);
            }
        }
        self.by_key.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
