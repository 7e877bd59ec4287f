//! Counters that have a name in the byte form.
//!
//! Unlike a position in a structure, a name means the same in every release. So agents of two
//! releases merge the counters that both know.

/// A group of plain counters.
pub trait Counters: Clone {
    /// Returns every counter with its name, always in the same order.
    ///
    /// Implementations destructure `self`, so that a forgotten counter does not compile.
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)>;

    /// Adds the counters of `other`. Sums saturate.
    fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for ((_, mine), (_, theirs)) in self.counters().into_iter().zip(other.counters()) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}
