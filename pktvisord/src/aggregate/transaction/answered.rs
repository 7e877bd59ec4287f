//! The queries that were answered a short time ago.

use super::Key;

/// Places for answered queries. Where two fall on one place, the later one stays. So few stay in a
/// processor's cache.
const PLACES: usize = 512;
/// Nanoseconds of a tick, about a millisecond: times are kept as ticks in 32 bits, good for 52 days.
const TICK: i64 = 1 << 20;

/// A bounded memory of answered queries, by which further replies to them are told from orphans.
#[derive(Debug, Default)]
pub struct Answered {
    /// Half of the hash of the key, never 0, and tick of the query; none before the first answer.
    places: Vec<(u32, u32)>,
}

impl Answered {
    /// Notes that the query of this key, asked at `time`, was answered.
    #[inline]
    pub fn note(&mut self, key: &Key, time: i64) {
        if self.places.is_empty() {
            self.places = vec![(0, 0); PLACES];
        }
        let (place, tag) = place(key);
        self.places[place] = (tag, tick(time));
    }

    /// Whether the query of this key was answered, and asked at most `timeout` nanoseconds before
    /// `time`, to a tick.
    #[inline]
    pub fn has(&self, key: &Key, time: i64, timeout: i64) -> bool {
        let (place, tag) = place(key);
        let Some(&(found, asked)) = self.places.get(place) else { return false };
        let passed = i64::from(tick(time).wrapping_sub(asked) as i32);
        found == tag && (0..=timeout / TICK).contains(&passed)
    }
}

#[inline]
fn place(key: &Key) -> (usize, u32) {
    let hash = key.digest();
    (hash as usize % PLACES, ((hash >> 32) as u32).max(1))
}

#[inline]
fn tick(time: i64) -> u32 {
    time.div_euclid(TICK) as u32
}
