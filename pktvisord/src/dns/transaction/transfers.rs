//! Zone transfers under way: one query, many reply messages (RFC 5936 section 2.2).

use std::collections::BTreeMap;

use super::Key;

/// Transfers remembered; the one that was silent for longest makes room.
const TRANSFERS: usize = 256;
/// Nanoseconds of silence after which a transfer is over.
const IDLE: i64 = 120_000_000_000;

/// Exchanges whose first reply was seen, with the time of the latest.
#[derive(Debug, Default)]
pub struct Transfers(BTreeMap<(u64, u64), i64>);

impl Transfers {
    /// The first reply of a transfer came.
    pub fn begin(&mut self, key: &Key, time: i64) {
        if self.0.len() >= TRANSFERS {
            let oldest =
                self.0.iter().min_by_key(|(_, time)| **time).map(|(exchange, _)| *exchange);
            oldest.map(|exchange| self.0.remove(&exchange));
        }
        self.0.insert(key.exchange(), time);
    }

    /// Another query takes the exchange over.
    #[inline]
    pub fn end(&mut self, key: &Key) {
        if !self.0.is_empty() {
            self.0.remove(&key.exchange());
        }
    }

    /// Whether a reply at `time` is part of a transfer.
    #[inline]
    pub fn goes_on(&mut self, key: &Key, time: i64) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Some(latest) = self.0.get_mut(&key.exchange()) else { return false };
        let goes_on = time.saturating_sub(*latest) <= IDLE;
        *latest = time.max(*latest);
        goes_on
    }
}
