//! The queries that were answered a short time ago.

use super::Key;

/// Places for answered queries. Where two fall on one place, the later one stays.
const PLACES: usize = 4_096;

/// A bounded memory of answered queries, by which further replies to them are told from orphans.
#[derive(Debug, Default)]
pub struct Answered {
    /// Hash of the key, and time of the query; none before the first answer.
    places: Vec<(u64, i64)>,
}

impl Answered {
    /// Notes that the query of this key, asked at `time`, was answered.
    #[inline]
    pub fn note(&mut self, key: &Key, time: i64) {
        if self.places.is_empty() {
            self.places = vec![(0, i64::MIN); PLACES];
        }
        let hash = key.hash();
        self.places[hash as usize % PLACES] = (hash, time);
    }

    /// When the query of this key was asked, if it was answered.
    #[inline]
    pub fn asked(&self, key: &Key) -> Option<i64> {
        let hash = key.hash();
        let (found, time) = *self.places.get(hash as usize % PLACES)?;
        (found == hash && time > i64::MIN).then_some(time)
    }
}
