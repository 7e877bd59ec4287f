//! Counts of keys: the sketch, and the error of keys that did not reach it.

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};

use super::MAP_SIZE;
use super::disguise::DISGUISE;

/// The sketch, and totals of the keys that did not reach it.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Its keys are disguised by [`DISGUISE`].
    pub(super) sketch: FrequentItemsSketch<u64>,
    /// Sum over all batches of the highest count passed over.
    pub(super) error: u64,
    /// Sum of all counts passed over.
    pub(super) weight: u64,
}

impl Default for Counts {
    fn default() -> Self {
        let sketch = FrequentItemsSketch::new(MAP_SIZE).expect("the size is a constant that fits");
        Self { sketch, error: 0, weight: 0 }
    }
}

impl Counts {
    /// Returns the maximum excess of an estimate over the true count.
    pub(super) fn error(&self) -> u64 {
        self.sketch.maximum_error().saturating_add(self.error)
    }

    /// Returns the sum of all counts added.
    pub(super) fn total(&self) -> u64 {
        self.sketch.total_weight().saturating_add(self.weight)
    }

    /// Returns a lower bound of the true count of a key.
    pub(super) fn at_least(&self, key: u64) -> u64 {
        self.sketch.lower_bound(&DISGUISE.put_on(key))
    }

    /// Returns all keys of the sketch, each with a lower bound of its true count.
    pub(super) fn lower_bounds(&self) -> Vec<(u64, u64)> {
        let rows = self.sketch.frequent_items(ErrorType::NoFalseNegatives);
        rows.iter().map(|row| (DISGUISE.take_off(*row.item()), row.lower_bound())).collect()
    }
}
