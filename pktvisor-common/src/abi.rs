//! Layout of the maps and records that the kernel programs and the daemon exchange.
//!
//! Everything is in native byte order, because both sides run on the same machine. Widths are fixed,
//! padding is explicit, and compile-time assertions check sizes. The daemon reads and writes whole
//! words, so that nothing here needs `unsafe`.

use crate::direction::DIRECTIONS;
use crate::flow::FlowKey;
use crate::loss::Loss;
use crate::outcome::OUTCOMES;
use crate::sampling::Rate;

/// Maximum number of rings that records are spread over.
pub const RINGS: usize = 4;
/// Number of sample kinds.
pub const KINDS: usize = 3;
/// Maximum HOST ranges per IP version that are compared one by one. If there are more, a trie is
/// used.
pub const HOST_RANGES: usize = 8;

/// Maximum bytes of payload in one record. A record is built in a value of a per-CPU map, which
/// holds at most 32 KiB.
pub const RECORD_PAYLOAD: u32 = 30 * 1024;
/// Maximum records that a TCP segment on a DNS port is copied into. They hold 64 KiB, the maximum
/// length of a segment that the kernel has joined or that the network card has yet to split.
pub const RECORDS: u32 = 3;
/// Number of entries in the map that marks hooks reached by packets: two per interface. Interfaces
/// share entries if their indexes differ by a multiple of 8,192.
pub const SEEN_PLACES: u32 = 16_384;

/// Returns the map entry of one side of an interface.
#[inline(always)]
pub const fn seen_place(interface: u32, egress: bool) -> u32 {
    (interface << 1 | egress as u32) & (SEEN_PLACES - 1)
}

/// Maximum bytes copied of a DNS message over UDP.
pub const DNS_UDP_SNAP: u32 = RECORD_PAYLOAD;
/// Maximum bytes copied of a TCP segment on a DNS port.
pub const DNS_TCP_SNAP: u32 = RECORDS * RECORD_PAYLOAD;
/// Maximum bytes copied of a fragment, besides its headers.
pub const FRAGMENT_SNAP: u32 = RECORD_PAYLOAD;
/// Maximum bytes copied of an ICMP message, besides its headers: an error quotes the packet that it
/// is about.
pub const ICMP_SNAP: u32 = 128;
/// Maximum bytes copied of a malformed packet, from its last IP header on.
pub const MALFORMED_SNAP: u32 = 128;
/// The kernel programs do not read headers that end beyond this many bytes.
pub const HEADERS_MAX: usize = 512;
/// Maximum bytes of a packet in a record.
pub const SAMPLE_MAX: usize = HEADERS_MAX + RECORD_PAYLOAD as usize;

/// The kind of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A packet on a DNS port, with its payload.
    Dns = 0,
    /// A fragment of UDP or TCP, with its payload.
    Fragment = 1,
    /// The headers of any other packet.
    Headers = 2,
}

impl Kind {
    /// All kinds in the order of their numbers.
    pub const ALL: [Kind; KINDS] = [Kind::Dns, Kind::Fragment, Kind::Headers];

    /// Returns the reason under which records dropped by a full ring are counted.
    pub const fn loss(self) -> Loss {
        match self {
            Kind::Dns => Loss::RingFullDns,
            Kind::Fragment => Loss::RingFullFragments,
            Kind::Headers => Loss::RingFullHeaders,
        }
    }
}

/// The header that a sample starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Start {
    /// Ethernet.
    Ethernet = 0,
    /// IP: the device has no link layer.
    Ip = 1,
}

/// The header before the bytes of a packet in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SampleHeader {
    /// Time in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Bytes on the wire, including the headers of each segment that the packet stands for.
    pub wire_len: u32,
    /// Number of packets that the sample stands for due to sampling; 0 if only its payload is
    /// needed.
    pub weight: u32,
    /// Number of segments that the packet stands for: more than 1 if the network card does the
    /// segmentation.
    pub n: u16,
    /// Bytes of the packet that follow.
    pub captured: u16,
    /// A [`Kind`].
    pub kind: u8,
    /// A [`Direction`](crate::direction::Direction).
    pub direction: u8,
    /// Number of earlier records with parts of the packet's payload, each of [`RECORD_PAYLOAD`]
    /// bytes. If above 0, the record continues the packet: the headers are repeated before the next
    /// part of the payload and do not count again.
    pub part: u8,
    /// Bits: [`IP`], [`MORE`], [`UNDECIDED`] and [`TAGGED`].
    pub flags: u8,
}

/// Record flag: the packet starts with an IP header, see [`Start::Ip`].
pub const IP: u8 = 1;
/// Record flag: another record with more of the packet's payload follows.
pub const MORE: u8 = 2;
/// Record flag: user space determines the packet's outcome, which the kernel has not counted.
pub const UNDECIDED: u8 = 4;
/// Record flag: the packet had or will have a VLAN tag on the wire, but the kernel keeps it apart
/// from the packet's bytes.
pub const TAGGED: u8 = 8;
/// Length of a VLAN tag in bytes.
pub const TAG: u32 = 4;

/// Length of a [`SampleHeader`] in bytes.
pub const SAMPLE_HEADER: usize = size_of::<SampleHeader>();

impl SampleHeader {
    /// Returns true if a flag is set.
    #[inline]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the number of payload bytes in earlier records of the packet.
    #[inline]
    pub const fn offset(&self) -> u32 {
        self.part as u32 * RECORD_PAYLOAD
    }

    /// Returns the length of the VLAN tag that is kept apart, in bytes.
    #[inline]
    pub const fn tag(&self) -> u32 {
        if self.has(TAGGED) { TAG } else { 0 }
    }

    /// Splits a record into its header and the bytes of its packet; `None` if the record is too
    /// short.
    pub fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let (header, bytes) = record.split_first_chunk::<SAMPLE_HEADER>()?;
        let [t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3, rest @ ..] = *header;
        let [w0, w1, w2, w3, n0, n1, c0, c1, kind, direction, part, flags] = rest;
        let captured = u16::from_ne_bytes([c0, c1]);
        let header = Self {
            time: u64::from_ne_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            wire_len: u32::from_ne_bytes([l0, l1, l2, l3]),
            weight: u32::from_ne_bytes([w0, w1, w2, w3]),
            n: u16::from_ne_bytes([n0, n1]),
            captured,
            kind,
            direction,
            part,
            flags,
        };
        Some((header, bytes.get(..usize::from(captured))?))
    }
}

/// Counters of the kernel programs, one set per CPU. They count every packet, sampled or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Packets by direction.
    pub packets: [u64; DIRECTIONS],
    /// Bytes on the wire by direction.
    pub bytes: [u64; DIRECTIONS],
    /// IPv4 packets.
    pub ipv4: u64,
    /// IPv6 packets.
    pub ipv6: u64,
    /// TCP packets.
    pub tcp: u64,
    /// UDP packets.
    pub udp: u64,
    /// ICMP and ICMPv6 packets.
    pub icmp: u64,
    /// TCP packets with SYN set.
    pub syn: u64,
    /// TCP packets with FIN set.
    pub fin: u64,
    /// TCP packets with RST set.
    pub rst: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Packets with malformed headers.
    pub malformed: u64,
    /// Packets chosen for inspection.
    pub deep_samples: u64,
    /// Packets whose outcome user space determines, see [`UNDECIDED`].
    pub undecided: u64,
    /// Packets by outcome.
    pub outcomes: [u64; OUTCOMES],
    /// Records written to a ring, by ring and kind.
    pub sent: [[u64; KINDS]; RINGS],
    /// Records dropped because a ring was full, by ring and kind.
    pub lost: [[u64; KINDS]; RINGS],
}

/// Number of words of [`Counters`].
pub const COUNTER_WORDS: usize = size_of::<Counters>() / size_of::<u64>();

impl Counters {
    /// Decodes counters from their words.
    pub fn from_words(words: &[u64; COUNTER_WORDS]) -> Self {
        let mut words = words.iter().copied();
        let mut next = || words.next().unwrap_or_default();
        // Fields are evaluated in the order written, which is that of the struct.
        Self {
            packets: core::array::from_fn(|_| next()),
            bytes: core::array::from_fn(|_| next()),
            ipv4: next(),
            ipv6: next(),
            tcp: next(),
            udp: next(),
            icmp: next(),
            syn: next(),
            fin: next(),
            rst: next(),
            fragments: next(),
            malformed: next(),
            deep_samples: next(),
            undecided: next(),
            outcomes: core::array::from_fn(|_| next()),
            sent: core::array::from_fn(|_| core::array::from_fn(|_| next())),
            lost: core::array::from_fn(|_| core::array::from_fn(|_| next())),
        }
    }

    /// Returns the increase since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let (now, then) = (self.words(), earlier.words());
        Self::from_words(&core::array::from_fn(|at| now[at].wrapping_sub(then[at])))
    }

    /// Encodes the counters as words.
    fn words(&self) -> [u64; COUNTER_WORDS] {
        let single = [
            self.ipv4,
            self.ipv6,
            self.tcp,
            self.udp,
            self.icmp,
            self.syn,
            self.fin,
            self.rst,
            self.fragments,
            self.malformed,
            self.deep_samples,
            self.undecided,
        ];
        let mut words = [0; COUNTER_WORDS];
        let parts: [&[u64]; 6] = [
            &self.packets,
            &self.bytes,
            &single,
            &self.outcomes,
            self.sent.as_flattened(),
            self.lost.as_flattened(),
        ];
        let all = parts.iter().flat_map(|part| part.iter());
        words.iter_mut().zip(all).for_each(|(word, value)| *word = *value);
        words
    }

    /// Returns the number of packets of all directions.
    pub fn total(&self) -> u64 {
        self.packets.iter().sum()
    }
}

/// A range of IPv4 addresses, in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RangeV4 {
    /// The address, with host bits 0.
    pub address: [u8; 4],
    /// The network mask.
    pub mask: [u8; 4],
}

/// A range of IPv6 addresses, in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RangeV6 {
    /// The address, with host bits 0.
    pub address: [u8; 16],
    /// The network mask.
    pub mask: [u8; 16],
}

/// How the kernel programs determine the direction of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HostMode {
    /// By the hook, received or sent: HOST is unknown.
    Hook = 0,
    /// By the ranges in the configuration.
    Ranges = 1,
    /// By the tries: there are more ranges than fit in the configuration.
    Tries = 2,
}

/// The configuration of the kernel programs. It can change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProbeConfig {
    /// Sampling rate of packets on DNS ports.
    pub dns: Rate,
    /// Sampling rate of all other packets.
    pub rest: Rate,
    /// Key of the flow hashes.
    pub flow_key: FlowKey,
    /// A [`HostMode`].
    pub host_mode: u32,
    /// Number of rings in use minus one: 0, 1 or 3.
    pub ring_mask: u32,
    /// Ranges of HOST. Only the first [`Self::ranges_v4`] are used.
    pub hosts_v4: [RangeV4; HOST_RANGES],
    /// Ranges of HOST. Only the first [`Self::ranges_v6`] are used.
    pub hosts_v6: [RangeV6; HOST_RANGES],
    /// Number of used entries of [`Self::hosts_v4`].
    pub ranges_v4: u32,
    /// Number of used entries of [`Self::hosts_v6`].
    pub ranges_v6: u32,
    /// Maximum nested tunnels to enter; 0 if outer packets count.
    pub tunnels: u32,
    /// Unused. Fills the configuration up to a whole number of words.
    pub padding: u32,
    /// A bit set of the DNS ports.
    pub dns_ports: [u64; 1024],
}

/// Number of words of a [`ProbeConfig`].
pub const CONFIG_WORDS: usize = size_of::<ProbeConfig>() / size_of::<u64>();

impl ProbeConfig {
    /// Encodes the configuration as words.
    pub fn words(&self) -> [u64; CONFIG_WORDS] {
        let mut words = [0; CONFIG_WORDS];
        let mut at = 0;
        let mut push = |word: u64| {
            words[at] = word;
            at += 1;
        };
        let two = |a: u32, b: u32| {
            let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.to_ne_bytes(), b.to_ne_bytes());
            u64::from_ne_bytes([a0, a1, a2, a3, b0, b1, b2, b3])
        };
        for rate in [self.dns, self.rest] {
            push(rate.keep);
            push(two(rate.base, rate.round));
        }
        self.flow_key.words().into_iter().for_each(&mut push);
        push(two(self.host_mode, self.ring_mask));
        for RangeV4 { address, mask } in self.hosts_v4 {
            push(two(u32::from_ne_bytes(address), u32::from_ne_bytes(mask)));
        }
        for RangeV6 { address, mask } in self.hosts_v6 {
            for bytes in [address, mask] {
                let (words, _) = bytes.as_chunks::<8>();
                words.iter().for_each(|word| push(u64::from_ne_bytes(*word)));
            }
        }
        push(two(self.ranges_v4, self.ranges_v6));
        push(two(self.tunnels, self.padding));
        self.dns_ports.iter().for_each(|word| push(*word));
        words
    }
}

// The kernel programs and the daemon are built by different compilers.
const _: () = assert!(size_of::<SampleHeader>() == 24);
const _: () = assert!(size_of::<Counters>() == 8 * (3 + 3 + 12 + 9 + 12 + 12));
const _: () = assert!(size_of::<ProbeConfig>() == 32 + 16 + 8 + 64 + 256 + 8 + 8 + 8192);
const _: () = assert!(SAMPLE_MAX <= u16::MAX as usize);
const _: () = assert!(DNS_TCP_SNAP >= u16::MAX as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_sample_as_written() {
        let mut record = Vec::new();
        record.extend(0x0102_0304_0506_0708u64.to_ne_bytes());
        record.extend(1500u32.to_ne_bytes());
        record.extend(3u32.to_ne_bytes());
        record.extend(2u16.to_ne_bytes());
        record.extend(4u16.to_ne_bytes());
        record.extend([1, 2, 1, 6]);
        assert_eq!(SampleHeader::read(&record), None, "the packet's bytes are missing");
        record.extend([9, 8, 7, 6, 5]);
        let (header, bytes) = SampleHeader::read(&record).unwrap();
        assert_eq!(bytes, [9, 8, 7, 6], "what pads the record is left out");
        let expected = SampleHeader {
            time: 0x0102_0304_0506_0708,
            wire_len: 1500,
            weight: 3,
            n: 2,
            captured: 4,
            kind: 1,
            direction: 2,
            part: 1,
            flags: MORE | UNDECIDED,
        };
        assert_eq!(header, expected);
        assert_eq!((header.offset(), header.tag(), header.has(IP)), (RECORD_PAYLOAD, 0, false));
        assert_eq!(SampleHeader::read(&record[..23]), None);
    }

    #[test]
    fn reads_counters_in_field_order() {
        let words: [u64; COUNTER_WORDS] = core::array::from_fn(|at| at as u64);
        let counters = Counters::from_words(&words);
        assert_eq!(counters.packets, [0, 1, 2]);
        assert_eq!(counters.bytes, [3, 4, 5]);
        assert_eq!((counters.ipv4, counters.rst, counters.deep_samples), (6, 13, 16));
        assert_eq!(counters.undecided, 17);
        assert_eq!(counters.outcomes, [18, 19, 20, 21, 22, 23, 24, 25, 26]);
        assert_eq!(counters.sent[1], [30, 31, 32]);
        assert_eq!(counters.lost[RINGS - 1][KINDS - 1], COUNTER_WORDS as u64 - 1);
        assert_eq!(counters.words(), words);
        let later = Counters { rst: 20, ..counters };
        assert_eq!(later.since(&counters), Counters { rst: 7, ..Counters::default() });
    }

    #[test]
    fn encodes_a_configuration_as_words() {
        let mut config = ProbeConfig {
            dns: Rate { keep: 1, base: 2, round: 3 },
            rest: Rate { keep: 4, base: 5, round: 6 },
            flow_key: FlowKey::of([7 << 32, 8]),
            host_mode: HostMode::Ranges as u32,
            ring_mask: 3,
            hosts_v4: [RangeV4::default(); HOST_RANGES],
            hosts_v6: [RangeV6::default(); HOST_RANGES],
            ranges_v4: 1,
            ranges_v6: 2,
            tunnels: 3,
            padding: 0,
            dns_ports: [0; 1024],
        };
        config.hosts_v4[7] = RangeV4 { address: [192, 0, 2, 1], mask: [255; 4] };
        config.hosts_v6[7].mask[15] = 0xfe;
        config.dns_ports[1023] = 77;
        let bytes: Vec<u8> = config.words().iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes[0..8], 1u64.to_ne_bytes());
        assert_eq!(bytes[8..12], 2u32.to_ne_bytes());
        assert_eq!(bytes[12..16], 3u32.to_ne_bytes());
        assert_eq!(bytes[32..48], [7u64 << 32, 8].map(u64::to_ne_bytes).concat());
        assert_eq!(bytes[48..56], [1u32.to_ne_bytes(), 3u32.to_ne_bytes()].concat());
        assert_eq!(bytes[112..120], [192, 0, 2, 1, 255, 255, 255, 255]);
        assert_eq!(bytes[375], 0xfe);
        assert_eq!(bytes[376..384], [1u32.to_ne_bytes(), 2u32.to_ne_bytes()].concat());
        assert_eq!(bytes[384..392], [3u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
        assert_eq!(bytes[bytes.len() - 8..], 77u64.to_ne_bytes());
    }
}
