//! A thread for each ring: it drains records in batches, sums them up, and sleeps.
//!
//! The kernel wakes nobody, which would cost more than the record. The thread looks after records
//! of its own accord, sooner while there are some. Clocks are looked at once a batch.

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
use crate::time::{MICROSECOND, SECOND};

/// Records between two looks at the clocks.
const BATCH: usize = 8_192;
/// The sleep while there are records. A ring of 8 MiB fills in 40 ms at a million DNS messages a
/// second.
const SHORT_SLEEP: Duration = Duration::from_millis(2);
/// The longest sleep without records.
const LONG_SLEEP: Duration = Duration::from_millis(20);
/// The wall clock was set where it is further than this from what the steady clock says.
const STEP: i64 = 2 * SECOND;
/// A reading of the counters that took longer is no rate of a second.
const LONG_SECOND: i64 = SECOND * 3 / 2;

/// What a drain tells of itself.
#[derive(Debug, Default)]
pub struct DrainStatus {
    /// The age of the oldest record when it was read, in microseconds: the greatest of the last
    /// and of the present second.
    lag: [AtomicU64; 2],
    /// Records read since the start.
    read: AtomicU64,
}

impl DrainStatus {
    /// How old records were at most when they were read, in milliseconds, in the last second or
    /// two.
    pub fn lag_ms(&self) -> u64 {
        let [a, b] = &self.lag;
        a.load(Ordering::Relaxed).max(b.load(Ordering::Relaxed)) / 1_000
    }

    /// Records read since the start.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Notes a batch and the age of its first record in nanoseconds.
    fn note(&self, records: usize, age: i64, now: Now) {
        self.read.fetch_add(records as u64, Ordering::Relaxed);
        let place = &self.lag[now.wall.div_euclid(SECOND).rem_euclid(2) as usize];
        place.fetch_max((age.max(0) / MICROSECOND) as u64, Ordering::Relaxed);
    }

    /// A new second begins.
    fn turn(&self, now: Now) {
        self.lag[now.wall.div_euclid(SECOND).rem_euclid(2) as usize].store(0, Ordering::Relaxed);
    }
}

/// A ring and the worker that its records go to.
pub struct Drain {
    /// The worker.
    pub worker: Worker,
    /// The ring.
    pub ring: Ring,
    /// What the kernel counts, for the one drain that takes it in, and the clock that it sets.
    pub counting: Option<(Arc<CounterMap>, Arc<Clock>)>,
    /// What it tells of itself.
    pub status: Arc<DrainStatus>,
}

/// The two clocks.
#[derive(Clone, Copy, Debug)]
struct Now {
    /// Nanoseconds of unix time.
    wall: i64,
    /// Nanoseconds of the kernel's clock, by which records are stamped.
    steady: i64,
}

impl Now {
    fn read() -> Self {
        let nanoseconds = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
        };
        Self { wall: nanoseconds(ClockId::Realtime), steady: nanoseconds(ClockId::Monotonic) }
    }

    /// By how much the wall clock is ahead.
    fn offset(self) -> i64 {
        self.wall.saturating_sub(self.steady)
    }
}

impl Drain {
    /// Drains until it is told to stop.
    pub fn run(self, work: &Receiver<Work>, workers: &[SyncSender<Work>]) {
        let Self { mut worker, mut ring, counting, status } = self;
        let mut now = Now::read();
        worker.advance(now.wall);
        let mut counting = counting.map(|(map, clock)| Counting::new(map, clock, now.wall));
        let mut sleep = SHORT_SLEEP;
        // From other workers. What they reply to can still lie in the ring.
        let mut datagrams: Vec<Forwarded> = Vec::new();
        loop {
            let records = drain(&mut ring, &mut worker, now, &status);
            if records < BATCH {
                // The ring is empty: what they answer to has been taken in.
                datagrams.drain(..).for_each(|forwarded| worker.take(&forwarded));
            }
            for forwarded in worker.take_forwarded() {
                // A worker whose queue is full would have to be waited for, and it perhaps for this
                // one. What is given up is counted.
                let to = forwarded.worker();
                if workers[to].try_send(Work::Forwarded(forwarded)).is_err() {
                    worker.lose(Loss::FragmentsNotForwarded, 1);
                }
            }
            let before = std::mem::replace(&mut now, Now::read());
            let step = now.offset().saturating_sub(before.offset());
            let until_second = SECOND - now.wall.rem_euclid(SECOND);
            if now.wall.div_euclid(SECOND) != before.wall.div_euclid(SECOND) {
                status.turn(now);
            }
            if let Some(counting) = &mut counting {
                counting.take_in(&mut worker, now.wall, step.abs() > STEP);
            }
            if step.abs() > STEP {
                // All drains see it, and one says so.
                if counting.is_some() {
                    let by = step / 1_000_000;
                    tracing::warn!("the clock was set by {by} ms: a new bucket starts");
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
            // Not past the end of the second, to which the counters belong that are read then.
            let sleep_now = sleep.min(Duration::from_nanos(until_second as u64));
            let mut next = work.recv_timeout(sleep_now);
            loop {
                match next {
                    Ok(Work::Snapshot(at, reply)) => {
                        let mut bucket = worker.snapshot(at);
                        if let Some(counting) = &counting {
                            counting.complete(&mut bucket);
                        }
                        // Whoever asked may have given up.
                        let _ = reply.send((worker.number(), bucket));
                    }
                    Ok(Work::Forwarded(datagram)) => datagrams.push(datagram),
                    Ok(Work::Lost(loss, count)) => worker.lose(loss, count),
                    // Whoever asked may have given up.
                    Ok(Work::Answer(reply)) => drop(reply.send(())),
                    Ok(Work::Reload) => worker.reload(),
                    // Packets come from the ring, and time from the clock.
                    Ok(Work::Step(..) | Work::Batch(..) | Work::Unread(_)) => {}
                    Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => break,
                }
                next = work.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
        }
    }
}

/// Takes in the records of a ring, a batch at most. Returns how many.
fn drain(ring: &mut Ring, worker: &mut Worker, now: Now, status: &DrainStatus) -> usize {
    let offset = now.offset();
    let (mut records, mut age) = (0, 0);
    while records < BATCH {
        let Some(record) = ring.next() else { break };
        // A record that is too short is none of the programs'.
        let Some((header, bytes)) = SampleHeader::read(&record) else { continue };
        if records == 0 {
            age = now.steady.saturating_sub(header.time as i64);
        }
        worker.sample(&header, bytes, (header.time as i64).saturating_add(offset));
        records += 1;
    }
    status.note(records, age, now);
    records
}

/// The kernel's counters, taken in once a second and before a bucket closes.
struct Counting {
    map: Arc<CounterMap>,
    clock: Arc<Clock>,
    taken: Counters,
    /// When they were last read.
    read: i64,
}

impl Counting {
    fn new(map: Arc<CounterMap>, clock: Arc<Clock>, now: i64) -> Self {
        clock.set(now);
        Self { map, clock, taken: Counters::default(), read: now }
    }

    /// Adds to a copy of the bucket what was counted since the last second's end.
    fn complete(&self, bucket: &mut Bucket) {
        if let Ok(counters) = self.map.read() {
            bucket.add_counted(&counters.since(&self.taken), None);
        }
    }

    /// Takes the counters in when a second has ended, or at once.
    fn take_in(&mut self, worker: &mut Worker, now: i64, at_once: bool) {
        self.clock.set(now);
        let second = now.div_euclid(SECOND);
        if second == self.read.div_euclid(SECOND) && !at_once {
            return;
        }
        match self.map.read() {
            Ok(counters) => {
                // It belongs to the second that it ends.
                let ended = second.saturating_mul(SECOND) - 1;
                let span = now.saturating_sub(self.read);
                let time = (0..=LONG_SECOND).contains(&span).then_some(ended);
                worker.add_counted(&counters.since(&self.taken), time);
                self.taken = counters;
                self.read = now;
            }
            Err(error) => tracing::error!("the kernel's counters cannot be read: {error}"),
        }
    }
}
