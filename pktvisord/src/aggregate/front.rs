//! A bounded exact map in front of sketches: what repeats is counted here, and reaches the
//! sketches once, with its count, when the map is emptied.

use hashbrown::HashTable;

/// What is counted of a key.
pub trait Entry {
    /// What is beside the entries and belongs to them, such as the texts of names.
    type Beside: ?Sized;

    /// The hash of its key, by which it was asked for.
    fn hash(&self, beside: &Self::Beside) -> u64;
}

/// Entries by key, in the order in which they came first.
///
/// A key is found by a hash that nobody outside the process can know, and is compared itself: no
/// choice of keys makes many fall together.
#[derive(Clone, Debug)]
pub struct Front<E> {
    index: HashTable<u32>,
    entries: Vec<E>,
    capacity: usize,
}

impl<E: Entry> Front<E> {
    /// A map of at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { index: HashTable::new(), entries: Vec::new(), capacity }
    }

    /// Whether a new entry has no room: the map is to be drained first.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    /// The entry that `is` the one of a key with this hash; `new` makes one where there is none.
    ///
    /// On the packet path, and inlined there: what `is` and `new` ask for is at hand.
    #[inline(always)]
    pub fn entry(
        &mut self,
        hash: u64,
        beside: &mut E::Beside,
        is: impl Fn(&E, &E::Beside) -> bool,
        new: impl FnOnce(&mut E::Beside) -> E,
    ) -> &mut E {
        let entries = &self.entries;
        let found = self.index.find(hash, |&at| is(&entries[at as usize], beside)).copied();
        let at = found.unwrap_or_else(|| {
            let entry = new(beside);
            self.add(hash, entry, beside)
        });
        &mut self.entries[at as usize]
    }

    /// Adds an entry that is not there. Apart, so that the way of those that are there is short.
    #[inline(never)]
    fn add(&mut self, hash: u64, entry: E, beside: &E::Beside) -> u32 {
        let at = self.entries.len() as u32;
        self.entries.push(entry);
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |&at| entries[at as usize].hash(beside));
        at
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[E] {
        &self.entries
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

    struct Count {
        key: u64,
        count: u32,
    }

    impl Entry for Count {
        type Beside = ();

        fn hash(&self, (): &()) -> u64 {
            self.key % 2
        }
    }

    fn count(front: &mut Front<Count>, key: u64) {
        let is = |entry: &Count, (): &()| entry.key == key;
        front.entry(key % 2, &mut (), is, |()| Count { key, count: 0 }).count += 1;
    }

    #[test]
    fn keys_of_one_hash_count_apart_and_in_order() {
        let mut front = Front::new(40);
        for round in 0..3 {
            for key in 0..40 {
                assert_eq!(front.is_full(), round > 0);
                count(&mut front, key);
            }
        }
        let counts: Vec<(u64, u32)> =
            front.entries().iter().map(|entry| (entry.key, entry.count)).collect();
        assert_eq!(counts, (0..40).map(|key| (key, 3)).collect::<Vec<_>>());
        front.clear();
        assert!(!front.is_full());
        count(&mut front, 1);
        assert_eq!(front.entries().len(), 1);
    }
}
