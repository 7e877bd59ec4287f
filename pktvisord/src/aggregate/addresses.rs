//! The addresses of the live bucket, counted exactly before they reach the sketches.

use std::net::IpAddr;

use ahash::RandomState;
use pktvisor_common::packet::IpVersion;
use pktvisor_common::sketch::key::FleetKey;
use pktvisor_common::summary::mask::Mask;

use super::front::{Entry, Front};

/// Maximum addresses held in front of the sketches.
const ADDRESSES: usize = 1 << 16;
/// Number of addresses that are looked up together. The processor then waits for all their cache misses at
/// once instead of one after the other.
const GROUP: usize = 32;

/// The counts of an address within one minute, until it reaches the sketches. 32 bits are enough for
/// 70 million packets a second. Keep it small: accesses to these entries are the ones that miss the
/// processor's caches.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressCounts {
    /// The address as in the packet headers.
    bytes: [u8; 16],
    pub(super) remote_bytes: u64,
    pub(super) remote_packets: u32,
    pub(super) ipv4: bool,
    pub(super) source_in: bool,
    pub(super) destination_out: bool,
}

impl AddressCounts {
    /// Creates the entry of an address that was seen and has no counts.
    #[inline]
    pub(super) fn new(bytes: &[u8; 16], version: IpVersion) -> Self {
        Self {
            bytes: *bytes,
            remote_bytes: 0,
            remote_packets: 0,
            ipv4: version == IpVersion::V4,
            source_in: false,
            destination_out: false,
        }
    }

    /// Reduces the address to its prefix.
    pub(super) fn mask(&mut self, mask: Mask) {
        let version = if self.ipv4 { IpVersion::V4 } else { IpVersion::V6 };
        self.bytes = mask.apply(&self.bytes, version);
    }

    pub(super) fn address(&self) -> IpAddr {
        match self.ipv4 {
            true => IpAddr::from(self.bytes[..4].as_array::<4>().copied().unwrap_or_default()),
            false => IpAddr::from(self.bytes),
        }
    }

    /// Returns the key of the address in the sketches.
    pub(super) fn key(&self, fleet: &FleetKey) -> u64 {
        fleet.hash(&self.bytes[..if self.ipv4 { 4 } else { 16 }])
    }

    fn without_counts(&self) -> Self {
        Self { remote_bytes: 0, remote_packets: 0, ..*self }
    }

    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.ipv4 == other.ipv4
    }

    #[inline]
    fn merge(&mut self, other: &Self) {
        let Self { bytes: _, remote_bytes, remote_packets, ipv4: _, source_in, destination_out } =
            *other;
        self.remote_bytes += remote_bytes;
        self.remote_packets = self.remote_packets.saturating_add(remote_packets);
        self.source_in |= source_in;
        self.destination_out |= destination_out;
    }
}

impl Entry for AddressCounts {
    type Beside = RandomState;

    #[inline]
    fn hash(&self, keys: &RandomState) -> u64 {
        keys.hash_one(u128::from_ne_bytes(self.bytes))
    }
}

/// The addresses of a bucket with their counts. The latest ones wait in a group.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    front: Front<AddressCounts>,
    /// Keys of the hash by which addresses are found.
    keys: RandomState,
    /// At most [`GROUP`].
    group: Vec<AddressCounts>,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            // A whole group may be new.
            front: Front::new(ADDRESSES - GROUP),
            keys: RandomState::new(),
            group: Vec::with_capacity(GROUP),
        }
    }
}

impl Addresses {
    /// Adds counts to an address.
    #[inline]
    pub(super) fn add(&mut self, counts: AddressCounts) {
        self.group.push(counts);
        if self.group.len() == GROUP {
            self.settle();
        }
    }

    /// Returns true if a further group may have no room: take and clear the addresses first.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.front.is_full()
    }

    /// Returns true if no address was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.group.is_empty() && self.front.entries().is_empty()
    }

    /// Returns all addresses, in the order of their first appearance.
    pub(super) fn settled(&mut self) -> &[AddressCounts] {
        self.settle();
        self.front.entries()
    }

    /// Removes all addresses and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.group.clear();
        self.front.clear();
    }

    /// Counts the waiting addresses.
    #[inline(never)]
    fn settle(&mut self) {
        let Self { front, keys, group } = self;
        // Look up all of them first: these steps do not wait for each other.
        let mut hashes = [0; GROUP];
        for (hash, counts) in hashes.iter_mut().zip(&*group) {
            *hash = counts.hash(keys);
        }
        let mut places = [None; GROUP];
        for ((place, &hash), counts) in places.iter_mut().zip(&hashes).zip(&*group) {
            *place = front.find(hash, |known| known.is_same(counts));
        }
        for ((place, &hash), counts) in places.iter().zip(&hashes).zip(&*group) {
            let Some(place) = *place else {
                // An earlier one of the group can be of the same address.
                let is = |known: &AddressCounts, _: &RandomState| known.is_same(counts);
                let new = |_: &mut RandomState| counts.without_counts();
                front.entry(hash, keys, is, new).merge(counts);
                continue;
            };
            front.at(place).merge(counts);
        }
        group.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Counts do not depend on groups: an address can be in one group more than once.
        #[test]
        fn counts_each_address_exactly(seen in prop::collection::vec((0..40_u8, 0..9_u32), 0..300)) {
            let mut addresses = Addresses::default();
            let mut expected: BTreeMap<u8, (u64, u32)> = BTreeMap::new();
            let mut order = Vec::new();
            for &(last, packets) in &seen {
                let known = expected.entry(last).or_insert_with(|| {
                    order.push(last);
                    (0, 0)
                });
                *known = (known.0 + 100 * u64::from(packets), known.1 + packets);
                let mut bytes = [7; 16];
                bytes[15] = last;
                addresses.add(AddressCounts {
                    remote_bytes: 100 * u64::from(packets),
                    remote_packets: packets,
                    ..AddressCounts::new(&bytes, IpVersion::V6)
                });
                prop_assert!(!addresses.is_full());
            }
            prop_assert_eq!(addresses.is_empty(), seen.is_empty());
            let counted: Vec<_> = addresses
                .settled()
                .iter()
                .map(|counts| (counts.bytes[15], (counts.remote_bytes, counts.remote_packets)))
                .collect();
            let expected: Vec<_> = order.iter().map(|last| (*last, expected[last])).collect();
            prop_assert_eq!(counted, expected);
            addresses.clear();
            prop_assert!(addresses.is_empty());
        }
    }

    #[test]
    fn asks_to_be_cleared_before_it_grows() {
        let mut addresses = Addresses::default();
        let mut number = 0_u128;
        while !addresses.is_full() {
            number += 1;
            addresses.add(AddressCounts::new(&number.to_ne_bytes(), IpVersion::V6));
        }
        assert_eq!(addresses.settled().len() as u128, number);
        assert!(number <= ADDRESSES as u128);
    }
}
