//! What is done with a packet: its headers are walked, it is counted, and a record is made of it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_ringbuf_output,
};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::lpm_trie::Key;
use pktvisor_common::abi::{
    Counters, HEADERS_MAX, HostMode, Kind, SAMPLE_HEADER, SAMPLE_MAX, SampleHeader, Start,
    seen_place,
};
use pktvisor_common::direction::Direction;
use pktvisor_common::flow::{address_hash, flow_hash};
use pktvisor_common::outcome::Outcome;
use pktvisor_common::packet::{
    Fragment, IpVersion, PacketBytes, PacketMeta, TCP_FIN, TCP_RST, TCP_SYN, Transport,
    walk_ethernet_into, walk_ip_into,
};
use pktvisor_common::probe::{Decision, Sample, decide, direction, ring, segments};

use crate::hook::{Copied, Hook};
use crate::maps::{
    CONFIG, COUNTERS, HOSTS_V4, HOSTS_V6, RING_0, RING_1, RING_2, RING_3, SCRATCH, SEEN, Scratch,
};

/// The reader looks after a rest of its own and need not be woken, which costs more than the copy.
const NO_WAKEUP: u64 = aya_ebpf::bindings::BPF_RB_NO_WAKEUP as u64;

/// Counts a packet and makes a record of it. `hook` is the direction that the hook sees.
#[inline(always)]
pub fn observe<H: Hook>(packet: &H, start: Start, hook: Direction) {
    let (Some(config), Some(counters)) = (CONFIG.get(0), COUNTERS.get_ptr_mut(0)) else { return };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: the maps are per processor, and no other program runs on this one meanwhile.
    let (counters, scratch) = unsafe { (&mut *counters, &mut *scratch) };
    mark_seen(packet.interface(), hook);
    let length = packet.length();
    // What is found goes through a map, where the verifier does not follow it: otherwise it would
    // go through all that comes after once for each way through the headers.
    walk_linear(packet, start, length, scratch);
    if scratch.meta.malformed {
        // Perhaps only because the headers do not lie in the first piece of the packet.
        walk_copied(packet, start, length, scratch);
    }
    let Scratch { header: place, octets, meta, last, .. } = scratch;
    let (gso_size, gso_segs) = packet.segments();
    let tag = packet.tag();
    let (n, wire_len) = segments(meta, length + tag, gso_size, gso_segs);
    let direction = match config.host_mode {
        mode if mode == HostMode::Ranges as u32 => direction(config, meta),
        mode if mode == HostMode::Tries as u32 => by_tries(meta),
        _ if matches!(meta.version, IpVersion::None) => Direction::Unknown,
        _ => hook,
    };
    let flow = || match meta.fragment {
        Fragment::None => flow_hash(meta),
        _ => address_hash(meta),
    };
    let dns_id = || {
        let mut id = [0u8; 2];
        let offset = u32::from(meta.payload_offset);
        // SAFETY: two octets have room in two.
        unsafe { packet.copy(offset, id.as_mut_ptr().cast(), 2) };
        u16::from_be_bytes(id)
    };
    // SAFETY: the helper takes nothing and cannot fail.
    let random = || unsafe { bpf_get_prandom_u32() };
    let Decision { mut outcome, weight, sample } =
        decide(config, meta, flow, length, dns_id, random);
    let n64 = u64::from(n);
    count(counters, meta, direction, n64, u64::from(wire_len));
    if weight > 0 {
        counters.deep_samples += n64;
    }
    if let Some(Sample { kind, captured }) = sample {
        let ring = ring(flow(), config.ring_mask) as usize & 3;
        let header = SampleHeader {
            // SAFETY: the helpers take nothing and cannot fail.
            time: unsafe {
                match kind {
                    Kind::Headers => bpf_ktime_get_coarse_ns(),
                    _ => bpf_ktime_get_ns(),
                }
            },
            wire_len,
            weight,
            n: n as u16,
            captured: captured as u16,
            kind: kind as u8,
            direction: direction as u8,
            start: start as u8,
            tag: tag as u8,
        };
        let kind = kind as usize;
        if send(packet, header, place, octets, last, ring) {
            counters.sent[ring][kind] += 1;
        } else {
            counters.lost[ring][kind] += 1;
            outcome = match outcome {
                // That it is, is known without its record.
                Outcome::Malformed => Outcome::Malformed,
                _ => Outcome::RingFull,
            };
        }
    }
    counters.outcomes[outcome as usize & 7] += n64;
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        packet,
        "{} octets, outcome {}, version {}, transport {}, protocol {}, ports {} {}, payload {} at {}, weight {}",
        length,
        outcome as u8,
        meta.version as u8,
        meta.transport as u8,
        meta.protocol,
        meta.src_port,
        meta.dst_port,
        meta.payload_len,
        meta.payload_offset,
        weight
    );
}

/// Marks the hook as reached. The mark is mostly there already, so that processors share the line.
#[inline(always)]
fn mark_seen(interface: u32, hook: Direction) {
    let Some(seen) = SEEN.get_ptr_mut(seen_place(interface, matches!(hook, Direction::Out))) else {
        return;
    };
    // SAFETY: the place is in the map, and all who write it write 1 here.
    unsafe {
        if core::ptr::read_volatile(seen) == 0 {
            core::ptr::write_volatile(seen, 1);
        }
    }
}

/// Sets all of it to 0, the default. Word by word, because `memset` is a loop over octets here.
#[inline(always)]
fn clear(meta: &mut PacketMeta) {
    const WORDS: usize = size_of::<PacketMeta>() / size_of::<u64>();
    const { assert!(size_of::<PacketMeta>() == 56 && align_of::<PacketMeta>() == 8) };
    let words = core::ptr::from_mut(meta).cast::<[u64; WORDS]>();
    for at in 0..WORDS {
        // SAFETY: they are the words of the struct, and 0 is a value of each of its fields.
        unsafe { core::ptr::write_volatile((*words).as_mut_ptr().add(at), 0) };
    }
}

#[inline(always)]
fn walk<B: PacketBytes>(octets: &B, start: Start, length: u32, meta: &mut PacketMeta) {
    clear(meta);
    match start {
        Start::Ethernet => walk_ethernet_into(octets, length as usize, meta),
        Start::Ip => walk_ip_into(octets, length as usize, meta),
    }
}

/// Walks the headers of a packet where it lies.
#[inline(never)]
fn walk_linear<H: Hook>(packet: &H, start: Start, length: u32, scratch: &mut Scratch) {
    walk(&packet.linear(), start, length, &mut scratch.meta);
}

/// Walks the headers of a packet that lies in pieces.
#[inline(never)]
fn walk_copied<H: Hook>(packet: &H, start: Start, length: u32, scratch: &mut Scratch) {
    let Scratch { last, headers, meta, .. } = scratch;
    let length_read = if length < HEADERS_MAX as u32 { length } else { HEADERS_MAX as u32 };
    let Some(captured) = bounded(last, length_read, HEADERS_MAX) else { return };
    // SAFETY: `captured` octets have room in the array.
    if unsafe { packet.copy(0, headers.as_mut_ptr().cast::<c_void>(), captured) } {
        walk(&Copied { octets: headers, length: captured as usize }, start, length, meta);
    }
}

/// The length, where it is from 1 to `max`: as a number whose bounds the verifier sees.
///
/// It goes by way of a place in a map, after which the compiler knows nothing of it, and what is
/// compared is what is used. It is compared as the place of the last octet, because a verifier
/// before Linux 6.8 does not learn from `length != 0` that the length is at least 1.
#[inline(always)]
fn bounded(place: &mut u32, length: u32, max: usize) -> Option<u32> {
    *place = length.wrapping_sub(1);
    // SAFETY: it was written just now.
    let last = unsafe { core::ptr::read_volatile(&raw const *place) };
    if last >= max as u32 { None } else { Some(last + 1) }
}

#[inline(always)]
fn by_tries(meta: &PacketMeta) -> Direction {
    let is_host = |address: &[u8; 16]| match meta.version {
        IpVersion::V4 => {
            let first = [address[0], address[1], address[2], address[3]];
            HOSTS_V4.get(Key::new(32, first)).is_some()
        }
        IpVersion::V6 => HOSTS_V6.get(Key::new(128, *address)).is_some(),
        IpVersion::None => false,
    };
    let to_host = is_host(&meta.dst);
    Direction::of(!to_host && is_host(&meta.src), to_host)
}

#[inline(always)]
fn count(counters: &mut Counters, meta: &PacketMeta, direction: Direction, n: u64, octets: u64) {
    let at = direction as usize % 3;
    counters.packets[at] += n;
    counters.octets[at] += octets;
    match meta.version {
        IpVersion::V4 => counters.ipv4 += n,
        IpVersion::V6 => counters.ipv6 += n,
        IpVersion::None => {}
    }
    match meta.transport {
        Transport::Udp => counters.udp += n,
        Transport::Icmp => counters.icmp += n,
        Transport::Other => {}
        Transport::Tcp => {
            counters.tcp += n;
            if meta.tcp_flags & TCP_SYN != 0 {
                counters.syn += n;
            }
            if meta.tcp_flags & TCP_FIN != 0 {
                counters.fin += n;
            }
            if meta.tcp_flags & TCP_RST != 0 {
                counters.rst += n;
            }
        }
    }
    if !matches!(meta.fragment, Fragment::None) {
        counters.fragments += n;
    }
    if meta.malformed {
        counters.malformed += n;
    }
}

/// Copies a record into a ring. False where it had no room.
#[inline(always)]
fn send<H: Hook>(
    packet: &H,
    header: SampleHeader,
    place: &mut SampleHeader,
    octets: &mut [u8; SAMPLE_MAX],
    last: &mut u32,
    ring: usize,
) -> bool {
    *place = header;
    let Some(captured) = bounded(last, u32::from(header.captured), SAMPLE_MAX) else {
        return false;
    };
    // SAFETY: `captured` octets have room in the array.
    if !unsafe { packet.copy(0, octets.as_mut_ptr().cast::<c_void>(), captured) } {
        return false;
    }
    let record = core::ptr::from_mut(place).cast::<c_void>();
    let rings = [&RING_0, &RING_1, &RING_2, &RING_3];
    let output = |ring: &RingBuf| {
        let length = u64::from(captured) + SAMPLE_HEADER as u64;
        let ring = core::ptr::from_ref(ring).cast_mut().cast::<c_void>();
        // SAFETY: the octets lie right behind the header, in one value of the map.
        unsafe { bpf_ringbuf_output(ring, record, length, NO_WAKEUP) == 0 }
    };
    match ring {
        0 => output(rings[0]),
        1 => output(rings[1]),
        2 => output(rings[2]),
        _ => output(rings[3]),
    }
}
