//! Where the half-streams lie: found by key, listed by how long they were silent.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::StreamKey;
use super::half::HalfStream;

/// A place in [`Slots`].
pub type Index = u32;

/// No place: the end of a list.
const NIL: Index = Index::MAX;

/// Streams that can be told apart by an [`Index`].
pub const MAX: usize = 1 << 31;

/// The list of all streams.
const ALL: usize = 0;
/// The list of the streams that hold memory beyond their slot.
const HOLDERS: usize = 1;

/// A half-stream in its place.
#[derive(Debug)]
pub struct Slot {
    /// Its key.
    pub key: StreamKey,
    /// Time of its latest segment.
    pub last: i64,
    /// Its state.
    pub half: HalfStream,
    /// Octets of memory it holds beyond this slot, as counted in [`Slots::bytes`].
    held: usize,
    links: [Link; 2],
}

/// A slot's neighbours in a list.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: Index,
    newer: Index,
}

const UNLINKED: Link = Link { older: NIL, newer: NIL };

/// The half-streams, and two lists of them in the order of their latest segment.
#[derive(Debug)]
pub struct Slots {
    index: HashTable<Index>,
    places: Vec<Option<Slot>>,
    free: Vec<Index>,
    /// Oldest and newest of each list.
    ends: [Link; 2],
    bytes: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            places: Vec::new(),
            free: Vec::new(),
            ends: [UNLINKED; 2],
            bytes: 0,
        }
    }
}

impl Slots {
    /// Streams kept.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Octets of memory that the streams hold beyond their slots.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the stream of `key` is.
    pub fn find(&self, key: &StreamKey) -> Option<Index> {
        let equal = |index: &Index| self.get(*index).key == *key;
        self.index.find(hash(key), equal).copied()
    }

    /// The stream at `index`, which is in use.
    pub fn get(&self, index: Index) -> &Slot {
        self.places[index as usize].as_ref().expect("a listed slot is in use")
    }

    fn get_mut(&mut self, index: Index) -> &mut Slot {
        self.places[index as usize].as_mut().expect("a listed slot is in use")
    }

    /// Adds a stream whose key is not there yet, as the newest.
    pub fn insert(&mut self, key: StreamKey, last: i64, half: HalfStream) -> Index {
        let slot = Slot { key, last, half, held: 0, links: [UNLINKED; 2] };
        let index = if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(slot);
            index
        } else {
            self.places.push(Some(slot));
            (self.places.len() - 1) as Index
        };
        let places = &self.places;
        self.index.insert_unique(hash(&key), index, |other| {
            places[*other as usize].as_ref().map_or(0, |slot| hash(&slot.key))
        });
        self.link(ALL, index);
        index
    }

    /// Takes a stream out.
    pub fn remove(&mut self, index: Index) -> Slot {
        self.unlink(ALL, index);
        if self.get(index).held > 0 {
            self.unlink(HOLDERS, index);
        }
        let slot = self.places[index as usize].take().expect("a listed slot is in use");
        self.bytes -= slot.held;
        if let Ok(entry) = self.index.find_entry(hash(&slot.key), |other| *other == index) {
            entry.remove();
        }
        self.free.push(index);
        slot
    }

    /// Makes a stream the newest.
    pub fn touch(&mut self, index: Index) -> &mut Slot {
        self.unlink(ALL, index);
        self.link(ALL, index);
        if self.get(index).held > 0 {
            self.unlink(HOLDERS, index);
            self.link(HOLDERS, index);
        }
        self.get_mut(index)
    }

    /// Counts anew what the newest stream holds.
    pub fn account(&mut self, index: Index) {
        let slot = self.get_mut(index);
        let held = slot.half.held();
        let before = std::mem::replace(&mut slot.held, held);
        match (before, held) {
            (0, 1..) => self.link(HOLDERS, index),
            (1.., 0) => self.unlink(HOLDERS, index),
            _ => {}
        }
        self.bytes = self.bytes - before + held;
    }

    /// The stream that was silent for longest.
    pub fn oldest(&self) -> Option<Index> {
        Some(self.ends[ALL].older).filter(|index| *index != NIL)
    }

    /// The stream that was silent for longest, of those that hold memory.
    pub fn oldest_holder(&self) -> Option<Index> {
        Some(self.ends[HOLDERS].older).filter(|index| *index != NIL)
    }

    /// Puts a stream at the new end of a list that it is not in.
    fn link(&mut self, list: usize, index: Index) {
        let newest = std::mem::replace(&mut self.ends[list].newer, index);
        self.get_mut(index).links[list] = Link { older: newest, newer: NIL };
        if newest == NIL {
            self.ends[list].older = index;
        } else {
            self.get_mut(newest).links[list].newer = index;
        }
    }

    /// Takes a stream out of a list that it is in.
    fn unlink(&mut self, list: usize, index: Index) {
        let Link { older, newer } = self.get(index).links[list];
        if older == NIL {
            self.ends[list].older = newer;
        } else {
            self.get_mut(older).links[list].newer = newer;
        }
        if newer == NIL {
            self.ends[list].newer = older;
        } else {
            self.get_mut(newer).links[list].older = older;
        }
    }
}

fn hash(key: &StreamKey) -> u64 {
    xxh3_64(&key.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_takes_less_than_200_octets() {
        // The slot, its entry in the index at the lowest load (an index and a control octet, in a
        // table that just doubled), its entry in the free list.
        assert!(size_of::<Option<Slot>>() + 2 * (size_of::<Index>() + 1) + 4 <= 200);
    }
}
