//! The maps: what the programs share with the daemon, and a place to build records in.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use pktvisor_common::abi::{
    Counters, HEADERS_MAX, ProbeConfig, SAMPLE_MAX, SEEN_PLACES, SampleHeader,
};
use pktvisor_common::packet::PacketMeta;

/// A record while it is built, the headers of packets that lie in pieces, and what was found in
/// them.
#[repr(C)]
pub struct Scratch {
    pub header: SampleHeader,
    pub bytes: [u8; SAMPLE_MAX],
    pub headers: [u8; HEADERS_MAX],
    pub meta: PacketMeta,
    /// The place of the last byte to copy, where the compiler does not see it.
    pub last: u32,
    /// The place of a header, where the verifier does not follow it.
    pub offset: u32,
}

/// Ranges of HOST, where there are more than the configuration holds.
const HOST_TRIE: u32 = 65_536;
/// The size of a ring, until the daemon sets another one.
const RING: u32 = 4096;

#[map]
pub static CONFIG: Array<ProbeConfig> = Array::with_max_entries(1, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
/// 1 at the place of each hook that a packet has reached since the daemon last set it to 0.
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
