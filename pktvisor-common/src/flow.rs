//! The symmetric hash of a flow.
//!
//! It selects the ring, worker and partition of a packet, and which flows are sampled. So both directions
//! of a flow must have the same hash, in the kernel and in user space. The hash is never part of a
//! summary: items that merge between agents are hashed with the fleet key.
//!
//! Addresses are compressed by NH (Black et al., "UMAC: Fast and Secure Message Authentication", 1999,
//! section 4) under a key. Any two addresses collide under fewer than one key in 2^31. So a sender who
//! does not know the key can neither choose flows that collide nor evade sampling. The mixing steps are
//! the 64-bit finalizer of MurmurHash3 (public domain). Both need only 64-bit multiplication, which eBPF
//! has.

use crate::packet::{PacketMeta, Transport};

/// The key of flow hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey {
    /// Two 32-bit numbers for each half of an address.
    halves: [u64; 2],
}

impl FlowKey {
    /// The key for capture files, so that every run gives the same results: digits of π.
    pub const FIXED: Self = Self::of([0x2438_6a88_85a3_08d3, 0x1319_8a2e_0370_7345]);

    /// Creates a key from random numbers.
    pub const fn of(random: [u64; 2]) -> Self {
        // The other bytes of an IPv4 address are 0. A factor of 0 there would give all of them the same
        // hash.
        Self { halves: [random[0] | 1 << 32, random[1]] }
    }

    /// Returns the key as words.
    pub const fn words(&self) -> [u64; 2] {
        self.halves
    }

    /// Returns the hash of one endpoint of a flow.
    #[inline(always)]
    fn endpoint(&self, address: &[u8; 16], port: u16) -> u64 {
        let bytes = u128::from_le_bytes(*address);
        let (first, second) = (bytes as u64, (bytes >> 64) as u64);
        let sum = product(first, self.halves[0]).wrapping_add(product(second, self.halves[1]));
        mix(sum ^ ((port as u64) << 48 | port as u64))
    }

    /// Returns the hash of both endpoints and the transport. It is equal for both directions.
    ///
    /// Packets without ports are hashed by their addresses. A reassembled datagram has the same hash as
    /// one that was never fragmented.
    #[inline(always)]
    pub fn flow(&self, meta: &PacketMeta) -> u64 {
        let src = self.endpoint(&meta.src, meta.src_port);
        let ends = src.wrapping_add(self.endpoint(&meta.dst, meta.dst_port));
        mix(ends ^ (meta.transport as u64) << 56)
    }

    /// Returns the hash of both addresses. It is equal for both directions and for all fragments of a
    /// datagram.
    #[inline(always)]
    pub fn addresses(&self, meta: &PacketMeta) -> u64 {
        mix(self.endpoint(&meta.src, 0).wrapping_add(self.endpoint(&meta.dst, 0)))
    }
}

/// Computes one step of NH: adds a part of the key to each half of a word and multiplies the halves.
#[inline(always)]
const fn product(word: u64, key: u64) -> u64 {
    let low = (word as u32).wrapping_add(key as u32) as u64;
    let high = ((word >> 32) as u32).wrapping_add((key >> 32) as u32) as u64;
    low * high
}

/// Computes the 64-bit finalizer of MurmurHash3: every input bit affects every output bit.
#[inline(always)]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// Returns the hash that decides whether a DNS message is sampled. Over UDP it includes the DNS id. So a
/// query and its reply, or all messages of a TCP connection, are sampled together or not at all.
#[inline(always)]
pub fn dns_sample_hash(flow: u64, transport: Transport, id: u16) -> u64 {
    match transport {
        Transport::Udp => mix(flow ^ 0x5bd1_e995 ^ (id as u64) << 40),
        _ => mix(flow ^ 0x5bd1_e995),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(seed: u64) -> FlowKey {
        FlowKey::of([mix(seed), mix(seed + 1)])
    }

    fn meta(src: [u8; 16], dst: [u8; 16], src_port: u16, dst_port: u16) -> PacketMeta {
        let transport = Transport::Udp;
        PacketMeta { src, dst, src_port, dst_port, transport, ..PacketMeta::default() }
    }

    fn address(first: u64, second: u64) -> [u8; 16] {
        (u128::from(second) << 64 | u128::from(first)).to_le_bytes()
    }

    #[test]
    fn both_directions_have_the_same_hash() {
        let (a, b) = (address(1, 2), address(3, 4));
        let (there, back) = (meta(a, b, 5, 6), meta(b, a, 6, 5));
        for key in [FlowKey::FIXED, key(7)] {
            assert_eq!(key.flow(&there), key.flow(&back));
            assert_eq!(key.addresses(&there), key.addresses(&back));
            assert_ne!(key.flow(&there), key.flow(&meta(a, b, 5, 7)));
        }
        assert_ne!(key(7).flow(&there), key(8).flow(&there));
    }

    /// Addresses that collide under the fixed key do not collide under other keys, and neither do the
    /// addresses of an IPv4 network under any key.
    #[test]
    fn flows_that_collide_under_one_key_do_not_under_others() {
        // If the address makes one factor 0, the other factor has no effect.
        let [first, _] = FlowKey::FIXED.words();
        let zero = u64::from((first as u32).wrapping_neg());
        let to = address(9, 9);
        let chosen: Vec<PacketMeta> =
            (0..1_000).map(|free| meta(address(free << 32 | zero, 0), to, 4, 53)).collect();
        let hashes = |key: FlowKey| -> usize {
            chosen.iter().map(|meta| key.flow(meta)).collect::<HashSet<_>>().len()
        };
        assert_eq!(hashes(FlowKey::FIXED), 1);
        let network = |key: FlowKey| -> usize {
            let addresses = (0..1_000).map(|host| address(0x0a00_0000 + host, 0));
            addresses.map(|from| key.flow(&meta(from, to, 4, 53))).collect::<HashSet<_>>().len()
        };
        for seed in 0..100 {
            assert_eq!(hashes(key(seed)), 1_000, "{seed}");
            assert_eq!(network(key(seed)), 1_000, "{seed}");
        }
        assert_eq!(network(FlowKey::of([0, 0])), 1_000);
    }
}
