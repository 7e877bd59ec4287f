//! A thread for each ring drains records in batches, aggregates them, and sleeps.
//!
//! The kernel wakes no thread, because that would cost more than the record. The thread polls the
//! ring, more often while there are records. It reads the clocks once a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use pktvisor_common::abi::{Counters, SampleHeader};
use pktvisor_common::loss::Loss;
use rustix::time::{ClockId, clock_gettime};

use super::probe::{CounterMap, Ring};
use crate::aggregate::bucket::Bucket;
use crate::aggregate::flows::Forwarded;
use crate::aggregate::pipeline::Clock;
use crate::aggregate::worker::Worker;
use crate::aggregate::workers::Work;
use crate::time::{SECOND, Span, Timestamp, wall_clock};

/// Maximum number of records between two readings of the clocks.
const BATCH: usize = 8_192;
/// Sleep while there are records. At a million DNS messages a second, a ring of 8 MiB fills in 40
/// ms.
const SHORT_SLEEP: Duration = Duration::from_millis(2);
/// Longest sleep while there are no records.
const LONG_SLEEP: Duration = Duration::from_millis(20);
/// The wall clock was set if it differs by more than this from the monotonic clock's prediction.
const STEP: Span = Span::from_seconds(2);
/// A longer span between two readings of the counters gives no rate of one second.
const LONG_SECOND: Span = Span::from_millis(1_500);

/// Status of a drain.
#[derive(Debug, Default)]
pub struct DrainStatus {
    /// Age of the oldest record when it was read, in microseconds: the maxima of the last and of
    /// the current second.
    lag: [AtomicU64; 2],
    /// Records read since the start.
    read: AtomicU64,
}

impl DrainStatus {
    /// Returns the largest age of records when they were read, in milliseconds, over the last one
    /// or two seconds.
    pub fn lag_ms(&self) -> u64 {
        let [a, b] = &self.lag;
        a.load(Ordering::Relaxed).max(b.load(Ordering::Relaxed)) / 1_000
    }

    /// Returns the number of records read since the start.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Adds a batch; `age` is the age of its first record.
    fn note(&self, records: usize, age: Span, now: Now) {
        self.read.fetch_add(records as u64, Ordering::Relaxed);
        let place = &self.lag[now.wall.second().rem_euclid(2) as usize];
        place.fetch_max(age.as_micros(), Ordering::Relaxed);
    }

    /// Starts a new second.
    fn turn(&self, now: Now) {
        self.lag[now.wall.second().rem_euclid(2) as usize].store(0, Ordering::Relaxed);
    }
}

/// A ring and the worker that aggregates its records.
pub struct Drain {
    /// The worker.
    pub worker: Worker,
    /// The ring.
    pub ring: Ring,
    /// The kernel's counters, for the one drain that takes them in, and the clock that it sets.
    pub counting: Option<(Arc<CounterMap>, Arc<Clock>)>,
    /// Its status.
    pub status: Arc<DrainStatus>,
}

/// Readings of the two clocks.
#[derive(Clone, Copy, Debug)]
struct Now {
    /// The wall clock.
    wall: Timestamp,
    /// The monotonic clock, which the kernel programs stamp records with.
    steady: Span,
}

impl Now {
    fn read() -> Self {
        let steady = clock_gettime(ClockId::Monotonic);
        let steady = Span::from_seconds(steady.tv_sec) + Span::from_nanos(steady.tv_nsec);
        Self { wall: wall_clock(), steady }
    }

    /// Returns when the monotonic clock was 0.
    fn start(self) -> Timestamp {
        self.wall - self.steady
    }
}

impl Drain {
    /// Drains the ring until it is told to stop.
    pub fn run(self, work: &Receiver<Work>, workers: &[SyncSender<Work>]) {
        let Self { mut worker, mut ring, counting, status } = self;
        let mut now = Now::read();
        worker.advance(now.wall);
        let mut counting = counting.map(|(map, clock)| Counting::new(map, clock, now.wall));
        let mut sleep = SHORT_SLEEP;
        // Datagrams of other workers wait here: the messages they answer may still be in the ring.
        let mut datagrams: Vec<Forwarded> = Vec::new();
        loop {
            let records = drain(&mut ring, &mut worker, now, &status);
            if records < BATCH {
                // The ring is empty: the worker has read the messages they answer.
                datagrams.drain(..).for_each(|forwarded| worker.take(&forwarded));
            }
            for forwarded in worker.take_forwarded() {
                // Do not wait for a worker whose queue is full: it may be waiting for this one.
                // Dropped datagrams are counted.
                let to = forwarded.worker();
                if workers[to].try_send(Work::Forwarded(forwarded)).is_err() {
                    worker.lose(Loss::FragmentsNotForwarded, 1);
                }
            }
            let before = std::mem::replace(&mut now, Now::read());
            let step = now.start() - before.start();
            let until_second = Timestamp::from_second(now.wall.second()) + SECOND - now.wall;
            if now.wall.second() != before.wall.second() {
                status.turn(now);
            }
            if let Some(counting) = &mut counting {
                counting.take_in(&mut worker, now.wall, step.abs() > STEP);
            }
            if step.abs() > STEP {
                // All drains notice this; only one logs it.
                if counting.is_some() {
                    let by = step.as_nanos() / 1_000_000;
                    tracing::warn!("the clock was set by {by} ms; starting a new bucket");
                }
                worker.restart(before.wall, now.wall);
            } else {
                worker.advance(now.wall);
            }
            sleep = match records {
                BATCH => Duration::ZERO,
                0 => (sleep + SHORT_SLEEP).min(LONG_SLEEP),
                _ => SHORT_SLEEP,
            };
            // Wake at the end of the second, so that the counters read then belong to it.
            let sleep_now = sleep.min(Duration::from_nanos(until_second.as_nanos() as u64));
            let mut next = work.recv_timeout(sleep_now);
            loop {
                match next {
                    Ok(Work::Snapshot(at, reply)) => {
                        let mut bucket = worker.snapshot(at);
                        if let Some(counting) = &counting {
                            counting.complete(&mut bucket);
                        }
                        // The requester may have given up.
                        let _ = reply.send((worker.number(), bucket));
                    }
                    Ok(Work::Forwarded(datagram)) => datagrams.push(datagram),
                    Ok(Work::Lost(loss, count)) => worker.lose(loss, count),
                    // The requester may have given up.
                    Ok(Work::Answer(reply)) => drop(reply.send(())),
                    Ok(Work::Reload) => worker.reload(),
                    // Packets come from the ring here, and time from the clock.
                    Ok(Work::Step(..) | Work::Batch(..) | Work::Unread(_)) => {}
                    Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => break,
                }
                next = work.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
        }
    }
}

/// Drains at most one batch of records from a ring. Returns their number.
fn drain(ring: &mut Ring, worker: &mut Worker, now: Now, status: &DrainStatus) -> usize {
    let start = now.start();
    let (mut records, mut age) = (0, Span::ZERO);
    while records < BATCH {
        let Some(record) = ring.next() else { break };
        // The programs write no record that is too short for a header.
        let Some((header, bytes)) = SampleHeader::read(&record) else { continue };
        let time = Span::from_nanos(header.time as i64);
        if records == 0 {
            age = now.steady - time;
        }
        worker.sample(&header, bytes, start + time);
        records += 1;
    }
    status.note(records, age, now);
    records
}

/// The kernel's counters. They are taken in once a second and before a bucket closes.
struct Counting {
    map: Arc<CounterMap>,
    clock: Arc<Clock>,
    taken: Counters,
    /// Time of the last reading.
    read: Timestamp,
}

impl Counting {
    fn new(map: Arc<CounterMap>, clock: Arc<Clock>, now: Timestamp) -> Self {
        clock.set(now);
        Self { map, clock, taken: Counters::default(), read: now }
    }

    /// Adds to a copy of the bucket the counts since the last reading.
    fn complete(&self, bucket: &mut Bucket) {
        if let Ok(counters) = self.map.read() {
            bucket.add_counted(&counters.since(&self.taken), None);
        }
    }

    /// Takes in the counters if a second has ended, or immediately with `at_once`.
    fn take_in(&mut self, worker: &mut Worker, now: Timestamp, at_once: bool) {
        self.clock.set(now);
        let second = now.second();
        if second == self.read.second() && !at_once {
            return;
        }
        match self.map.read() {
            Ok(counters) => {
                // The counts belong to the second that has ended.
                let ended = Timestamp::from_second(second) - Span::from_nanos(1);
                let span = now - self.read;
                let time = (Span::ZERO..=LONG_SECOND).contains(&span).then_some(ended);
                worker.add_counted(&counters.since(&self.taken), time);
                self.taken = counters;
                self.read = now;
            }
            Err(error) => tracing::error!("cannot read the kernel's counters: {error}"),
        }
    }
}
