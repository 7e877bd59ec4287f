//! From blocks of packets to the lanes that sum them up, and the present of packet time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pktvisor_common::loss::Loss;
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;

use crate::aggregate::bucket::Bucket;
use crate::aggregate::geo::Geo;
use crate::aggregate::lane::{Lane, Share};
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::{WorkerControl, Workers};
use crate::decode::block::{Block, Mark};
use crate::store::Store;

/// The present of packet time, which those read who serve it.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// The present in nanoseconds of packet time; 0 before the first packet.
    pub fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the present.
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// Where the lanes run.
enum Lanes {
    /// One, on the reader's thread.
    Inline(Box<Lane>),
    Threads(Workers),
}

/// Takes blocks of packets in the order of capture.
pub struct Pipeline {
    settings: Arc<Settings>,
    clock: Arc<Clock>,
    /// Whether the present goes back where packet time does.
    goes_back: bool,
    lanes: Lanes,
    /// Packets taken in.
    packets: u64,
}

impl Pipeline {
    /// A pipeline whose one lane runs on the caller's thread.
    pub fn inline(settings: Arc<Settings>, store: &Store) -> Self {
        let goes_back = store.retention().single;
        let lane = Lane::new(Arc::clone(&settings), store.intake(), Share { lane: 0, of: 1 });
        Self::new(settings, goes_back, Lanes::Inline(Box::new(lane)))
    }

    /// A pipeline of `workers` lanes, 1 to [`crate::aggregate::shard::PARTITIONS`], on threads of their own.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn threads(
        settings: Arc<Settings>,
        store: &Store,
        workers: usize,
    ) -> std::io::Result<Self> {
        let lane =
            |lane| Lane::new(Arc::clone(&settings), store.intake(), Share { lane, of: workers });
        let workers = Workers::start((0..workers).map(lane).collect())?;
        Ok(Self::new(settings, store.retention().single, Lanes::Threads(workers)))
    }

    fn new(settings: Arc<Settings>, goes_back: bool, lanes: Lanes) -> Self {
        Self { settings, clock: Arc::default(), goes_back, lanes, packets: 0 }
    }

    /// The present of packet time.
    pub fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.clock)
    }

    /// The way to the workers, for those who serve what they count; to none where the lane runs inline.
    pub fn control(&self) -> WorkerControl {
        match &self.lanes {
            Lanes::Inline(_) => WorkerControl::default(),
            Lanes::Threads(workers) => workers.control(),
        }
    }

    /// Packets taken in so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Takes in some packets of a block.
    pub fn feed(&mut self, block: &Arc<Block>, packets: Range<usize>) {
        self.packets += packets.len() as u64;
        let back = block.marks.iter().rev().find(|&&(place, mark)| {
            mark == Mark::Back && packets.contains(&(place as usize)) && self.goes_back
        });
        let from = back.map_or(packets.start, |&(place, _)| place as usize);
        let latest = block.packets[from..packets.end].iter().map(|packet| packet.time).max();
        match &mut self.lanes {
            Lanes::Inline(lane) => lane.feed(block, packets),
            Lanes::Threads(workers) => workers.feed(block, &packets),
        }
        match latest {
            Some(latest) if back.is_some() => self.clock.set(latest),
            Some(latest) => _ = self.clock.0.fetch_max(latest, Ordering::Relaxed),
            None => {}
        }
    }

    /// Lets packet time pass up to `time`; minutes that ended before it are closed.
    pub fn advance(&mut self, time: i64) {
        match &mut self.lanes {
            Lanes::Inline(lane) => lane.advance(time),
            Lanes::Threads(workers) => workers.advance(time),
        }
        self.clock.0.fetch_max(time, Ordering::Relaxed);
    }

    /// Counts what was lost before it got here.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        match &mut self.lanes {
            _ if count == 0 => {}
            Lanes::Inline(lane) => lane.lose(loss, count),
            Lanes::Threads(workers) => workers.losses().lose(loss, count),
        }
    }

    /// Counts packets of a link type that is not read.
    pub fn count_unread(&mut self, packets: u64) {
        match &mut self.lanes {
            _ if packets == 0 => {}
            Lanes::Inline(lane) => lane.count_unread(packets),
            Lanes::Threads(workers) => workers.count_unread(packets),
        }
    }

    /// The input has ended: what waits for more is read as far as it goes, and packet time stands
    /// still.
    pub fn end_input(&mut self) {
        match &mut self.lanes {
            Lanes::Inline(lane) => lane.end_input(),
            Lanes::Threads(workers) => workers.end_input(),
        }
    }

    /// The live bucket of all lanes merged, up to the present.
    pub fn present(&mut self) -> Present {
        let now = self.clock.now();
        let buckets = match &mut self.lanes {
            Lanes::Inline(lane) => vec![lane.snapshot(now)],
            Lanes::Threads(workers) => workers.control().take(now),
        };
        merge_live(buckets, now, &mut self.settings.geo())
    }
}

/// What all lanes have counted up to the present.
#[derive(Debug, Default)]
pub struct Present {
    /// The live bucket, merged of the lanes that are in the newest minute.
    pub live: Arc<Summary>,
    /// What was counted since the start, by all lanes.
    pub cumulative: Cumulative,
}

/// Sums up the live buckets of all lanes.
pub fn merge_live(buckets: Vec<Bucket>, now: i64, geo: &mut Geo) -> Present {
    let newest = buckets.iter().map(Bucket::place).max();
    let mut cumulative = Cumulative::default();
    let mut live: Option<Summary> = None;
    for bucket in buckets {
        let is_newest = Some(bucket.place()) == newest;
        let (summary, counted) = bucket.finish(now, geo);
        cumulative.merge(&counted);
        match &mut live {
            _ if !is_newest => {}
            Some(live) => live.merge(&summary),
            None => live = Some(summary),
        }
    }
    Present { live: Arc::new(live.unwrap_or_default()), cumulative }
}
