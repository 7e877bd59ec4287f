//! Recently answered queries.

use super::Key;
use crate::time::{Span, Timestamp};

/// Slots for answered queries. A later query replaces an earlier one in the same slot. The number is
/// small enough to stay in a processor's cache.
const PLACES: usize = 512;
/// Nanoseconds of a tick, about a millisecond. Times are kept as 32-bit ticks, which wrap after 52 days.
const TICK: i64 = 1 << 20;

/// A bounded memory of answered queries. It tells duplicate replies from orphans.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Half of the key's hash, never 0, and the tick of the query. Empty before the first answer.
    places: Vec<(u32, u32)>,
}

impl Answered {
    /// Records that the query of this key, sent at `time`, was answered.
    #[inline]
    pub(super) fn note(&mut self, key: &Key, time: Timestamp) {
        if self.places.is_empty() {
            self.places = vec![(0, 0); PLACES];
        }
        let (place, tag) = place(key);
        self.places[place] = (tag, tick(time));
    }

    /// Returns true if the query of this key was answered, and was sent at most `timeout`
    /// before `time`, to within a tick.
    #[inline]
    pub(super) fn has(&self, key: &Key, time: Timestamp, timeout: Span) -> bool {
        let (place, tag) = place(key);
        let Some(&(found, asked)) = self.places.get(place) else { return false };
        let passed = i64::from(tick(time).wrapping_sub(asked) as i32);
        found == tag && (0..=timeout.as_nanos() / TICK).contains(&passed)
    }
}

#[inline]
fn place(key: &Key) -> (usize, u32) {
    let hash = key.digest();
    (hash as usize % PLACES, ((hash >> 32) as u32).max(1))
}

#[inline]
fn tick(time: Timestamp) -> u32 {
    time.as_nanos().div_euclid(TICK) as u32
}
