//! From blocks of packets to shards: headers, direction, sampling, reassembly of IP fragments, and
//! the minutes of packet time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pktvisor_common::flow::{dns_sample_hash, flow_hash, mix};
use pktvisor_common::packet::{Fragment, PacketMeta, Transport};

use crate::capture::{Block, link};
use crate::defrag::{Datagram, Defrag, DefragLimits};
use crate::geo::{Geo, GeoDatabases};
use crate::settings::Settings;
use crate::shard::{Shard, partition};
use crate::summary::Summary;
use crate::summary::bucket::{Bucket, Packet};
use crate::time::{MINUTE, SECOND, minute_of};
use crate::window::Window;
use crate::workers::{Snapshots, Workers};

/// Fragmented datagrams under way: 4 MiB of them at most.
const FRAGMENTS: DefragLimits = DefragLimits { entries: 4_096, bytes: 4 << 20, age: 30 * SECOND };

/// The present of packet time, which those read who serve it.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// The present in nanoseconds of packet time; 0 before the first packet.
    pub fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the shards run.
enum Shards {
    /// One, on the reader's thread.
    Inline(Box<Shard>),
    Threads(Workers),
}

/// Takes blocks of packets in the order of capture.
pub struct Pipeline {
    settings: Arc<Settings>,
    databases: Arc<GeoDatabases>,
    window: Arc<Window>,
    clock: Arc<Clock>,
    shards: Shards,
    defrag: Defrag,
    /// End of the live minute; `None` before the first packet.
    minute_end: Option<i64>,
    /// The latest time seen.
    latest: i64,
    /// Packets taken in.
    packets: u64,
}

impl Pipeline {
    /// A pipeline whose one shard runs on the caller's thread.
    pub fn inline(
        settings: Arc<Settings>,
        databases: Arc<GeoDatabases>,
        window: Arc<Window>,
    ) -> Self {
        let shard = Shard::new(Arc::clone(&settings), Arc::clone(&databases));
        Self::new(settings, databases, window, Shards::Inline(Box::new(shard)))
    }

    /// A pipeline of `workers` shards, 1 to [`crate::shard::PARTITIONS`], on threads of their own.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn threads(
        settings: Arc<Settings>,
        databases: Arc<GeoDatabases>,
        window: Arc<Window>,
        workers: usize,
    ) -> std::io::Result<Self> {
        let shards = (0..workers)
            .map(|_| Shard::new(Arc::clone(&settings), Arc::clone(&databases)))
            .collect();
        let workers = Workers::start(shards, &window)?;
        Ok(Self::new(settings, databases, window, Shards::Threads(workers)))
    }

    fn new(
        settings: Arc<Settings>,
        databases: Arc<GeoDatabases>,
        window: Arc<Window>,
        shards: Shards,
    ) -> Self {
        Self {
            settings,
            databases,
            window,
            clock: Arc::default(),
            shards,
            defrag: Defrag::new(FRAGMENTS),
            minute_end: None,
            latest: i64::MIN,
            packets: 0,
        }
    }

    /// The present of packet time.
    pub fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.clock)
    }

    /// The live buckets, for those who serve them; `None` where the shard runs inline.
    pub fn snapshots(&self) -> Option<Snapshots> {
        match &self.shards {
            Shards::Inline(_) => None,
            Shards::Threads(workers) => Some(workers.snapshots()),
        }
    }

    /// Packets taken in so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Takes in some packets of a block.
    pub fn feed(&mut self, block: &Arc<Block>, packets: Range<usize>) {
        for record in &block.packets[packets] {
            if self.minute_end.is_none_or(|end| record.time >= end) {
                if let Shards::Threads(workers) = &mut self.shards {
                    workers.flush(block);
                }
                self.advance(record.time);
            }
            self.latest = self.latest.max(record.time);
            let octets = block.packet(record);
            let meta = link::walk(record, octets);
            let flow = flow_hash(&meta);
            let packet = Packet {
                meta,
                time: record.time,
                flow,
                wire_len: record.wire_len,
                n: 1,
                weight: weight(&self.settings, &meta, flow, octets, self.packets),
                direction: self.settings.hosts.direction(&meta),
            };
            self.packets += 1;
            match &mut self.shards {
                Shards::Inline(shard) => shard.ingest(&packet, octets),
                Shards::Threads(workers) => {
                    let shard = partition(flow) % workers.count();
                    workers.push(shard, packet, record.offset, record.captured);
                }
            }
            if meta.fragment != Fragment::None && !meta.malformed {
                self.fragment(block, &packet, octets);
            }
        }
        if let Shards::Threads(workers) = &mut self.shards {
            workers.flush(block);
        }
        if self.minute_end.is_some() {
            self.clock.0.fetch_max(self.latest, Ordering::Relaxed);
        }
    }

    fn fragment(&mut self, block: &Arc<Block>, packet: &Packet, octets: &[u8]) {
        if let Shards::Threads(workers) = &mut self.shards {
            workers.flush(block);
        }
        let Self { defrag, settings, shards, .. } = self;
        let mut emit = |datagram: Datagram<'_>| send_datagram(settings, shards, &datagram);
        defrag.advance(packet.time, &mut emit);
        defrag.fragment(&packet.meta, octets, packet.wire_len, packet.time, &mut emit);
        self.take_losses();
    }

    /// Hands what the reassembly gave up to the account of a shard.
    fn take_losses(&mut self) {
        let losses = self.defrag.take_losses();
        for (reason, count) in [
            ("fragments_incomplete", losses.incomplete),
            ("fragments_evicted", losses.evicted),
            ("fragments_invalid", losses.invalid),
            ("fragments_cut", losses.cut),
        ] {
            if count > 0 {
                match &mut self.shards {
                    Shards::Inline(shard) => shard.lose(reason, count),
                    Shards::Threads(workers) => workers.lose(reason, count),
                }
            }
        }
    }

    /// Lets packet time pass up to `time`: minutes that ended before it are closed, the missed
    /// ones too, at most as many as are kept. The first call starts the first bucket.
    pub fn advance(&mut self, time: i64) {
        let Some(mut end) = self.minute_end else {
            self.begin(time);
            return;
        };
        self.clock.0.fetch_max(time, Ordering::Relaxed);
        if time < end {
            return;
        }
        let minute = minute_of(time);
        let first_kept = minute.saturating_sub(self.window.periods() as i64);
        loop {
            let next = minute_of(end).max(first_kept).min(minute);
            let next_start = next.saturating_mul(MINUTE);
            self.close(end, next_start);
            end = next_start.saturating_add(MINUTE);
            if next >= minute {
                break;
            }
        }
        self.minute_end = Some(end);
    }

    fn begin(&mut self, time: i64) {
        self.minute_end = Some(minute_of(time).saturating_add(1).saturating_mul(MINUTE));
        self.latest = time;
        self.clock.0.store(time, Ordering::Relaxed);
        match &mut self.shards {
            Shards::Inline(shard) => shard.begin(time),
            Shards::Threads(workers) => workers.begin(time),
        }
    }

    fn close(&mut self, end: i64, next_start: i64) {
        match &mut self.shards {
            Shards::Inline(shard) => self.window.hand_in(shard.close(end, next_start)),
            Shards::Threads(workers) => workers.close(end, next_start),
        }
    }

    /// The input has ended: what waits for more is read as far as it goes, and packet time stands
    /// still.
    pub fn end_input(&mut self) {
        let Self { defrag, settings, shards, .. } = self;
        defrag.finish(&mut |datagram| send_datagram(settings, shards, &datagram));
        self.take_losses();
        if self.minute_end.is_some() {
            match &mut self.shards {
                Shards::Inline(shard) => shard.end_input(self.latest),
                Shards::Threads(workers) => workers.end_input(self.latest),
            }
        }
    }

    /// The live bucket of all shards merged, up to the present.
    pub fn live(&mut self) -> Summary {
        let now = self.clock.now();
        let buckets = match &mut self.shards {
            Shards::Inline(shard) => vec![shard.snapshot(now)],
            Shards::Threads(workers) => workers.snapshots().take(now),
        };
        let mut geo = Geo::new(Arc::clone(&self.databases), self.settings.naming.seed);
        merge_live(buckets, now, &mut geo)
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

/// Sends a reassembled datagram to the shard of its flow.
fn send_datagram(settings: &Settings, shards: &mut Shards, datagram: &Datagram<'_>) {
    let meta = datagram.meta;
    if !matches!(meta.transport, Transport::Udp | Transport::Tcp) {
        return;
    }
    let flow = flow_hash(&meta);
    let packet = Packet {
        meta,
        time: datagram.time,
        flow,
        wire_len: datagram.payload.len() as u32,
        n: 1,
        weight: weight(settings, &meta, flow, datagram.payload, 0),
        direction: settings.hosts.direction(&meta),
    };
    match shards {
        Shards::Inline(shard) => shard.datagram(&packet, datagram.payload),
        Shards::Threads(workers) => {
            let shard = partition(flow) % workers.count();
            workers.datagram(shard, packet, datagram.payload);
        }
    }
}

/// The live bucket of all shards, merged of those that are in the newest minute.
pub fn merge_live(buckets: Vec<Bucket>, now: i64, geo: &mut Geo) -> Summary {
    let minute = buckets.iter().map(Bucket::minute).max();
    buckets
        .into_iter()
        .filter(|bucket| Some(bucket.minute()) == minute)
        .map(|bucket| bucket.into_summary(now, geo))
        .reduce(|mut all, part| {
            all.merge(&part);
            all
        })
        .unwrap_or_default()
}
