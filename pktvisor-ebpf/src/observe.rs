//! Walks the headers of a packet, counts it, and copies a record of it into a ring buffer.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_ringbuf_output,
};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::lpm_trie::Key;
use pktvisor_common::abi::{
    Counters, HEADERS_MAX, HostMode, IP, KINDS, Kind, MORE, ProbeConfig, RECORD_PAYLOAD, RECORDS,
    SAMPLE_HEADER, SAMPLE_MAX, SampleHeader, Start, TAGGED, UNDECIDED, seen_place,
};
use pktvisor_common::classify::{Decision, Dns, Record, classify, is_tunnel};
use pktvisor_common::direction::Direction;
use pktvisor_common::kernel::{SNAPS, direction, ring, segments};
use pktvisor_common::outcome::Outcome;
use pktvisor_common::packet::tunnel::{MAX_TUNNELS, inside};
use pktvisor_common::packet::{
    Behind, Fragment, IpVersion, PacketBytes, PacketMeta, TCP_FIN, TCP_RST, TCP_SYN, Transport,
    walk_ethernet_into, walk_ip_into, walk_l3_into,
};

use crate::hook::{Copied, Hook};
use crate::maps::{
    CONFIG, COUNTERS, HOSTS_V4, HOSTS_V6, RING_0, RING_1, RING_2, RING_3, SCRATCH, SEEN, Scratch,
};

/// Do not wake the reader: it polls on a timer, and waking it costs more than the copy.
const NO_WAKEUP: u64 = aya_ebpf::bindings::BPF_RB_NO_WAKEUP as u64;

/// Counts a packet, and sends a record of it if its classification asks for one. `hook` is the
/// direction of packets at the hook.
#[inline(always)]
pub fn observe<H: Hook>(packet: &H, start: Start, hook: Direction) {
    let (Some(config), Some(counters)) = (CONFIG.get(0), COUNTERS.get_ptr_mut(0)) else { return };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: the maps are per processor, and no other program runs on this processor meanwhile.
    let (counters, scratch) = unsafe { (&mut *counters, &mut *scratch) };
    mark_seen(packet.interface(), hook);
    let length = packet.length();
    // The result of the walk goes through a map, where the verifier does not track it. Otherwise
    // the verifier would check the code below once for each path through the headers.
    walk_linear(packet, start, length, scratch);
    if !matches!(scratch.meta.behind, Behind::Payload) {
        if !scratch.meta.is_tunnel() {
            // The headers may extend beyond the linear data, or more than VLAN tags may precede IP.
            walk_copied(packet, start, length, scratch);
        }
        if scratch.meta.is_tunnel() && config.tunnels > 0 {
            enter_tunnels(packet, config, length, scratch);
        }
    }
    let Scratch { header: place, bytes, meta, last, .. } = scratch;
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
        Fragment::None => config.flow_key.flow(meta),
        _ => config.flow_key.addresses(meta),
    };
    let dns_id = || {
        let mut id = [0u8; 2];
        let offset = u32::from(meta.payload_offset);
        // SAFETY: `id` has room for two bytes.
        unsafe { packet.copy(offset, id.as_mut_ptr().cast(), 2) };
        u16::from_be_bytes(id)
    };
    // SAFETY: the helper takes nothing and cannot fail.
    let random = || unsafe { bpf_get_prandom_u32() };
    let Decision { mut outcome, weight, dns, record, .. } =
        classify(&config.rules(), &SNAPS, meta, length, flow, dns_id, random);
    let n64 = u64::from(n);
    count(counters, meta, direction, n64, u64::from(wire_len));
    if weight > 0 {
        counters.deep_samples += n64;
    }
    let undecided = matches!(dns, Dns::Doubtful);
    if let Some(Record { kind, bytes: captured }) = record {
        let ring = ring(flow(), config.ring_mask) as usize & 3;
        // A payload too long for one record is split over several, each with the headers.
        let mut first = captured;
        if captured > RECORD_PAYLOAD && matches!(kind, Kind::Dns) {
            first = least(captured, u32::from(meta.payload_offset) + RECORD_PAYLOAD);
        }
        let more = first < captured;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        *place = SampleHeader {
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
            captured: first as u16,
            kind: kind as u8,
            direction: direction as u8,
            part: 0,
            flags: flag(matches!(start, Start::Ip), IP)
                | flag(more, MORE)
                | flag(undecided, UNDECIDED)
                | flag(tag > 0, TAGGED),
        };
        if send(packet, place, bytes, last, ring) {
            add(&mut counters.sent[ring], kind);
            if more {
                let records = continue_record(packet, captured, ring as u32);
                counters.sent[ring][Kind::Dns as usize] += u64::from(records & 0xff);
                counters.lost[ring][Kind::Dns as usize] += u64::from(records >> 8);
            }
        } else {
            add(&mut counters.lost[ring], kind);
            outcome = match outcome {
                // The outcome is known without the record.
                Outcome::Malformed => Outcome::Malformed,
                _ => Outcome::RingFull,
            };
        }
    }
    if undecided && !matches!(outcome, Outcome::RingFull) {
        counters.undecided += n64;
    } else if let Some(count) = counters.outcomes.get_mut(outcome as usize) {
        *count += n64;
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        packet,
        "{} bytes, outcome {}, version {}, transport {}, protocol {}, ports {} {}, payload {} at {}, weight {}",
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

/// Counts a record of a kind. Uses `get_mut` because the program must have no path to a panic.
#[inline(always)]
fn add(records: &mut [u64; KINDS], kind: Kind) {
    if let Some(count) = records.get_mut(kind as usize) {
        *count += 1;
    }
}

/// Marks the hook as reached. Reads first: usually the mark is set, and the cache line stays shared
/// between processors.
#[inline(always)]
fn mark_seen(interface: u32, hook: Direction) {
    let Some(seen) = SEEN.get_ptr_mut(seen_place(interface, matches!(hook, Direction::Out))) else {
        return;
    };
    // SAFETY: the pointer is into the map, and every program writes the same value, 1.
    unsafe {
        if core::ptr::read_volatile(seen) == 0 {
            core::ptr::write_volatile(seen, 1);
        }
    }
}

/// Sets all fields to 0, the default. Writes words, because `memset` is a loop over bytes here.
#[inline(always)]
fn clear(meta: &mut PacketMeta) {
    const WORDS: usize = size_of::<PacketMeta>() / size_of::<u64>();
    const { assert!(size_of::<PacketMeta>() == 64 && align_of::<PacketMeta>() == 8) };
    let words = core::ptr::from_mut(meta).cast::<[u64; WORDS]>();
    for at in 0..WORDS {
        // SAFETY: the words are those of the struct, and 0 is a valid value of each of its fields.
        unsafe { core::ptr::write_volatile((*words).as_mut_ptr().add(at), 0) };
    }
}

#[inline(always)]
fn walk<B: PacketBytes>(bytes: &B, start: Start, length: u32, meta: &mut PacketMeta) {
    clear(meta);
    match start {
        Start::Ethernet => walk_ethernet_into(bytes, length as usize, meta),
        Start::Ip => walk_ip_into(bytes, length as usize, meta),
    }
}

/// Walks the headers of a packet in place.
#[inline(never)]
fn walk_linear<H: Hook>(packet: &H, start: Start, length: u32, scratch: &mut Scratch) {
    walk(&packet.linear(), start, length, &mut scratch.meta);
}

/// Walks a copy of the headers, for packets whose headers are not all in the linear data or that
/// have more than VLAN tags before IP.
#[inline(never)]
fn walk_copied<H: Hook>(packet: &H, start: Start, length: u32, scratch: &mut Scratch) {
    if let Some(copied) = copy_headers(packet, length, scratch) {
        walk(&copied, start, length, &mut scratch.meta);
    }
}

/// Walks the inner headers of up to [`MAX_TUNNELS`] nested tunnels.
#[inline(never)]
fn enter_tunnels<H: Hook>(packet: &H, config: &ProbeConfig, length: u32, scratch: &mut Scratch) {
    let Some(copied) = copy_headers(packet, length, scratch) else { return };
    for _ in 0..MAX_TUNNELS {
        if !is_tunnel(&config.dns_ports, &scratch.meta) {
            break;
        }
        let Some(inside) = inside(&copied, &scratch.meta) else { break };
        let offset = copied.merge_paths(inside.offset);
        clear(&mut scratch.meta);
        walk_l3_into(&copied, offset, inside.ethertype, length as usize, &mut scratch.meta);
    }
}

/// Copies the first bytes of a packet, at most [`HEADERS_MAX`].
#[inline(always)]
fn copy_headers<H: Hook>(
    packet: &H,
    length: u32,
    scratch: &mut Scratch,
) -> Option<Copied<'static>> {
    let Scratch { last, headers, offset, .. } = scratch;
    let captured = bounded(last, least(length, HEADERS_MAX as u32), HEADERS_MAX)?;
    // SAFETY: the array has room for `captured` bytes.
    if !unsafe { packet.copy(0, headers.as_mut_ptr().cast::<c_void>(), captured) } {
        return None;
    }
    // SAFETY: the array is in a map, and nothing else writes to it while the program runs.
    let bytes = unsafe { &*core::ptr::from_ref(headers) };
    let mut copied = Copied { bytes, length: 0, place: core::ptr::from_mut(offset) };
    // If the compiler knew the bound of the length, it would drop a comparison with a constant that
    // verifiers before Linux 6.8 need.
    copied.length = copied.merge_paths(captured as usize);
    Some(copied)
}

const fn least(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}

/// Returns `length` if it is from 1 to `max`, with bounds that the verifier sees.
///
/// The value passes through a field in a map, so that the compiler knows nothing of it and uses the
/// value that it compares. The comparison is of the last byte's index, because verifiers before
/// Linux 6.8 do not learn from `length != 0` that the length is at least 1.
#[inline(always)]
fn bounded(place: &mut u32, length: u32, max: usize) -> Option<u32> {
    *place = length.wrapping_sub(1);
    // SAFETY: the field was written just now.
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
fn count(counters: &mut Counters, meta: &PacketMeta, direction: Direction, n: u64, bytes: u64) {
    let at = direction as usize % 3;
    counters.packets[at] += n;
    counters.bytes[at] += bytes;
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

/// Sends further records of a packet whose first record holds only a part of the `captured` bytes.
/// Each has the packet's headers and the next part of its payload. Returns the number of records
/// sent in the lower 8 bits, and above them the number that the ring had no room for.
#[inline(never)]
fn continue_record<H: Hook>(packet: &H, captured: u32, ring: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map is per processor, and no other program runs on this processor meanwhile.
    let Scratch { header: place, bytes, meta, last, offset: held, .. } = unsafe { &mut *scratch };
    let mut records = 0;
    for at in 1..RECORDS {
        let headers = u32::from(meta.payload_offset);
        let offset = at * RECORD_PAYLOAD;
        if headers + offset >= captured {
            break;
        }
        let left = captured - headers - offset;
        let part = least(left, RECORD_PAYLOAD);
        place.part = at as u8;
        place.captured = (headers + part) as u16;
        place.flags &= !(MORE | UNDECIDED);
        place.flags |= if left > part { MORE } else { 0 };
        let sent =
            send_part(packet, place, bytes, (last, held), (headers, offset, part), ring as usize);
        records += if sent { 1 } else { 0x100 };
    }
    records
}

/// Sends a record with the headers and a part of the payload. Returns false if the ring had no room
/// or the copy failed.
#[inline(always)]
fn send_part<H: Hook>(
    packet: &H,
    place: &mut SampleHeader,
    bytes: &mut [u8; SAMPLE_MAX],
    (last, held): (&mut u32, &mut u32),
    (headers, offset, part): (u32, u32, u32),
    ring: usize,
) -> bool {
    // `bytes` still has the headers from the previous record. The payload goes behind them.
    let Some(headers) = bounded(held, headers, HEADERS_MAX) else { return false };
    let Some(part) = bounded(last, part, RECORD_PAYLOAD as usize) else { return false };
    let to = bytes.as_mut_ptr().wrapping_add(headers as usize).cast::<c_void>();
    // SAFETY: the array has room for `headers` and `part` bytes together.
    if !unsafe { packet.copy(headers + offset, to, part) } {
        return false;
    }
    output(place, headers + part, ring)
}

/// Sends a record with the first bytes of a packet. Returns false if the ring had no room or the
/// copy failed.
#[inline(always)]
fn send<H: Hook>(
    packet: &H,
    place: &mut SampleHeader,
    bytes: &mut [u8; SAMPLE_MAX],
    last: &mut u32,
    ring: usize,
) -> bool {
    let Some(captured) = bounded(last, u32::from(place.captured), SAMPLE_MAX) else {
        return false;
    };
    // SAFETY: the array has room for `captured` bytes.
    if !unsafe { packet.copy(0, bytes.as_mut_ptr().cast::<c_void>(), captured) } {
        return false;
    }
    output(place, captured, ring)
}

/// Copies a record with `captured` bytes of its packet into a ring. Returns false if the ring had
/// no room.
#[inline(always)]
fn output(place: &mut SampleHeader, captured: u32, ring: usize) -> bool {
    let record = core::ptr::from_mut(place).cast::<c_void>();
    let output = |ring: &RingBuf| {
        let length = u64::from(captured) + SAMPLE_HEADER as u64;
        let ring = core::ptr::from_ref(ring).cast_mut().cast::<c_void>();
        // SAFETY: the bytes follow the header in the same map value.
        unsafe { bpf_ringbuf_output(ring, record, length, NO_WAKEUP) == 0 }
    };
    match ring {
        0 => output(&RING_0),
        1 => output(&RING_1),
        2 => output(&RING_2),
        _ => output(&RING_3),
    }
}
