//! Distributes blocks of packets to the workers and keeps the current packet time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pktvisor_common::loss::Loss;
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;

use crate::aggregate::bucket::Bucket;
use crate::aggregate::divided;
use crate::aggregate::geo::Geo;
use crate::aggregate::minute_clock::MinuteClock;
use crate::aggregate::scanner::Piece;
use crate::aggregate::settings::Settings;
use crate::aggregate::worker::Worker;
use crate::aggregate::workers::{Step, WorkerControl, Workers};
use crate::decode::block::{Block, Mark};
use crate::store::Store;
use crate::time::Timestamp;

/// Current packet time, shared with the server.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// Returns the current packet time; [`Timestamp::EPOCH`] before the first packet.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Sets the current time.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }
}

/// Where the workers run.
enum To {
    /// One worker, on the reader's thread.
    Inline(Box<Worker>),
    Threads(Workers),
}

/// Takes blocks of packets in capture order and divides them into steps: pieces whose packets all belong
/// to one minute, and the events between them.
pub struct Pipeline {
    settings: Arc<Settings>,
    clock: Arc<Clock>,
    /// Current packet time, as published in `clock`.
    now: Timestamp,
    /// True if everything goes into a single summary, which follows packet time when it goes back.
    single: bool,
    minutes: MinuteClock,
    /// Latest packet time.
    latest: Timestamp,
    /// Packets read.
    packets: u64,
    to: To,
}

impl Pipeline {
    /// Creates a pipeline whose only worker runs on the caller's thread.
    pub fn inline(settings: Arc<Settings>, store: &Store) -> Self {
        let worker = Worker::alone(Arc::clone(&settings), store.intake());
        Self::new(settings, store, To::Inline(Box::new(worker)))
    }

    /// Creates a pipeline with `workers` threads, 1 to [`crate::aggregate::flows::PARTITIONS`].
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub fn threads(
        settings: Arc<Settings>,
        store: &Store,
        workers: usize,
    ) -> std::io::Result<Self> {
        let workers = Workers::start(&settings, &store.intake(), workers)?;
        Ok(Self::new(settings, store, To::Threads(workers)))
    }

    /// Returns the number of parts that `workers` workers hand in for each minute.
    pub fn parts(workers: usize) -> usize {
        if workers == 1 { 1 } else { divided::parts(workers) }
    }

    fn new(settings: Arc<Settings>, store: &Store, to: To) -> Self {
        let single = store.retention().single;
        let (clock, minutes) = (Arc::default(), MinuteClock::default());
        Self {
            settings,
            clock,
            now: Timestamp::EPOCH,
            single,
            minutes,
            latest: Timestamp::MIN,
            packets: 0,
            to,
        }
    }

    /// Returns the clock of packet time.
    pub fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.clock)
    }

    /// Returns a handle to the workers for the server. It reaches none if the worker runs inline.
    pub fn control(&self) -> WorkerControl {
        match &self.to {
            To::Inline(_) => WorkerControl::default(),
            To::Threads(workers) => workers.control(),
        }
    }

    /// Returns the number of packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Processes a range of packets of a block, and the reader's marks on their times.
    pub fn feed(&mut self, block: &Arc<Block>, packets: Range<usize>) {
        let mut from = packets.start;
        let first = block.marks.partition_point(|&(place, _)| (place as usize) < from);
        for &(place, mark) in &block.marks[first..] {
            let place = place as usize;
            if place >= packets.end {
                break;
            }
            self.span(block, from..place, false);
            from = place;
            match mark {
                Mark::Back => self.go_back(block.packets[place].time),
                Mark::Outlier => {
                    self.span(block, place..place + 1, true);
                    from = place + 1;
                }
            }
        }
        self.span(block, from..packets.end, false);
        if let To::Threads(workers) = &mut self.to {
            workers.next_turn();
        }
        self.clock.set(self.now);
    }

    /// Divides packets between two marks by minute.
    fn span(&mut self, block: &Arc<Block>, packets: Range<usize>, is_outlier: bool) {
        let mut from = packets.start;
        let mut latest = Timestamp::MIN;
        for place in packets.clone() {
            let time = block.packets[place].time;
            if self.minutes.is_over(time) {
                self.read(block, from..place, latest, is_outlier);
                (from, latest) = (place, Timestamp::MIN);
                self.pass(time);
            }
            latest = latest.max(time);
        }
        self.read(block, from..packets.end, latest, is_outlier);
    }

    fn read(
        &mut self,
        block: &Arc<Block>,
        packets: Range<usize>,
        latest: Timestamp,
        is_outlier: bool,
    ) {
        if packets.is_empty() {
            return;
        }
        let (block, before, since) = (Arc::clone(block), self.packets, self.latest);
        self.packets += packets.len() as u64;
        self.latest = since.max(latest);
        self.now = self.now.max(latest);
        let piece = Piece { block, packets, before, since, latest, is_outlier };
        match &mut self.to {
            To::Inline(worker) => worker.read(&piece),
            To::Threads(workers) => workers.read(piece),
        }
    }

    fn step(&mut self, step: &Step) {
        match &mut self.to {
            To::Inline(worker) => worker.step(step),
            To::Threads(workers) => workers.step(step),
        }
    }

    /// Advances packet time into another minute, or starts the first one.
    fn pass(&mut self, time: Timestamp) {
        if self.minutes.end().is_none() {
            self.latest = time;
        }
        self.minutes.set(time);
        self.step(&Step::Advance(time));
    }

    /// Moves packet time back to `time`. A single summary then counts later packets in their own seconds.
    /// Otherwise the live minute stays live and counts them.
    fn go_back(&mut self, time: Timestamp) {
        if !self.single {
            return;
        }
        self.now = time;
        if self.minutes.is_before(time) {
            let before = std::mem::replace(&mut self.latest, time);
            self.minutes.set(time);
            self.step(&Step::Back { before, time });
        }
    }

    /// Advances packet time to `time` and closes the minutes that ended.
    pub fn advance(&mut self, time: Timestamp) {
        if self.minutes.is_over(time) {
            self.pass(time);
        }
        self.now = self.now.max(time);
        self.clock.set(self.now);
    }

    /// Counts losses that happened before the pipeline.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        match &mut self.to {
            _ if count == 0 => {}
            To::Inline(worker) => worker.lose(loss, count),
            To::Threads(workers) => workers.losses().lose(loss, count),
        }
    }

    /// Counts packets of an unsupported link type.
    pub fn count_unread(&mut self, packets: u64) {
        match &mut self.to {
            _ if packets == 0 => {}
            To::Inline(worker) => worker.count_unread(packets),
            To::Threads(workers) => workers.count_unread(packets),
        }
    }

    /// Ends the input: the workers read incomplete data as far as it goes, and packet time stops.
    pub fn end_input(&mut self) {
        let latest = self.minutes.end().map(|_| self.latest);
        self.step(&Step::End(latest));
    }

    /// Returns the live buckets of all workers, merged, as of the current packet time.
    pub fn present(&mut self) -> Present {
        let now = self.clock.now();
        let buckets = match &mut self.to {
            To::Inline(worker) => vec![worker.snapshot(now)],
            To::Threads(workers) => {
                // Every worker receives this step, so that each replies only once it has reached it.
                workers.step(&Step::Nothing);
                workers.control().take(now)
            }
        };
        merge_live(buckets, now, &mut self.settings.geo())
    }
}

/// The counts of all workers up to the current packet time.
#[derive(Debug, Default)]
pub struct Present {
    /// The live bucket, merged from the workers that have reached the newest minute.
    pub live: Arc<Summary>,
    /// Totals of all workers since the start.
    pub cumulative: Cumulative,
}

/// Merges the live buckets of all workers.
pub fn merge_live(buckets: Vec<Bucket>, now: Timestamp, geo: &mut Geo) -> Present {
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

#[cfg(test)]
pub(super) mod tests {
    use pktvisor_common::direction::Direction;

    use super::*;

    use crate::decode::block::{LinkType, PacketRecord};
    use crate::store::minutes::Retention;
    use crate::time::SECOND;

    /// Nanoseconds of a minute.
    const MINUTE: i64 = crate::time::MINUTE.as_nanos();

    pub(in crate::aggregate) fn settings() -> Settings {
        Settings { timeout: SECOND, ..Settings::default() }
    }

    fn pipeline(workers: usize) -> (Pipeline, Store) {
        let retention = Retention { periods: 5, single: false };
        let store = Store::start(Pipeline::parts(workers), retention).unwrap();
        (Pipeline::threads(settings().into(), &store, workers).unwrap(), store)
    }

    /// Builds a block with a packet for each time. All packets are zero bytes.
    fn block(times: &[i64], captured: u32) -> Arc<Block> {
        let record = |&time: &i64| PacketRecord {
            time: Timestamp::from_nanos(time),
            offset: 0,
            captured,
            wire_len: 60,
            link: LinkType::Ethernet,
        };
        let packets = times.iter().map(record).collect();
        Arc::new(Block { data: vec![0; 60], packets, ..Block::default() })
    }

    fn total(present: &Present) -> u64 {
        present.live.totals.packets.total()
    }

    #[test]
    fn minutes_are_independent_of_block_boundaries() {
        let start = 28_000_000 * MINUTE;
        for workers in [1, 2, 5] {
            let (mut pipeline, store) = pipeline(workers);
            // Two blocks that span two minutes each, and one of late packets.
            let times = [start, start + 1, start + MINUTE, start + MINUTE + 1];
            pipeline.feed(&block(&times, 60), 0..4);
            pipeline.feed(&block(&[start + MINUTE + 2, start + 2 * MINUTE], 60), 0..2);
            pipeline.feed(&block(&[start + 2, start + 3], 60), 0..2);
            let present = pipeline.present();
            store.settle();
            let closed =
                [2, 1].map(|n| store.closed(n).unwrap().totals.packets[Direction::Unknown]);
            assert_eq!((closed, total(&present)), ([2, 3], 3), "{workers} workers");
            assert_eq!(present.live.account.late, 2, "{workers} workers");
            assert_eq!(
                present.cumulative.totals.packets[Direction::Unknown],
                8,
                "{workers} workers"
            );
        }
    }

    #[test]
    fn live_bucket_is_empty_before_first_packet() {
        let (mut pipeline, store) = pipeline(3);
        assert_eq!((total(&pipeline.present()), pipeline.present().live.minute), (0, 0));
        pipeline.feed(&block(&[MINUTE], 60), 0..1);
        assert_eq!((total(&pipeline.present()), store.available()), (1, 1));
    }

    #[test]
    fn other_workers_continue_after_one_panics() {
        let (mut pipeline, store) = pipeline(3);
        let good = block(&[MINUTE; 10], 60);
        // Its packet claims more bytes than the block has.
        let bad = block(&[MINUTE], 61);
        pipeline.feed(&bad, 0..1);
        for _ in 0..100 {
            pipeline.feed(&good, 0..10);
        }
        assert!(!pipeline.control().answer(), "one is gone, and does not answer");
        let seen = total(&pipeline.present());
        assert!((600..=670).contains(&seen), "{seen}");
        // Minutes still close.
        pipeline.advance(Timestamp::from_minute(3));
        pipeline.present();
        store.settle();
        assert_eq!(store.available(), 3);
        assert_eq!(store.closed(2).unwrap().totals.packets[Direction::Unknown], seen);
    }
}
