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
    #[inline(always)]
    pub fn entry(&mut self, hash: u64, new: impl FnOnce() -> E) -> &mut E {
        let entries = &self.entries;
        let found = self.index.find(hash, |&at| entries[at as usize].0 == hash).copied();
        let at = found.unwrap_or_else(|| self.add(hash, new()));
        &mut self.entries[at as usize].1
    }

    /// Adds an entry that is not there. Apart, so that the way of those that are there is short.
    #[inline(never)]
    fn add(&mut self, hash: u64, entry: E) -> u32 {
        let at = self.entries.len() as u32;
        self.index.insert_unique(hash, at, |&at| self.entries[at as usize].0);
        self.entries.push((hash, entry));
        at
    }

    /// All entries with their hashes, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &E)> + '_ {
        self.entries.iter().map(|(hash, entry)| (*hash, entry))
    }

    /// The entry of this place in [`Self::iter`].
    pub fn at(&self, place: usize) -> &E {
        &self.entries[place].1
    }

    /// Forgets all entries; their memory is kept.
    pub fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_order() {
        let mut front: Front<u32> = Front::new(3);
        for hash in [1, 2, 1, 3, 2] {
            *front.entry(hash, || 0) += 1;
        }
        assert!(front.is_full());
        let entries: Vec<(u64, u32)> = front.iter().map(|(hash, &count)| (hash, count)).collect();
        assert_eq!(entries, [(1, 2), (2, 2), (3, 1)]);
        assert_eq!(*front.at(2), 1);
        front.clear();
        assert!(!front.is_full());
        assert_eq!(*front.entry(1, || 7), 7);
        assert_eq!(front.iter().count(), 1);
    }
}
