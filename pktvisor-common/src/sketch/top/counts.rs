//! Counts of keys: the sketch, and the error of what did not reach it.

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};

use super::MAP_SIZE;
use super::disguise::DISGUISE;

/// The sketch, and what did not reach it.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Of keys in [`DISGUISE`].
    pub(super) sketch: FrequentItemsSketch<u64>,
    /// The sum of the highest counts passed over in each batch.
    pub(super) error: u64,
    /// The sum of all counts passed over.
    pub(super) weight: u64,
}

impl Default for Counts {
    fn default() -> Self {
        let sketch = FrequentItemsSketch::new(MAP_SIZE).expect("the size is a constant that fits");
        Self { sketch, error: 0, weight: 0 }
    }
}

impl Counts {
    /// By how much an estimate is above the true count, at most.
    pub(super) fn error(&self) -> u64 {
        self.sketch.maximum_error().saturating_add(self.error)
    }

    /// All weight that was taken in.
    pub(super) fn total(&self) -> u64 {
        self.sketch.total_weight().saturating_add(self.weight)
    }

    /// What the true count of a key is at least.
    pub(super) fn at_least(&self, key: u64) -> u64 {
        self.sketch.lower_bound(&DISGUISE.put_on(key))
    }

    /// All keys of the sketch, each with what its true count is at least.
    pub(super) fn lower_bounds(&self) -> Vec<(u64, u64)> {
        let rows = self.sketch.frequent_items(ErrorType::NoFalseNegatives);
        rows.iter().map(|row| (DISGUISE.take_off(*row.item()), row.lower_bound())).collect()
    }
}
