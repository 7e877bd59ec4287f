//! The symmetric hash of a flow.
//!
//! It decides which ring, worker and partition a packet goes to, and which flows are sampled, so
//! both directions of a flow must get the same value, in the kernel as in user space. It is never
//! part of a summary: what merges between agents is hashed with the fleet's key there.
//!
//! Addresses are compressed by NH (Black et al., "UMAC: Fast and Secure Message Authentication", 1999,
//! section 4) under a key: of whatever two, fewer than one key in 2^31 gives them one value. So no sender
//! who does not know the key can choose flows that fall together, or evade sampling. The mixing
//! steps are the 64-bit finalizer of MurmurHash3 (public domain). Both need nothing but the 64-bit
//! multiplication that eBPF has.

use crate::packet::{PacketMeta, Transport};

/// The key of flow hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey {
    /// Two numbers of 32 bits for each half of an address.
    halves: [u64; 2],
}

impl FlowKey {
    /// The key for capture files, whose results are the same in every run: digits of π.
    pub const FIXED: Self = Self::of([0x2438_6a88_85a3_08d3, 0x1319_8a2e_0370_7345]);

    /// The key that is made of random numbers.
    pub const fn of(random: [u64; 2]) -> Self {
        // The rest of an IPv4 address is 0: a factor of 0 there would make all of them one.
        Self { halves: [random[0] | 1 << 32, random[1]] }
    }

    /// The words that the key lies in.
    pub const fn words(&self) -> [u64; 2] {
        self.halves
    }

    /// The hash of an end of a flow.
    #[inline(always)]
    fn endpoint(&self, address: &[u8; 16], port: u16) -> u64 {
        let bytes = u128::from_le_bytes(*address);
        let (first, second) = (bytes as u64, (bytes >> 64) as u64);
        let sum = product(first, self.halves[0]).wrapping_add(product(second, self.halves[1]));
        mix(sum ^ ((port as u64) << 48 | port as u64))
    }

    /// The hash of the two endpoints and the transport; equal for both directions.
    ///
    /// Packets without ports hash by their addresses. A reassembled datagram hashes like one that
    /// was never fragmented.
    #[inline(always)]
    pub fn flow(&self, meta: &PacketMeta) -> u64 {
        let src = self.endpoint(&meta.src, meta.src_port);
        let ends = src.wrapping_add(self.endpoint(&meta.dst, meta.dst_port));
        mix(ends ^ (meta.transport as u64) << 56)
    }

    /// The hash of the two addresses alone; equal for both directions, and for all fragments of a
    /// datagram.
    #[inline(always)]
    pub fn addresses(&self, meta: &PacketMeta) -> u64 {
        mix(self.endpoint(&meta.src, 0).wrapping_add(self.endpoint(&meta.dst, 0)))
    }
}

/// A step of NH: both halves of a word, each with a part of the key added, multiplied.
#[inline(always)]
const fn product(word: u64, key: u64) -> u64 {
    let low = (word as u32).wrapping_add(key as u32) as u64;
    let high = ((word >> 32) as u32).wrapping_add((key >> 32) as u32) as u64;
    low * high
}

/// The 64-bit finalizer of MurmurHash3: every input bit reaches every output bit.
#[inline(always)]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// The hash that decides whether a DNS message is sampled: `flow` and, over UDP, the DNS id, so
/// that a query and its reply, and all of a TCP stream, are taken or left together.
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
    fn both_directions_are_one_flow() {
        let (a, b) = (address(1, 2), address(3, 4));
        let (there, back) = (meta(a, b, 5, 6), meta(b, a, 6, 5));
        for key in [FlowKey::FIXED, key(7)] {
            assert_eq!(key.flow(&there), key.flow(&back));
            assert_eq!(key.addresses(&there), key.addresses(&back));
            assert_ne!(key.flow(&there), key.flow(&meta(a, b, 5, 7)));
        }
        assert_ne!(key(7).flow(&there), key(8).flow(&there));
    }

    /// Addresses that the fixed key takes for one are told apart by others, and so are those of an
    /// IPv4 network, whatever the key.
    #[test]
    fn flows_that_fall_together_by_one_key_do_not_by_another() {
        // A factor that the key makes 0 leaves the other one free.
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
