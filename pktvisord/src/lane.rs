//! A lane: one shard and the way of packets to it.
//!
//! Every lane reads the headers of all packets, lets time pass with them and puts IP fragments
//! together, but sums up only the flows of its own partitions. So nothing has to be handed from
//! one thread to another but the blocks as they were read: walking a packet's headers twice costs
//! less than passing them on, and each lane closes its minutes at the same packets as the others.

use std::ops::Range;
use std::sync::Arc;

use pktvisor_common::flow::{dns_sample_hash, flow_hash, mix};
use pktvisor_common::packet::{Fragment, PacketMeta, Transport};

use crate::capture::{Block, link};
use crate::defrag::{Datagram, Defrag, DefragLimits};
use crate::geo::GeoDatabases;
use crate::settings::Settings;
use crate::shard::{Shard, partition};
use crate::summary::bucket::{Bucket, Packet};
use crate::time::{MINUTE, SECOND, minute_of};
use crate::window::Window;

/// Fragmented datagrams under way: 4 MiB of them at most.
const FRAGMENTS: DefragLimits = DefragLimits { entries: 4_096, bytes: 4 << 20, age: 30 * SECOND };

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
    fn has(self, flow: u64) -> bool {
        partition(flow) % self.of == self.lane
    }
}

/// One shard and the way of packets to it.
pub struct Lane {
    settings: Arc<Settings>,
    window: Arc<Window>,
    share: Share,
    shard: Shard,
    defrag: Defrag,
    /// End of the live minute; `None` before the first packet.
    minute_end: Option<i64>,
    /// The latest time seen.
    latest: i64,
    /// Packets seen.
    packets: u64,
}

impl Lane {
    /// A lane that hands its closed minutes to `window`.
    pub fn new(
        settings: Arc<Settings>,
        databases: Arc<GeoDatabases>,
        window: Arc<Window>,
        share: Share,
    ) -> Self {
        Self {
            shard: Shard::new(Arc::clone(&settings), databases),
            settings,
            window,
            share,
            defrag: Defrag::new(FRAGMENTS),
            minute_end: None,
            latest: i64::MIN,
            packets: 0,
        }
    }

    /// Which lane it is, from 0.
    pub fn number(&self) -> usize {
        self.share.lane
    }

    /// Takes in some packets of a block.
    pub fn feed(&mut self, block: &Block, packets: Range<usize>) {
        for record in &block.packets[packets] {
            if self.minute_end.is_none_or(|end| record.time >= end) {
                self.advance(record.time);
            }
            self.latest = self.latest.max(record.time);
            self.packets += 1;
            let octets = block.packet(record);
            let meta = link::walk(record, octets);
            let flow = flow_hash(&meta);
            if self.share.has(flow) {
                let packet = Packet {
                    meta,
                    time: record.time,
                    flow,
                    wire_len: record.wire_len,
                    n: 1,
                    weight: weight(&self.settings, &meta, flow, octets, self.packets),
                    direction: self.settings.hosts.direction(&meta),
                };
                self.shard.ingest(&packet, octets);
            }
            if meta.fragment != Fragment::None && !meta.malformed {
                let Self { defrag, settings, shard, share, .. } = self;
                let mut emit = |datagram: Datagram<'_>| ingest(settings, shard, *share, &datagram);
                defrag.advance(record.time, &mut emit);
                defrag.fragment(&meta, octets, record.wire_len, record.time, &mut emit);
                self.take_losses();
            }
        }
    }

    /// Hands what the reassembly gave up to the account of one lane.
    fn take_losses(&mut self) {
        let losses = self.defrag.take_losses();
        if self.share.lane == 0 {
            for (reason, count) in [
                ("fragments_incomplete", losses.incomplete),
                ("fragments_evicted", losses.evicted),
                ("fragments_invalid", losses.invalid),
                ("fragments_cut", losses.cut),
            ] {
                self.shard.lose(reason, count);
            }
        }
    }

    /// Lets packet time pass up to `time`: minutes that ended before it are closed, the missed
    /// ones too, at most as many as are kept. The first call starts the first bucket.
    pub fn advance(&mut self, time: i64) {
        let Some(mut end) = self.minute_end else {
            self.minute_end = Some(minute_of(time).saturating_add(1).saturating_mul(MINUTE));
            self.latest = time;
            self.shard.begin(time);
            return;
        };
        if time < end {
            return;
        }
        let minute = minute_of(time);
        let first_kept = minute.saturating_sub(self.window.periods() as i64);
        loop {
            let next = minute_of(end).max(first_kept).min(minute);
            let next_start = next.saturating_mul(MINUTE);
            self.window.hand_in(self.share.lane, self.shard.close(end, next_start));
            end = next_start.saturating_add(MINUTE);
            if next >= minute {
                break;
            }
        }
        self.minute_end = Some(end);
    }

    /// The input has ended: what waits for more is read as far as it goes.
    pub fn end_input(&mut self) {
        let Self { defrag, settings, shard, share, .. } = self;
        defrag.finish(&mut |datagram| ingest(settings, shard, *share, &datagram));
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

/// The weight of a packet: by its flow and DNS id where it is DNS, else by its number.
#[inline]
fn weight(settings: &Settings, meta: &PacketMeta, flow: u64, octets: &[u8], number: u64) -> u32 {
    if settings.sampling.takes_all() {
        return 1;
    }
    let dns = meta.fragment == Fragment::None && settings.ports.side(meta).is_some();
    let hash = if dns {
        let id = octets
            .get(usize::from(meta.payload_offset)..)
            .and_then(|payload| payload.first_chunk())
            .map_or(0, |id| u16::from_be_bytes(*id));
        dns_sample_hash(flow, meta.transport, id)
    } else {
        mix(number ^ 0x9e37_79b9_7f4a_7c15)
    };
    settings.sampling.weight(hash)
}

/// Takes a reassembled datagram into the shard, where its flow belongs there.
fn ingest(settings: &Settings, shard: &mut Shard, share: Share, datagram: &Datagram<'_>) {
    let meta = datagram.meta;
    let flow = flow_hash(&meta);
    if !matches!(meta.transport, Transport::Udp | Transport::Tcp) || !share.has(flow) {
        return;
    }
    let packet = Packet {
        meta,
        time: datagram.time,
        flow,
        wire_len: datagram.payload.len() as u32,
        n: 1,
        weight: weight(settings, &meta, flow, datagram.payload, 0),
        direction: settings.hosts.direction(&meta),
    };
    shard.datagram(&packet, datagram.payload);
}
