//! A lane: one shard and the way of packets to it.
//!
//! Every lane reads the headers of all packets, lets time pass with them and puts IP fragments
//! together, but sums up only the flows of its own partitions. So nothing has to be handed from
//! one thread to another but the blocks as they were read: walking a packet's headers twice costs
//! less than passing them on, and each lane closes its minutes at the same packets as the others.

use std::ops::Range;
use std::sync::Arc;

use pktvisor_common::abi::{Counters, IP, SampleHeader};
use pktvisor_common::classify::{Decision, Rules, Snaps, classify, enter_tunnels};
use pktvisor_common::direction::Direction;
use pktvisor_common::flow::mix;
use pktvisor_common::loss::Loss;
use pktvisor_common::packet::{Fragment, PacketMeta, Transport, walk_ethernet, walk_ip};

use crate::aggregate::bucket::{Bucket, Packet};
use crate::aggregate::settings::{DnsPorts, Settings, Tunnels};
use crate::aggregate::shard::{Shard, partition};
use crate::decode::block::{Block, Mark};
use crate::decode::defrag::{Datagram, Defrag, DefragLimits};
use crate::decode::dns::unreachable;
use crate::decode::link;
use crate::store::Intake;
use crate::store::minutes::Retention;
use crate::time::{MINUTE, SECOND, minute_of};

/// Fragmented datagrams under way: 4 MiB of them at most.
const FRAGMENTS: DefragLimits =
    DefragLimits { entries: 4_096, bytes: 4 << 20, age: 30 * SECOND, first: SECOND };

/// Which of how many lanes.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The lane, from 0.
    pub lane: usize,
    /// All lanes.
    pub of: usize,
}

impl Share {
    #[inline]
    fn of_flow(self, flow: u64) -> usize {
        partition(flow) % self.of
    }

    #[inline]
    fn has(self, flow: u64) -> bool {
        self.of_flow(flow) == self.lane
    }
}

/// One shard and the way of packets to it.
pub struct Lane {
    settings: Arc<Settings>,
    /// The ports of DNS as the settings had them last.
    ports: Arc<DnsPorts>,
    store: Intake,
    share: Share,
    shard: Shard,
    defrag: Defrag,
    /// End of the live minute; `None` before the first packet.
    minute_end: Option<i64>,
    /// The latest time seen.
    latest: i64,
    /// Packets seen.
    packets: u64,
    /// Where packets reach one lane only: what fragments added up to that belongs to others.
    outbox: Option<Vec<Forwarded>>,
}

/// What is on its way to the lane of its flow.
#[derive(Debug)]
pub enum Forwarded {
    /// A reassembled datagram.
    Datagram {
        /// The lane that it belongs to.
        lane: usize,
        /// Its headers.
        packet: Packet,
        /// What becomes of it.
        decision: Decision,
        /// Its bytes, from its transport header on.
        payload: Box<[u8]>,
    },
    /// A query that could not be delivered, as an ICMP error quotes it.
    Unreachable {
        /// The lane that it belongs to.
        lane: usize,
        /// The walk over the quoted packet.
        quoted: PacketMeta,
        /// What is quoted of its payload.
        payload: Box<[u8]>,
        /// When the ICMP error was captured.
        time: i64,
    },
}

impl Forwarded {
    /// The lane that it belongs to.
    pub fn lane(&self) -> usize {
        match self {
            Self::Datagram { lane, .. } | Self::Unreachable { lane, .. } => *lane,
        }
    }
}

impl Lane {
    /// A lane that hands its closed minutes to `store`.
    pub fn new(settings: Arc<Settings>, store: Intake, share: Share) -> Self {
        Self {
            shard: Shard::new(Arc::clone(&settings)),
            ports: settings.ports.now(),
            store,
            share,
            // In time for the query that a first fragment answers.
            defrag: Defrag::new(DefragLimits {
                first: FRAGMENTS.first.min(settings.timeout / 2),
                ..FRAGMENTS
            }),
            minute_end: None,
            latest: i64::MIN,
            packets: 0,
            outbox: None,
            settings,
        }
    }

    /// The lane of a source that spreads packets itself: it gets only its own, but for fragments,
    /// and what they add up to is to be forwarded, see [`Self::take_forwarded`].
    pub fn of_spread_packets(settings: Arc<Settings>, store: Intake, share: Share) -> Self {
        Self { outbox: Some(Vec::new()), ..Self::new(settings, store, share) }
    }

    /// Goes by the settings as they are now.
    pub fn reload(&mut self) {
        let ports = self.settings.ports.now();
        if *ports != *self.ports {
            // All of the live minute.
            self.settings.other_ports.set_until(self.minute_end.map_or(i64::MIN, |end| end - 1));
            self.ports = ports;
        }
        self.shard.reload();
    }

    /// What belongs to other lanes.
    pub fn take_forwarded(&mut self) -> Vec<Forwarded> {
        self.outbox.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes in what another lane has forwarded.
    pub fn take(&mut self, forwarded: &Forwarded) {
        match forwarded {
            Forwarded::Datagram { packet, decision, payload, .. } => {
                self.shard.datagram(packet, payload, decision);
            }
            Forwarded::Unreachable { quoted, payload, time, .. } => {
                self.shard.unreachable(quoted, payload, *time);
            }
        }
    }

    /// Takes in an ICMP packet that says a DNS query could not be delivered: it belongs to the
    /// lane of the query's flow.
    fn icmp(&mut self, meta: &PacketMeta, octets: &[u8], time: i64) {
        let Some((quoted, payload)) = unreachable::quoted(meta, octets) else { return };
        if self.ports.side(&quoted).is_none() {
            return;
        }
        let flow = self.settings.flow_key.flow(&quoted);
        if self.share.has(flow) {
            self.shard.unreachable(&quoted, payload, time);
        } else if let Some(outbox) = &mut self.outbox {
            let (lane, payload) = (self.share.of_flow(flow), payload.into());
            outbox.push(Forwarded::Unreachable { lane, quoted, payload, time });
        }
    }

    /// Which lane it is, from 0.
    pub fn number(&self) -> usize {
        self.share.lane
    }

    /// Takes in some packets of a block, and what the reader says of their times.
    pub fn feed(&mut self, block: &Block, packets: Range<usize>) {
        let mut from = packets.start;
        let first = block.marks.partition_point(|&(place, _)| (place as usize) < from);
        for &(place, mark) in &block.marks[first..] {
            let place = place as usize;
            if place >= packets.end {
                break;
            }
            self.take_in(block, from..place);
            from = place;
            match mark {
                Mark::Back => self.go_back(block.packets[place].time),
                Mark::Outlier => {
                    self.take_in(block, place..place + 1);
                    from = place + 1;
                    // All lanes see all packets of a file.
                    if self.share.lane == 0 {
                        self.shard.count_outlier();
                    }
                }
            }
        }
        self.take_in(block, from..packets.end);
    }

    fn take_in(&mut self, block: &Block, packets: Range<usize>) {
        let hosts = self.settings.hosts.now();
        self.shard.set_hosts(&hosts);
        let (settings, ports) = (Arc::clone(&self.settings), Arc::clone(&self.ports));
        let rules = ports.rules(&settings.sampling);
        for record in &block.packets[packets] {
            if self.minute_end.is_none_or(|end| record.time >= end) {
                self.advance(record.time);
            }
            if self.defrag.is_due(record.time) {
                self.give_up_fragments(record.time);
            }
            self.latest = self.latest.max(record.time);
            self.packets += 1;
            let octets = block.packet(record);
            let mut meta = link::walk(record, octets);
            go_inside(&settings, &ports, &mut meta, octets, record.wire_len as usize);
            let flow = settings.flow_key.flow(&meta);
            if self.share.has(flow) {
                let decision = decide(&rules, &meta, flow, octets, self.packets);
                let packet = Packet {
                    meta,
                    time: record.time,
                    flow,
                    wire_len: record.wire_len,
                    n: 1,
                    weight: decision.weight,
                    direction: hosts.direction(&meta),
                };
                self.shard.ingest(&packet, octets, &decision);
            }
            if meta.transport == Transport::Icmp {
                self.icmp(&meta, octets, record.time);
            }
            if meta.fragment != Fragment::None && !meta.malformed {
                self.fragment(&meta, octets, record.time);
            }
        }
    }

    /// Takes in a record of the kernel's, of a packet at `time`. All records of a ring belong to
    /// one lane, but not what fragments add up to.
    #[inline]
    pub fn sample(&mut self, header: &SampleHeader, octets: &[u8], time: i64) {
        if self.defrag.is_due(time) {
            self.give_up_fragments(time);
        }
        self.latest = self.latest.max(time);
        let wire_len = header.wire_len.saturating_sub(header.tag()) as usize;
        let mut meta = match header.has(IP) {
            true => walk_ip(octets, wire_len),
            false => walk_ethernet(octets, wire_len),
        };
        go_inside(&self.settings, &self.ports, &mut meta, octets, wire_len);
        let packet = Packet {
            meta,
            time,
            flow: self.settings.flow_key.flow(&meta),
            wire_len: header.wire_len,
            n: u32::from(header.n),
            weight: header.weight,
            direction: Direction::from_number(header.direction),
        };
        self.shard.sample(&packet, octets, header);
        if meta.transport == Transport::Icmp {
            self.icmp(&meta, octets, time);
        }
        if meta.fragment != Fragment::None && !meta.malformed {
            self.fragment(&meta, octets, time);
        }
    }

    /// Adds what the kernel has counted, see [`Bucket::add_counted`].
    pub fn add_counted(&mut self, counted: &Counters, time: Option<i64>) {
        self.shard.add_counted(counted, time);
    }

    /// Takes in a fragment, and the datagram that it completes.
    fn fragment(&mut self, meta: &PacketMeta, octets: &[u8], time: i64) {
        let Self { defrag, settings, shard, share, outbox, .. } = self;
        let mut emit = |datagram: Datagram<'_>| {
            ingest(settings, shard, *share, outbox.as_mut(), &datagram);
        };
        defrag.advance(time, &mut emit);
        defrag.fragment(meta, octets, time, &mut emit);
        self.take_losses();
    }

    /// Lets time pass for fragments up to `now`.
    fn give_up_fragments(&mut self, now: i64) {
        let Self { defrag, settings, shard, share, outbox, .. } = self;
        defrag.advance(now, &mut |datagram| {
            ingest(settings, shard, *share, outbox.as_mut(), &datagram);
        });
        self.take_losses();
    }

    /// Hands what the reassembly gave up to the account: of one lane, where all get all fragments.
    fn take_losses(&mut self) {
        let losses = self.defrag.take_losses();
        if self.share.lane == 0 || self.outbox.is_some() {
            for (loss, count) in [
                (Loss::FragmentsIncomplete, losses.incomplete),
                (Loss::FragmentsEvicted, losses.evicted),
                (Loss::FragmentsInvalid, losses.invalid),
                (Loss::FragmentsCut, losses.cut),
            ] {
                self.shard.lose(loss, count);
            }
        }
    }

    /// Lets packet time pass up to `time`: minutes that ended before it are closed, the missed
    /// ones too, at most as many as are kept. The first call starts the first bucket.
    pub fn advance(&mut self, time: i64) {
        self.shard.set_hosts(&self.settings.hosts.now());
        let Some(mut end) = self.minute_end else {
            self.minute_end = Some(minute_of(time).saturating_add(1).saturating_mul(MINUTE));
            self.latest = time;
            self.shard.begin(time);
            return;
        };
        if time < end {
            return;
        }
        self.give_up_fragments(end);
        let minute = minute_of(time);
        // Of a single summary no minute is empty.
        let Retention { periods, single } = self.store.retention();
        let kept = if single { 0 } else { periods as i64 };
        let first_kept = minute.saturating_sub(kept);
        // Handed in together: lanes do not wait for each other at each of many empty minutes.
        let mut closed = Vec::new();
        loop {
            let next = minute_of(end).max(first_kept).min(minute);
            let next_start = next.saturating_mul(MINUTE);
            closed.push(self.shard.close(end, next_start));
            end = next_start.saturating_add(MINUTE);
            if next >= minute {
                break;
            }
        }
        self.store.hand_in(self.share.lane, closed);
        self.minute_end = Some(end);
    }

    /// The clock was set while it was `before`: the bucket is closed there, and one starts at
    /// `time`, without empty ones between.
    pub fn restart(&mut self, before: i64, time: i64) {
        let minute = minute_of(time);
        let start = minute.saturating_mul(MINUTE);
        self.store.hand_in(self.share.lane, vec![self.shard.close(before, start)]);
        self.shard.begin(time);
        self.minute_end = Some(start.saturating_add(MINUTE));
        self.latest = time;
    }

    /// Packet time goes back to `time`. A single summary counts what follows in its own seconds; of
    /// minutes the live one stays live, and what follows counts there.
    fn go_back(&mut self, time: i64) {
        let minute = minute_of(time);
        let live = self.minute_end.map(|end| minute_of(end.saturating_sub(1)));
        if self.store.retention().single && live.is_some_and(|live| minute < live) {
            self.restart(self.latest, time);
            self.shard.next_turn();
        }
    }

    /// Counts packets of a link type that is not read.
    pub fn count_unread(&mut self, packets: u64) {
        self.shard.count_unread(packets);
    }

    /// Counts what was lost before it reached the lane.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        self.shard.lose(loss, count);
    }

    /// The input has ended: what waits for more is read as far as it goes.
    pub fn end_input(&mut self) {
        let Self { defrag, settings, shard, share, outbox, .. } = self;
        defrag.finish(&mut |datagram| ingest(settings, shard, *share, outbox.as_mut(), &datagram));
        self.take_losses();
        if self.minute_end.is_some() {
            self.shard.end_input(self.latest);
        }
    }

    /// A copy of the live bucket as of `now`, to be summed up elsewhere.
    pub fn snapshot(&mut self, now: i64) -> Bucket {
        self.shard.snapshot(now)
    }
}

/// Takes the headers inside a tunnel, where they are asked for, as those by which a packet counts.
#[inline(always)]
fn go_inside(
    settings: &Settings,
    ports: &DnsPorts,
    meta: &mut PacketMeta,
    octets: &[u8],
    wire_len: usize,
) {
    if meta.is_tunnel() && settings.tunnels == Tunnels::Inner {
        *meta = enter_tunnels(ports.bits(), octets, wire_len, *meta);
    }
}

/// Decides what becomes of a packet. Where not all are inspected, DNS is chosen by flow and DNS id,
/// and other packets by their number.
#[inline(always)]
fn decide(rules: &Rules<'_>, meta: &PacketMeta, flow: u64, octets: &[u8], number: u64) -> Decision {
    let dns_id = || {
        octets
            .get(usize::from(meta.payload_offset)..)
            .and_then(|payload| payload.first_chunk())
            .map_or(0, |id| u16::from_be_bytes(*id))
    };
    let random = || mix(number) as u32;
    classify(rules, &Snaps::ALL, meta, octets.len() as u32, || flow, dns_id, random)
}

/// Takes a reassembled datagram into the shard, where its flow belongs there.
fn ingest(
    settings: &Settings,
    shard: &mut Shard,
    share: Share,
    outbox: Option<&mut Vec<Forwarded>>,
    datagram: &Datagram<'_>,
) {
    let meta = datagram.meta;
    let flow = settings.flow_key.flow(&meta);
    if !matches!(meta.transport, Transport::Udp | Transport::Tcp) {
        return;
    }
    let ports = settings.ports.now();
    let rules = ports.rules(&settings.sampling);
    let decision = decide(&rules, &meta, flow, datagram.payload, 0);
    let packet = Packet {
        meta,
        time: datagram.time,
        flow,
        wire_len: datagram.payload.len() as u32,
        n: 1,
        weight: decision.weight,
        direction: settings.hosts.now().direction(&meta),
    };
    if share.has(flow) {
        shard.datagram(&packet, datagram.payload, &decision);
    } else if let Some(outbox) = outbox {
        let lane = share.of_flow(flow);
        let payload = datagram.payload.into();
        outbox.push(Forwarded::Datagram { lane, packet, decision, payload });
    }
}
