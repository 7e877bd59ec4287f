//! The maps that the programs share with the daemon, and a scratch map to build records in.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use pktvisor_common::abi::{
    Counters, HEADERS_MAX, ProbeConfig, SAMPLE_MAX, SEEN_PLACES, SampleHeader,
};
use pktvisor_common::packet::PacketMeta;

/// A record under construction, a copy of the packet's headers, and the result of their walk.
#[repr(C)]
pub struct Scratch {
    pub header: SampleHeader,
    pub bytes: [u8; SAMPLE_MAX],
    pub headers: [u8; HEADERS_MAX],
    pub meta: PacketMeta,
    /// Index of the last byte to copy, hidden from the compiler.
    pub last: u32,
    /// Offset of a header, hidden from the verifier.
    pub offset: u32,
}

/// Capacity of a trie of HOST ranges. The tries are used if the ranges do not fit into
/// [`ProbeConfig`].
const HOST_TRIE: u32 = 65_536;
/// Placeholder size of a ring in bytes; the daemon sets the real one.
const RING: u32 = 4096;

#[map]
pub static CONFIG: Array<ProbeConfig> = Array::with_max_entries(1, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
/// 1 for each hook that a packet has reached since the daemon last reset the entry to 0.
#[map]
pub static SEEN: Array<u32> = Array::with_max_entries(SEEN_PLACES, 0);
#[map]
pub static HOSTS_V4: LpmTrie<[u8; 4], u8> = LpmTrie::with_max_entries(HOST_TRIE, 0);
#[map]
pub static HOSTS_V6: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(HOST_TRIE, 0);
#[map]
pub static RING_0: RingBuf = RingBuf::with_byte_size(RING, 0);
#[map]
pub static RING_1: RingBuf = RingBuf::with_byte_size(RING, 0);
#[map]
pub static RING_2: RingBuf = RingBuf::with_byte_size(RING, 0);
#[map]
pub static RING_3: RingBuf = RingBuf::with_byte_size(RING, 0);
