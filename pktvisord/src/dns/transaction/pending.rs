//! What waits for its counterpart: found by its key, or by its exchange where the question is not
//! known, and listed by age.
//!
//! Whatever the keys are, at most a few entries are compared for one look-up: entries of one
//! exchange that differ in their question do not share a chain, and the second index holds two of
//! each cell.

use hashbrown::HashTable;

use super::Key;

/// Something that waits.
pub trait Waiting: Copy {
    /// What it is found by.
    fn key(&self) -> &Key;
}

const NONE: u32 = u32::MAX;
/// Cells of the second index, at most: so few stay in a processor's cache.
const CELLS: usize = 512;

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    entry: Option<T>,
    older: u32,
    newer: u32,
}

/// A bounded table of what waits. Entries stand in a slab, linked in the order of arrival, so that
/// the oldest is at hand without a scan.
#[derive(Debug)]
pub struct Pending<T> {
    by_key: HashTable<u32>,
    /// The newest two entries of each cell, by exchange, newest first. Places that have been given
    /// to others since are told by their key.
    by_exchange: Vec<[u32; 2]>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    capacity: usize,
}

impl<T: Waiting> Pending<T> {
    /// A table of at most `capacity` entries; at least 1.
    pub fn new(capacity: usize) -> Self {
        Self {
            by_key: HashTable::new(),
            by_exchange: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            capacity: capacity.max(1),
        }
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no room for another entry.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// The entry of exactly this key.
    #[inline]
    pub fn find(&self, key: &Key) -> Option<u32> {
        self.by_key.find(key.hash(), |&at| self.is_at(at, |entry| entry == key)).copied()
    }

    /// The oldest of the last two entries of this exchange, whatever they ask for.
    pub fn find_exchange(&self, key: &Key) -> Option<u32> {
        let cell = self.by_exchange.get(self.cell(key))?;
        let same = |at: &&u32| self.is_at(**at, |entry| entry.is_same_exchange(key));
        cell.iter().rev().find(same).copied()
    }

    /// The entry at a place that was found.
    pub fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.entry.as_ref()
    }

    /// The newest entries, at most `count`, with their places.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (u32, &T)> {
        let place = |at: u32| (at != NONE).then_some(at);
        std::iter::successors(place(self.newest), move |&at| place(self.slots[at as usize].older))
            .take(count)
            .filter_map(|at| Some((at, self.get(at)?)))
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let slot = |at: u32| (at != NONE).then(|| &self.slots[at as usize]);
        std::iter::successors(slot(self.oldest), move |before| slot(before.newer))
            .filter_map(|slot| slot.entry.as_ref())
    }

    /// Adds an entry whose key is not there, as the newest. There has to be room.
    pub fn insert(&mut self, entry: T) {
        let slot = Slot { entry: Some(entry), older: self.newest, newer: NONE };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            at
        } else {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
        let slots = &self.slots;
        let rehash = |&at: &u32| slots[at as usize].entry.map_or(0, |entry| entry.key().hash());
        self.by_key.insert_unique(entry.key().hash(), at, rehash);
        if self.by_exchange.is_empty() {
            let cells = self.capacity.next_power_of_two().min(CELLS);
            self.by_exchange = vec![[NONE; 2]; cells];
        }
        let cell = self.cell(entry.key());
        let [newest, second] = &mut self.by_exchange[cell];
        (*second, *newest) = (*newest, at);
    }

    /// Takes the entry at a place out.
    pub fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        let entry = slot.entry.take()?;
        let (older, newer) = (slot.older, slot.newer);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        if let Ok(entry) = self.by_key.find_entry(entry.key().hash(), |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
        Some(entry)
    }

    /// The oldest entry.
    #[inline]
    pub fn oldest(&self) -> Option<&T> {
        self.get(self.oldest)
    }

    /// Takes the oldest entry out.
    pub fn remove_oldest(&mut self) -> Option<T> {
        self.remove(self.oldest)
    }

    fn is_at(&self, at: u32, is: impl Fn(&Key) -> bool) -> bool {
        self.get(at).is_some_and(|entry| is(entry.key()))
    }

    fn cell(&self, key: &Key) -> usize {
        key.exchange_hash() as usize & self.by_exchange.len().wrapping_sub(1)
    }
}
