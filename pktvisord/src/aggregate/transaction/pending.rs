//! A table of queries or replies that wait for their counterpart. It finds them by key, or by exchange
//! if the question is not known, and orders them by age.
//!
//! One lookup compares only a few entries, whatever the keys are: entries of one exchange with
//! different questions do not share a chain, and the second index holds two entries per cell.

use ahash::RandomState;
use hashbrown::HashTable;

use super::Key;

/// An entry that waits for its counterpart.
pub(super) trait Waiting: Copy {
    /// Returns the key that finds it.
    fn key(&self) -> &Key;
}

/// Index of a slot. Small, because accesses to these tables miss the processor's caches.
pub(super) type Place = u16;

const NONE: Place = Place::MAX;
/// Maximum cells of the second index: few enough to stay in a processor's cache.
const CELLS: usize = 512;

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    entry: Option<T>,
    older: Place,
    newer: Place,
}

/// A bounded table of waiting entries. The slots are linked in order of arrival, so the oldest entry is
/// found without a scan.
#[derive(Debug)]
pub(super) struct Pending<T> {
    by_key: HashTable<Place>,
    /// Keys of the hash, secret to the process, so that nobody can choose keys that collide.
    keys: RandomState,
    /// The two newest entries of each cell by exchange, newest first. A slot may have been reused since,
    /// so its key is compared.
    by_exchange: Vec<[Place; 2]>,
    slots: Vec<Slot<T>>,
    free: Vec<Place>,
    oldest: Place,
    newest: Place,
    capacity: usize,
}

impl<T: Waiting> Pending<T> {
    /// Creates a table of at most `capacity` entries, which is clamped to 1 to 65,535.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            by_key: HashTable::new(),
            keys: RandomState::new(),
            by_exchange: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            capacity: capacity.clamp(1, NONE.into()),
        }
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns true if there is no room for another entry.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Returns the slot of the entry with exactly this key.
    #[inline]
    pub(super) fn find(&self, key: &Key) -> Option<Place> {
        self.by_key
            .find(self.keys.hash_one(key), |&at| self.is_at(at, |entry| entry == key))
            .copied()
    }

    /// Returns the older of the last two entries in the cell that belong to this exchange, whatever their
    /// question.
    pub(super) fn find_exchange(&self, key: &Key) -> Option<Place> {
        let cell = self.by_exchange.get(self.cell(key))?;
        let same = |at: &&Place| self.is_at(**at, |entry| entry.is_same_exchange(key));
        cell.iter().rev().find(same).copied()
    }

    /// Returns the entry in a slot.
    pub(super) fn get(&self, at: Place) -> Option<&T> {
        self.slots.get(usize::from(at))?.entry.as_ref()
    }

    /// Iterates over at most `count` newest entries, with their slots.
    pub(super) fn newest(&self, count: usize) -> impl Iterator<Item = (Place, &T)> {
        let place = |at: Place| (at != NONE).then_some(at);
        let older = move |at: &Place| place(self.slots[usize::from(*at)].older);
        std::iter::successors(place(self.newest), older)
            .take(count)
            .filter_map(|at| Some((at, self.get(at)?)))
    }

    /// Iterates over the entries, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let slot = |at: Place| (at != NONE).then(|| &self.slots[usize::from(at)]);
        std::iter::successors(slot(self.oldest), move |before| slot(before.newer))
            .filter_map(|slot| slot.entry.as_ref())
    }

    /// Adds an entry as the newest. Its key must not be in the table, and there must be room.
    #[inline(always)]
    pub(super) fn insert(&mut self, entry: T) {
        let slot = Slot { entry: Some(entry), older: self.newest, newer: NONE };
        let at = if let Some(at) = self.free.pop() {
            self.slots[usize::from(at)] = slot;
            at
        } else {
            self.slots.push(slot);
            (self.slots.len() - 1) as Place
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[usize::from(newest)].newer = at,
        }
        self.newest = at;
        let slots = &self.slots;
        let other = |at: Place| slots[usize::from(at)].entry.as_ref();
        let keys = &self.keys;
        let rehash = |&at: &Place| other(at).map_or(0, |other| keys.hash_one(other.key()));
        self.by_key.insert_unique(keys.hash_one(entry.key()), at, rehash);
        if self.by_exchange.is_empty() {
            let cells = self.capacity.next_power_of_two().min(CELLS);
            self.by_exchange = vec![[NONE; 2]; cells];
        }
        let cell = self.cell(entry.key());
        let [newest, second] = &mut self.by_exchange[cell];
        (*second, *newest) = (*newest, at);
    }

    /// Removes and returns the entry with exactly this key, if `wanted` holds for it.
    #[inline]
    pub(super) fn take(&mut self, key: &Key, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let slots = &self.slots;
        let entry = |at: Place| slots[usize::from(at)].entry.as_ref();
        let is = |&at: &Place| entry(at).is_some_and(|entry| entry.key() == key);
        let found = self.by_key.find_entry(self.keys.hash_one(key), is).ok()?;
        let at = *found.get();
        if !entry(at).is_some_and(wanted) {
            return None;
        }
        found.remove();
        self.vacate(at)
    }

    /// Removes and returns the entry in a slot.
    pub(super) fn remove(&mut self, at: Place) -> Option<T> {
        let hash = self.keys.hash_one(self.get(at)?.key());
        if let Ok(found) = self.by_key.find_entry(hash, |&other| other == at) {
            found.remove();
        }
        self.vacate(at)
    }

    /// Removes and returns the entry in a slot that is no longer in the index by key.
    #[inline]
    fn vacate(&mut self, at: Place) -> Option<T> {
        let slot = self.slots.get_mut(usize::from(at))?;
        let entry = slot.entry.take()?;
        let (older, newer) = (slot.older, slot.newer);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[usize::from(older)].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[usize::from(newer)].older = older,
        }
        self.free.push(at);
        Some(entry)
    }

    /// Returns the oldest entry.
    #[inline]
    pub(super) fn oldest(&self) -> Option<&T> {
        self.get(self.oldest)
    }

    /// Removes and returns the oldest entry.
    pub(super) fn remove_oldest(&mut self) -> Option<T> {
        self.remove(self.oldest)
    }

    fn is_at(&self, at: Place, is: impl Fn(&Key) -> bool) -> bool {
        self.get(at).is_some_and(|entry| is(entry.key()))
    }

    fn cell(&self, key: &Key) -> usize {
        key.exchange_hash() as usize & self.by_exchange.len().wrapping_sub(1)
    }
}
