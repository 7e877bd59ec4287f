//! A bounded exact map in front of the sketches. It counts repeated keys, and each key reaches the
//! sketches once, with its count, when the map is drained.

use hashbrown::HashTable;

/// The counts of one key.
pub trait Entry {
    /// Data stored beside the entries, such as the texts of names.
    type Beside: ?Sized;

    /// Returns the hash of the entry's key, as passed to [`Front::entry`].
    fn hash(&self, beside: &Self::Beside) -> u64;
}

/// Entries by key, in the order of their first appearance.
///
/// The hash of a key is secret to the process, and lookups compare the key itself, so an attacker
/// cannot choose keys that collide.
#[derive(Clone, Debug)]
pub struct Front<E> {
    index: HashTable<u32>,
    entries: Vec<E>,
    capacity: usize,
}

impl<E: Entry> Front<E> {
    /// Creates a map of at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { index: HashTable::new(), entries: Vec::new(), capacity }
    }

    /// Returns true if a new entry has no room: drain the map first.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    /// Returns the entry for which `is` holds among those of this hash, or inserts the one `new` makes.
    ///
    /// This is on the packet path. It is inlined, so that the inputs of `is` and `new` are at hand.
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

    /// Returns the place of the entry for which `is` holds among those of this hash.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&E) -> bool) -> Option<u32> {
        self.index.find(hash, |&at| is(&self.entries[at as usize])).copied()
    }

    /// Returns the entry at a place that [`Front::find`] returned since the map was last cleared.
    #[inline]
    pub(crate) fn at(&mut self, place: u32) -> &mut E {
        &mut self.entries[place as usize]
    }

    /// Inserts an entry. Not inlined, so that the path of existing entries stays short.
    #[inline(never)]
    fn add(&mut self, hash: u64, entry: E, beside: &E::Beside) -> u32 {
        let at = self.entries.len() as u32;
        self.entries.push(entry);
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |&at| entries[at as usize].hash(beside));
        at
    }

    /// Returns all entries, oldest first.
    pub fn entries(&self) -> &[E] {
        &self.entries
    }

    /// Removes all entries and keeps the memory.
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
    fn keys_with_equal_hashes_are_counted_separately_and_in_order() {
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
