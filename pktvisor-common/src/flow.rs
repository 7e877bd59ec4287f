//! The symmetric hash of a flow.
//!
//! It decides which ring, shard and partition a packet goes to, and which flows are sampled, so
//! both directions of a flow must get the same value, in the kernel as in user space. It is never
//! part of a summary: what merges between agents is hashed with XXH3 there.
//!
//! The mixing steps are the 64-bit finalizer of MurmurHash3 (public domain), which needs nothing
//! but the 64-bit multiplication that eBPF has.

use crate::packet::{PacketMeta, Transport};

/// The 64-bit finalizer of MurmurHash3: every input bit reaches every output bit.
#[inline(always)]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

#[inline(always)]
fn endpoint(address: &[u8; 16], port: u16) -> u64 {
    let octets = u128::from_le_bytes(*address);
    let (high, low) = (octets as u64, (octets >> 64) as u64);
    let port = (port as u64) << 48 | port as u64;
    mix(high ^ low.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ port)
}

/// The hash of the two endpoints and the transport; equal for both directions.
///
/// Packets without ports hash by their addresses. A reassembled datagram hashes like one that
/// was never fragmented.
#[inline(always)]
pub fn flow_hash(meta: &PacketMeta) -> u64 {
    let ends = endpoint(&meta.src, meta.src_port).wrapping_add(endpoint(&meta.dst, meta.dst_port));
    mix(ends ^ (meta.transport as u64) << 56)
}

/// The hash of the two addresses alone; equal for both directions, and for all fragments of a
/// datagram.
#[inline(always)]
pub fn address_hash(meta: &PacketMeta) -> u64 {
    mix(endpoint(&meta.src, 0).wrapping_add(endpoint(&meta.dst, 0)))
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
