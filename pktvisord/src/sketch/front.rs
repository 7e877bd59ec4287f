//! A bounded exact map in front of sketches: what repeats is counted here, and reaches the
//! sketches once, with its count, when the map is emptied.

use hashbrown::HashTable;

/// Entries by hash, in the order in which they came first.
#[derive(Clone, Debug)]
pub struct Front<E> {
    index: HashTable<u32>,
    entries: Vec<(u64, E)>,
    capacity: usize,
}

impl<E> Front<E> {
    /// A map of at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { index: HashTable::new(), entries: Vec::new(), capacity }
    }

    /// Whether a new entry has no room: the map is to be drained first.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    /// The entry of this hash, a new one where there is none.
    ///
    /// Sketches know keys by their hash alone, so that is all that is compared here.
    #[inline]
    pub fn entry(&mut self, hash: u64, new: impl FnOnce() -> E) -> &mut E {
        let entries = &self.entries;
        let found = self.index.find(hash, |&at| entries[at as usize].0 == hash);
        let at = if let Some(&at) = found {
            at as usize
        } else {
            let at = self.entries.len();
            self.index.insert_unique(hash, at as u32, |&at| self.entries[at as usize].0);
            self.entries.push((hash, new()));
            at
        };
        &mut self.entries[at].1
    }

    /// Hands over all entries with their hashes, oldest first, and is empty then.
    pub fn drain(&mut self, mut take: impl FnMut(u64, E)) {
        self.index.clear();
        self.entries.drain(..).for_each(|(hash, entry)| take(hash, entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_drains_in_order() {
        let mut front: Front<u32> = Front::new(3);
        for hash in [1, 2, 1, 3, 2] {
            *front.entry(hash, || 0) += 1;
        }
        assert!(front.is_full());
        let mut drained = Vec::new();
        front.drain(|hash, count| drained.push((hash, count)));
        assert_eq!(drained, [(1, 2), (2, 2), (3, 1)]);
        assert!(!front.is_full());
        front.entry(1, || 7);
        front.drain(|_, count| assert_eq!(count, 7));
    }
}
