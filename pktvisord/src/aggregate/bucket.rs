//! The live bucket of a worker: counters updated for each packet, and the exact maps in front of the
//! sketches.

use std::net::IpAddr;

use pktvisor_common::abi::{Counters, Kind};
use pktvisor_common::direction::Direction;
use pktvisor_common::iana;
use pktvisor_common::outcome::Outcome;
use pktvisor_common::packet::{
    Fragment, IpVersion, PacketMeta, TCP_FIN, TCP_RST, TCP_SYN, Transport,
};
use pktvisor_common::sketch::tally::FlatTally;
use pktvisor_common::sketch::top::Top;
use pktvisor_common::summary::counters::Counters as _;
use pktvisor_common::summary::cumulative::Cumulative;
use pktvisor_common::summary::dns::{DnsSummary, Unpaired, Wire};
use pktvisor_common::summary::packets::{PacketSketches, Totals};
use pktvisor_common::summary::rates::{Minute, Rates, Second};
use pktvisor_common::summary::{Account, Summary};

use super::addresses::{AddressCounts, Addresses};
use super::anonymize::Anonymizer;
use super::front::Front;
use super::names::{NameCounts, NameUse, Texts};
use crate::aggregate::geo::Geo;
use crate::decode::dns::name;
use crate::store::parts::Part;
use crate::time::{SECOND, SECONDS_OF_MINUTE, Span, Timestamp};

/// Maximum names held in front of the sketches.
const NAMES: usize = 65_536;
/// Maximum bytes of their texts.
const NAME_BYTES: usize = 2 << 20;

/// A packet as a worker counts it.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Parsed headers.
    pub meta: PacketMeta,
    /// Time in nanoseconds since the Unix epoch.
    pub time: Timestamp,
    /// Symmetric hash of the flow.
    pub flow: u64,
    /// Bytes on the wire.
    pub wire_len: u32,
    /// Number of packets it stands for: more than 1 for a super-packet.
    pub n: u32,
    /// 1 / sampling rate; 0 if the packet was not chosen for inspection.
    pub weight: u32,
    /// Direction relative to HOST.
    pub direction: Direction,
}

impl Packet {
    /// Returns the amount that the packet adds to a sampled counter.
    #[inline]
    pub fn weighted(&self) -> u64 {
        u64::from(self.n) * u64::from(self.weight)
    }
}

/// The live bucket of a worker.
#[derive(Clone, Debug)]
pub struct Bucket {
    anonymizer: Anonymizer,
    /// Number of times that packet time went back before this bucket.
    turn: u64,
    minute: i64,
    /// Start of the minute. The bucket may start later.
    minute_start: Timestamp,
    start: Timestamp,
    totals: Totals,
    seconds: Minute,
    packets: PacketSketches,
    /// DNS counters and sketches; names go through [`Bucket::name`].
    pub dns: DnsSummary,
    /// Outcomes and losses.
    pub account: Account,
    /// Totals of all earlier buckets.
    cumulative: Cumulative,
    /// Queries counted as timed out in a copy of the bucket, although a late packet may still answer them.
    due: u64,
    addresses: Addresses,
    /// The HOST address of the last packet, if it is in `addresses`. A HOST address is only marked as
    /// seen and is mostly the same one, so it need not be looked up again.
    last_host: Option<([u8; 16], IpVersion)>,
    names: Front<NameCounts>,
    texts: Texts,
    tcp_ports: FlatTally,
    udp_ports: FlatTally,
    payload: FlatTally,
    /// Advertised UDP payload sizes.
    pub udp_size: FlatTally,
    /// Questions by type.
    pub qtypes: FlatTally,
    /// Replies by response code.
    pub rcodes: FlatTally,
    /// UDP messages by the port that is not the DNS port.
    pub dns_udp_ports: FlatTally,
}

impl Bucket {
    /// Creates an empty bucket.
    pub fn new(anonymizer: Anonymizer) -> Self {
        Self {
            anonymizer,
            turn: 0,
            minute: 0,
            minute_start: Timestamp::EPOCH,
            start: Timestamp::EPOCH,
            totals: Totals::default(),
            seconds: Minute::default(),
            packets: PacketSketches::default(),
            dns: DnsSummary::default(),
            account: Account::default(),
            cumulative: Cumulative::default(),
            due: 0,
            addresses: Addresses::default(),
            last_host: None,
            names: Front::new(NAMES),
            texts: Texts::default(),
            tcp_ports: FlatTally::default(),
            udp_ports: FlatTally::default(),
            payload: FlatTally::default(),
            udp_size: FlatTally::default(),
            qtypes: FlatTally::default(),
            rcodes: FlatTally::default(),
            dns_udp_ports: FlatTally::default(),
        }
    }

    /// Starts the bucket at `start`, in the minute that `start` lies in.
    pub fn begin(&mut self, start: Timestamp) {
        self.minute = start.minute();
        self.minute_start = Timestamp::from_minute(self.minute);
        self.start = start;
    }

    /// Returns the unix minute of the bucket.
    pub fn minute(&self) -> i64 {
        self.minute
    }

    /// Returns the key that orders buckets: the number of times that packet time went back, and the minute.
    pub fn place(&self) -> (u64, i64) {
        (self.turn, self.minute)
    }

    /// Records that packet time went back once more before this bucket.
    pub fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// Returns the counters of the second that `time` lies in, or of the nearest second of this minute.
    #[inline]
    pub fn second(&mut self, time: Timestamp) -> &mut Second {
        let since = (time - self.minute_start).max(Span::ZERO).as_nanos() as u64;
        let second = since / SECOND.as_nanos() as u64;
        self.seconds.second(second.min(SECONDS_OF_MINUTE as u64 - 1) as usize)
    }

    /// Counts a packet.
    #[inline]
    pub fn count(&mut self, packet: &Packet) {
        let n = u64::from(packet.n);
        let bytes = u64::from(packet.wire_len);
        let direction = packet.direction;
        let meta = &packet.meta;
        let second = self.second(packet.time);
        second.packets[direction] += n;
        second.bytes[direction] += bytes;
        let totals = &mut self.totals;
        totals.packets[direction] += n;
        totals.bytes[direction] += bytes;
        match meta.version {
            IpVersion::V4 => totals.ipv4 += n,
            IpVersion::V6 => totals.ipv6 += n,
            IpVersion::None => {}
        }
        match meta.transport {
            Transport::Udp => totals.udp += n,
            Transport::Icmp => totals.icmp += n,
            Transport::Other => {}
            Transport::Tcp => {
                totals.tcp += n;
                let flag = |flag: u8| n * u64::from(meta.tcp_flags & flag != 0);
                totals.syn += flag(TCP_SYN);
                totals.fin += flag(TCP_FIN);
                totals.rst += flag(TCP_RST);
            }
        }
        totals.fragments += n * u64::from(meta.fragment != Fragment::None);
        totals.malformed += n * u64::from(meta.malformed);
        self.account.late += n * u64::from(packet.time < self.minute_start);
        self.packets.deep_samples += n * u64::from(packet.weight > 0);
    }

    /// Adds the kernel's counters to the totals, and to the second of `time`. `None` if they cover too
    /// long a period for the rate of a second.
    pub fn add_counted(&mut self, counted: &Counters, time: Option<Timestamp>) {
        let totals = Totals::from(counted);
        if let Some(time) = time {
            let second = self.second(time);
            second.packets.add(&totals.packets);
            second.bytes.add(&totals.bytes);
        }
        self.totals.add(&totals);
        self.packets.deep_samples += counted.deep_samples;
        // Undecided packets get their outcome from a worker.
        for (mine, theirs) in self.account.outcomes.iter_mut().zip(counted.outcomes) {
            *mine += theirs;
        }
        for kind in Kind::ALL {
            self.account
                .lose(kind.loss(), counted.lost.iter().map(|ring| ring[kind as usize]).sum());
        }
    }

    /// Counts packets of an unsupported link type.
    pub fn count_unread(&mut self, packets: u64) {
        let unread = &mut self.account.unread_link_types;
        *unread = unread.saturating_add(packets);
    }

    /// Counts the outcome of a packet.
    #[inline]
    pub fn outcome(&mut self, packet: &Packet, outcome: Outcome) {
        self.account.outcomes[outcome as usize] += u64::from(packet.n);
    }

    /// Adds the headers of a packet to the sketches.
    #[inline(always)]
    pub fn inspect(&mut self, packet: &Packet, geo: &mut Geo) {
        let meta = &packet.meta;
        let weighted = packet.weighted();
        if matches!(meta.transport, Transport::Tcp | Transport::Udp) {
            let n = u64::from(packet.n);
            let payload = match packet.n {
                0 | 1 => meta.payload_len,
                n => meta.payload_len / n,
            };
            self.payload.add(payload.min(u32::from(u16::MAX)) as u16, n);
            let port = meta.src_port.min(meta.dst_port);
            match meta.transport {
                Transport::Tcp => self.tcp_ports.add(port, weighted),
                _ => self.udp_ports.add(port, weighted),
            }
        }
        // Headers that end before the addresses have none, and neither do packets other than IP.
        if !meta.addressed {
            return;
        }
        let (remote, local) = match packet.direction {
            Direction::In => (&meta.src, &meta.dst),
            Direction::Out => (&meta.dst, &meta.src),
            Direction::Unknown => {
                self.address(AddressCounts::new(&meta.src, meta.version), geo);
                self.address(AddressCounts::new(&meta.dst, meta.version), geo);
                return;
            }
        };
        let mut counts = AddressCounts::new(remote, meta.version);
        counts.source_in = packet.direction == Direction::In;
        counts.destination_out = packet.direction == Direction::Out;
        counts.remote_packets = weighted as u32;
        counts.remote_bytes = u64::from(packet.wire_len) * u64::from(packet.weight);
        self.address(counts, geo);
        if self.last_host != Some((*local, meta.version)) {
            self.address(AddressCounts::new(local, meta.version), geo);
            self.last_host = Some((*local, meta.version));
        }
    }

    #[inline]
    fn address(&mut self, mut counts: AddressCounts, geo: &mut Geo) {
        if let Some(mask) = self.anonymizer.mask {
            counts.mask(mask);
        }
        self.addresses.add(counts);
        if self.addresses.is_full() {
            self.drain_addresses(geo);
        }
    }

    #[cold]
    fn drain_addresses(&mut self, geo: &mut Geo) {
        let Self { packets, addresses, last_host, anonymizer, .. } = self;
        *last_host = None;
        let entries = addresses.settled();
        let keys: Vec<u64> = entries.iter().map(|counts| counts.key(&anonymizer.fleet)).collect();
        for (counts, &key) in entries.iter().zip(&keys) {
            packets.addresses.insert(key);
            if counts.source_in {
                packets.sources_in.insert(key);
            }
            if counts.destination_out {
                packets.destinations_out.insert(key);
            }
            if counts.remote_packets == 0 {
                continue;
            }
            let remote_packets = u64::from(counts.remote_packets);
            let address = counts.address();
            if let Some(place) = geo.place(address) {
                packets.places.add(place.key, remote_packets, || (&*place.name).into());
            }
            if let Some(system) = geo.system(address) {
                packets.systems.add(system.key, remote_packets, || (&*system.name).into());
            }
        }
        let by = |top: &mut Top<IpAddr>, count: &dyn Fn(&AddressCounts) -> u64| {
            let counts = keys.iter().copied().zip(entries.iter().map(count));
            top.add_batch(counts, |place| entries[place].address());
        };
        for (top, ipv4) in [(&mut packets.ipv4, true), (&mut packets.ipv6, false)] {
            by(top, &|counts| (counts.remote_packets * u32::from(counts.ipv4 == ipv4)).into());
        }
        by(&mut packets.bytes, &|counts| counts.remote_bytes);
        addresses.clear();
    }

    /// Returns the settings for hashing and displaying names and addresses.
    #[inline]
    pub fn anonymizer(&self) -> &Anonymizer {
        &self.anonymizer
    }

    /// Counts a message under its lower-cased name in wire form. Returns the key of the name in the
    /// sketches.
    #[inline(always)]
    pub fn name(&mut self, wire: &[u8], weight: u64, name_use: NameUse) -> u64 {
        if self.names.is_full() || self.texts.len() + wire.len() > NAME_BYTES {
            self.drain_names();
        }
        let Self { names, texts, anonymizer, .. } = self;
        let counts = names.entry(
            texts.hash_of(wire),
            texts,
            |counts, texts| texts.of(counts) == wire,
            |texts| NameCounts::new(texts, wire, anonymizer),
        );
        let key = counts.key;
        let weight = weight as u32;
        counts.messages = counts.messages.saturating_add(weight);
        let NameUse::Reply { rcode, nodata, bytes } = name_use else { return key };
        counts.reply_bytes += bytes;
        if nodata {
            counts.nodata = counts.nodata.saturating_add(weight);
        }
        let by_rcode = match rcode {
            iana::NOERROR => &mut counts.noerror,
            iana::SERVFAIL => &mut counts.servfail,
            iana::NXDOMAIN => &mut counts.nxdomain,
            iana::REFUSED => &mut counts.refused,
            _ => return key,
        };
        *by_rcode = by_rcode.saturating_add(weight);
        key
    }

    #[cold]
    fn drain_names(&mut self) {
        let Self { names, texts, dns, anonymizer, .. } = self;
        let (short, long) = if anonymizer.public_suffix { (1, 2) } else { (2, 3) };
        let cut =
            if anonymizer.public_suffix { name::above_public_suffix } else { name::last_labels };
        let entries = names.entries();
        for counts in entries {
            dns.qnames.insert(counts.key);
            let wire = texts.of(counts);
            let add_cut = |top: &mut Top<Box<str>>, part: Option<(&[u8], bool)>| {
                if let Some((part, cut)) = part {
                    // A cut name and a whole name with the same labels are distinct.
                    let key =
                        if part.len() == wire.len() { counts.key } else { anonymizer.hash(part) };
                    let key = key.rotate_left(u32::from(cut));
                    top.add(key, counts.messages.into(), || anonymizer.cut_text(part, cut));
                }
            };
            add_cut(&mut dns.qname2, cut(wire, short).or(Some((wire, false))));
            add_cut(&mut dns.qname3, cut(wire, long));
        }
        let by = |top: &mut Top<Box<str>>, count: fn(&NameCounts) -> u64| {
            let counts = entries.iter().map(|counts| (counts.key, count(counts)));
            top.add_batch(counts, |place| anonymizer.text(texts.of(&entries[place])));
        };
        by(&mut dns.noerror, |counts| counts.noerror.into());
        by(&mut dns.nodata, |counts| counts.nodata.into());
        by(&mut dns.nxdomain, |counts| counts.nxdomain.into());
        by(&mut dns.servfail, |counts| counts.servfail.into());
        by(&mut dns.refused, |counts| counts.refused.into());
        by(&mut dns.reply_bytes, |counts| counts.reply_bytes);
        names.clear();
        texts.clear();
    }

    /// Adds the latency of `count` transactions to the total latency since the start.
    #[inline]
    pub fn add_latency(&mut self, direction: Direction, microseconds: u64, count: u64) {
        let sum = &mut self.cumulative.latencies[direction].sum;
        *sum = sum.saturating_add(microseconds.saturating_mul(count));
    }

    /// Counts the queries open at a moment, of which `due` were not answered in time.
    pub fn count_open(&mut self, open: u64, due: u64) {
        self.dns.xact.unpaired.open += open;
        self.dns.xact.unpaired.timed_out += due;
        self.due += due;
    }

    /// Returns the summary of this bucket up to `end`, and the totals since the start.
    pub fn finish(mut self, end: Timestamp, geo: &mut Geo) -> (Summary, Cumulative) {
        let summary = self.take_summary(end, geo);
        self.cumulative.unpaired.timed_out -= self.due;
        (summary, self.cumulative)
    }

    /// Closes the bucket at `end` and starts the next one at `next_start`. The maps keep their memory.
    pub fn close(&mut self, end: Timestamp, next_start: Timestamp, geo: &mut Geo) -> Part {
        if self.is_untouched() {
            let part = Part::empty(self.place(), self.start, end.max(self.start));
            self.begin(next_start);
            return part;
        }
        let summary = self.take_summary(end, geo);
        self.begin(next_start);
        Part::of(summary, &self.cumulative)
    }

    /// Returns true if nothing was counted, as in most minutes of a sparse capture.
    fn is_untouched(&self) -> bool {
        self.addresses.is_empty()
            && self.names.entries().is_empty()
            && self.packets.addresses.is_empty()
            && self.packets.deep_samples == 0
            && self.totals == Totals::default()
            && self.dns.wire == Wire::default()
            && self.dns.xact.unpaired == Unpaired::default()
            && self.dns.xact.ratio.count() == 0
            && self.account == Account::default()
    }

    fn take_summary(&mut self, end: Timestamp, geo: &mut Geo) -> Summary {
        self.drain_addresses(geo);
        self.drain_names();
        let mut dns = std::mem::take(&mut self.dns);
        dns.qtypes = self.qtypes.take();
        dns.rcodes = self.rcodes.take();
        dns.udp_size = self.udp_size.take();
        dns.udp_ports = self.dns_udp_ports.take();
        let mut packets = std::mem::take(&mut self.packets);
        packets.tcp_ports = self.tcp_ports.take();
        packets.udp_ports = self.udp_ports.take();
        packets.payload = self.payload.take();
        let summary = Summary {
            turn: self.turn,
            minute: self.minute,
            start: self.start,
            end: end.max(self.start),
            totals: std::mem::take(&mut self.totals),
            rates: Rates::of(self.minute, std::mem::take(&mut self.seconds)),
            packets,
            dns,
            account: std::mem::take(&mut self.account),
        };
        self.cumulative.add(&summary);
        summary
    }
}
