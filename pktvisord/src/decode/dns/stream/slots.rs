//! Storage of connections: found by key, and ordered by their latest segment and by the deadline of their
//! gaps.

use std::collections::BTreeSet;

use ahash::RandomState;
use hashbrown::HashTable;

use super::connection::Connection;
use super::{StreamKey, StreamLimits};
use crate::time::Timestamp;

/// Index of a slot in [`Slots`].
pub(super) type Index = u32;

/// No slot: the end of a list.
const NIL: Index = Index::MAX;

/// Maximum connections that an [`Index`] can address.
pub(super) const MAX: usize = 1 << 31;

/// List of all connections.
const ALL: usize = 0;
/// List of the connections that hold memory beyond their slot.
const HOLDERS: usize = 1;

/// A slot with a connection.
#[derive(Debug)]
pub(super) struct Slot<C> {
    /// Key of the connection's direction 0.
    pub key: StreamKey,
    /// Time of the latest segment.
    pub last: Timestamp,
    /// State of the connection.
    pub connection: Connection<C>,
    /// Deadline of its next gap, and since when segments wait, as in [`Slots::gaps`] and [`Slots::waits`].
    gap: Option<(Timestamp, Timestamp)>,
    /// Bytes of memory held beyond this slot, as counted in [`Slots::bytes`].
    held: usize,
    links: [Link; 2],
}

/// The neighbours of a slot in a list.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: Index,
    newer: Index,
}

const UNLINKED: Link = Link { older: NIL, newer: NIL };

/// The connections, and two lists of them in the order of their latest segment.
#[derive(Debug)]
pub(super) struct Slots<C> {
    index: HashTable<Index>,
    /// Keys of the hash, secret to the process, so that nobody can choose keys that collide.
    keys: RandomState,
    places: Vec<Option<Slot<C>>>,
    free: Vec<Index>,
    /// Oldest and newest of each list.
    ends: [Link; 2],
    /// Connections with gaps, by the deadline of the next one.
    gaps: BTreeSet<(Timestamp, Index)>,
    /// Connections with gaps, by the time since which segments wait.
    waits: BTreeSet<(Timestamp, Index)>,
    bytes: usize,
}

impl<C> Default for Slots<C> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            keys: RandomState::new(),
            places: Vec::new(),
            free: Vec::new(),
            ends: [UNLINKED; 2],
            gaps: BTreeSet::new(),
            waits: BTreeSet::new(),
            bytes: 0,
        }
    }
}

impl<C: Copy> Slots<C> {
    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the bytes of memory that the connections hold beyond their slots.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the slot of the connection with this key.
    pub(super) fn find(&self, key: &StreamKey) -> Option<Index> {
        let equal = |index: &Index| self.get(*index).key == *key;
        self.index.find(self.keys.hash_one(key), equal).copied()
    }

    /// Returns the connection in a slot that is in use.
    pub(super) fn get(&self, index: Index) -> &Slot<C> {
        self.places[index as usize].as_ref().expect("a listed slot is in use")
    }

    /// Like [`Self::get`], for changes. Call [`Self::account`] afterwards.
    pub(super) fn get_mut(&mut self, index: Index) -> &mut Slot<C> {
        self.places[index as usize].as_mut().expect("a listed slot is in use")
    }

    /// Adds a connection as the newest. Its key must not be in the table.
    pub(super) fn insert(&mut self, key: StreamKey, last: Timestamp) -> Index {
        let connection = Connection::new();
        let slot = Slot { key, last, connection, gap: None, held: 0, links: [UNLINKED; 2] };
        let index = if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(slot);
            index
        } else {
            self.places.push(Some(slot));
            (self.places.len() - 1) as Index
        };
        let (places, keys) = (&self.places, &self.keys);
        self.index.insert_unique(keys.hash_one(key), index, |other| {
            places[*other as usize].as_ref().map_or(0, |slot| keys.hash_one(slot.key))
        });
        self.link(ALL, index);
        index
    }

    /// Removes and returns a connection.
    pub(super) fn remove(&mut self, index: Index) -> Slot<C> {
        self.set_gap(index, None);
        self.unlink(ALL, index);
        if self.get(index).held > 0 {
            self.unlink(HOLDERS, index);
        }
        let slot = self.places[index as usize].take().expect("a listed slot is in use");
        self.bytes -= slot.held;
        if let Ok(entry) =
            self.index.find_entry(self.keys.hash_one(slot.key), |other| *other == index)
        {
            entry.remove();
        }
        self.free.push(index);
        slot
    }

    /// Makes a connection the newest.
    pub(super) fn touch(&mut self, index: Index) -> &mut Slot<C> {
        self.unlink(ALL, index);
        self.link(ALL, index);
        if self.get(index).held > 0 {
            self.unlink(HOLDERS, index);
            self.link(HOLDERS, index);
        }
        self.get_mut(index)
    }

    /// Updates the memory held by a connection and the deadline of its gaps.
    pub(super) fn account(&mut self, index: Index, limits: &StreamLimits) {
        let slot = self.get_mut(index);
        let (deadline, since) = (slot.connection.deadline(limits), slot.connection.waits_since());
        let gap = deadline.zip(since);
        if gap != slot.gap {
            self.set_gap(index, gap);
        }
        let slot = self.get_mut(index);
        let held = slot.connection.held();
        let before = std::mem::replace(&mut slot.held, held);
        match (before, held) {
            (0, 1..) => self.link(HOLDERS, index),
            (1.., 0) => self.unlink(HOLDERS, index),
            _ => {}
        }
        self.bytes = self.bytes - before + held;
    }

    fn set_gap(&mut self, index: Index, gap: Option<(Timestamp, Timestamp)>) {
        if let Some((deadline, since)) = std::mem::replace(&mut self.get_mut(index).gap, gap) {
            self.gaps.remove(&(deadline, index));
            self.waits.remove(&(since, index));
        }
        if let Some((deadline, since)) = gap {
            self.gaps.insert((deadline, index));
            self.waits.insert((since, index));
        }
    }

    /// Returns a connection with a gap whose deadline is before `now`.
    #[inline]
    pub(super) fn due(&self, now: Timestamp) -> Option<Index> {
        let (deadline, index) = self.gaps.first()?;
        (*deadline < now).then_some(*index)
    }

    /// Returns a lower bound of the time since which segments wait for earlier ones.
    #[inline]
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        self.waits.first().map(|(since, _)| *since)
    }

    /// Returns the connection that was silent for longest.
    pub(super) fn oldest(&self) -> Option<Index> {
        Some(self.ends[ALL].older).filter(|index| *index != NIL)
    }

    /// Returns the connection that was silent for longest among those that hold memory.
    pub(super) fn oldest_holder(&self) -> Option<Index> {
        Some(self.ends[HOLDERS].older).filter(|index| *index != NIL)
    }

    /// Adds a connection as the newest of a list that it is not in.
    fn link(&mut self, list: usize, index: Index) {
        let newest = std::mem::replace(&mut self.ends[list].newer, index);
        self.get_mut(index).links[list] = Link { older: newest, newer: NIL };
        if newest == NIL {
            self.ends[list].older = index;
        } else {
            self.get_mut(newest).links[list].newer = index;
        }
    }

    /// Removes a connection from a list that it is in.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connection_takes_at_most_500_bytes() {
        // The slot, its entry in the index at the lowest load (an index and a control byte, in a table that
        // just doubled), and its entry in the free list.
        let slot = size_of::<Option<Slot<crate::aggregate::dns::Context>>>();
        assert!(slot + 2 * (size_of::<Index>() + 1) + 4 <= 500, "{slot}");
    }
}
