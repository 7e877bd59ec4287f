//! One of several workers that share the blocks of an input: it reads every nth block and owns part of
//! the flows.
//!
//! Counting does not depend on the order of packets, but flows do. So a worker counts all packets of its
//! pieces and sends each worker a [`Batch`] of the records for that worker's flows. Pieces are numbered,
//! and workers process batches by number. So everything that depends on order happens in the order of the
//! input, for any number of workers. A worker has two buckets, because its flows can lag behind the
//! packets that it reads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use crate::aggregate::batch::{Batch, Batches, Room};
use crate::aggregate::bucket::Bucket;
use crate::aggregate::flows::{Flows, Share};
use crate::aggregate::minute_clock::{Minute, MinuteClock};
use crate::aggregate::scanner::{Piece, Scanner};
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::{Step, Ticket, Work};
use crate::store::Intake;
use crate::store::parts::Part;
use crate::time::Timestamp;

/// Returns the number of parts that `workers` workers hand in for each minute.
pub(crate) fn parts(workers: usize) -> usize {
    workers * 2
}

/// Counts the packets that a worker reads.
struct Reading(Scanner);

impl Minute for Reading {
    fn begin(&mut self, start: Timestamp) {
        self.0.bucket.begin(start);
    }

    fn close(&mut self, end: Timestamp, next_start: Timestamp) -> Part {
        self.0.bucket.close(end, next_start, &mut self.0.geo)
    }
}

/// Counts the flows that a worker owns.
struct Owning {
    scanner: Scanner,
    flows: Flows,
}

impl Minute for Owning {
    fn begin(&mut self, start: Timestamp) {
        self.scanner.bucket.begin(start);
    }

    fn close(&mut self, end: Timestamp, next_start: Timestamp) -> Part {
        self.flows.close(&mut self.scanner, end, next_start)
    }
}

/// One side of a worker, with its own live minute and its own part of each minute.
struct Side<M> {
    live: M,
    minutes: MinuteClock,
    store: Intake,
    part: usize,
}

impl<M: Minute> Side<M> {
    fn advance(&mut self, time: Timestamp) {
        let closed = self.minutes.advance(time, self.store.retention(), &mut self.live);
        if !closed.is_empty() {
            self.store.hand_in(self.part, closed);
        }
    }

    fn restart(&mut self, before: Timestamp, time: Timestamp) {
        let closed = self.minutes.restart(before, time, &mut self.live);
        self.store.hand_in(self.part, vec![closed]);
    }

    /// Tells the store that this side hands in no more parts.
    fn leave(&self) {
        self.store.leave(self.part);
    }
}

/// Work for the flows, to be done when its number is next.
enum Due {
    Batch(Batch, #[expect(dead_code, reason = "held until the batch is taken in")] Ticket),
    Step(Step, #[expect(dead_code, reason = "held until the step is taken")] Ticket),
}

/// A request for the live buckets that waits until the flows have reached `until`.
struct Question {
    until: u64,
    now: Timestamp,
    reply: Sender<(usize, Bucket)>,
}

/// One of several workers.
pub(crate) struct Divided {
    share: Share,
    reading: Side<Reading>,
    owning: Side<Owning>,
    /// Work for the flows by number, from `next` on.
    due: BTreeMap<u64, Due>,
    /// Number of the flows' next work.
    next: u64,
    /// One more than the highest number received.
    heard: u64,
    questions: Vec<Question>,
    /// Number of the piece that is being read.
    now_reading: Option<u64>,
    /// Capacity that the previous batches used, by worker.
    rooms: Vec<Room>,
}

impl Divided {
    /// Creates a worker.
    pub(crate) fn new(settings: &Arc<Settings>, store: &Intake, share: Share) -> Self {
        let scanner = || Scanner::new(Arc::clone(settings));
        let flows = Flows::new(share, settings.timeout);
        let minutes = MinuteClock::default();
        let (first, second) = (share.worker, share.of + share.worker);
        Self {
            share,
            reading: Side { live: Reading(scanner()), minutes, store: store.clone(), part: first },
            owning: Side {
                live: Owning { scanner: scanner(), flows },
                minutes,
                store: store.clone(),
                part: second,
            },
            due: BTreeMap::new(),
            next: 0,
            heard: 0,
            questions: Vec::new(),
            now_reading: None,
            rooms: vec![Room::default(); share.of],
        }
    }

    /// Runs until told to stop. If it panics, it keeps the other workers going.
    pub(crate) fn run(mut self, inbox: &Receiver<Work>, workers: &[SyncSender<Work>]) {
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(inbox, workers)));
        if worked.is_err() {
            tracing::error!("a worker stopped; its packets are no longer counted");
            let (share, reading) = (self.share, self.now_reading);
            self.reading.leave();
            self.owning.leave();
            // Other workers and requesters wait for what it holds: tickets and reply channels.
            drop(self);
            stand_in(share, reading, inbox, workers);
        }
    }

    fn work(&mut self, inbox: &Receiver<Work>, workers: &[SyncSender<Work>]) {
        for work in inbox {
            match work {
                Work::Step(number, step, ticket) => self.step(number, step, ticket, workers),
                Work::Batch(number, batch, ticket) => {
                    self.expect(number, Due::Batch(batch, ticket));
                }
                Work::Snapshot(now, reply) => {
                    self.questions.push(Question { until: self.heard, now, reply });
                }
                Work::Lost(loss, count) => {
                    self.reading.live.0.bucket.account.lose(loss, count);
                }
                Work::Unread(packets) => self.reading.live.0.bucket.count_unread(packets),
                // The requester may have given up.
                Work::Answer(reply) => drop(reply.send(())),
                Work::Reload => {
                    self.reading.live.0.reload(self.reading.minutes.end());
                    self.owning.live.scanner.reload(self.owning.minutes.end());
                }
                // Every worker sees all fragments, so none are forwarded.
                Work::Forwarded(_) => {}
                Work::Stop => break,
            }
            self.go_on();
        }
    }

    /// Processes a step of the input.
    fn step(&mut self, number: u64, step: Step, ticket: Ticket, workers: &[SyncSender<Work>]) {
        match &step {
            Step::Read(piece) => {
                self.read(number, piece, &ticket, workers);
                return;
            }
            Step::Advance(time) => self.reading.advance(*time),
            Step::Back { before, time } => {
                self.reading.restart(*before, *time);
                self.reading.live.0.bucket.next_turn();
            }
            Step::End(_) | Step::Nothing => {}
        }
        self.expect(number, Due::Step(step, ticket));
    }

    /// Reads a piece and sends each worker the records for its flows.
    fn read(&mut self, number: u64, piece: &Piece, ticket: &Ticket, workers: &[SyncSender<Work>]) {
        self.now_reading = Some(number);
        let mut batches = Batches::of(piece, self.share, &self.rooms);
        self.reading.live.0.read(piece, &mut batches);
        self.rooms = batches.rooms();
        self.now_reading = None;
        for (worker, batch) in batches.into_batches().into_iter().enumerate() {
            let ticket = ticket.clone();
            if worker == self.share.worker {
                self.expect(number, Due::Batch(batch, ticket));
            } else {
                // An error means that the worker has ended. The input then ends too.
                drop(workers[worker].send(Work::Batch(number, batch, ticket)));
            }
        }
    }

    fn expect(&mut self, number: u64, due: Due) {
        self.due.insert(number, due);
        self.heard = self.heard.max(number + 1);
    }

    /// Does the work for the flows that is next, then answers the requests that waited for it.
    fn go_on(&mut self) {
        while let Some(due) = self.due.remove(&self.next) {
            let Owning { scanner, flows } = &mut self.owning.live;
            match &due {
                Due::Batch(batch, _) => batch.take_in(scanner, flows),
                Due::Step(Step::Advance(time), _) => self.owning.advance(*time),
                Due::Step(Step::Back { before, time }, _) => {
                    self.owning.restart(*before, *time);
                    self.owning.live.scanner.bucket.next_turn();
                }
                Due::Step(Step::End(latest), _) => flows.end_input(scanner, *latest),
                Due::Step(Step::Read(_) | Step::Nothing, _) => {}
            }
            self.next += 1;
        }
        let next = self.next;
        for Question { now, reply, .. } in self.questions.extract_if(.., |one| one.until <= next) {
            let Owning { scanner, flows } = &mut self.owning.live;
            let read = self.reading.live.0.bucket.clone();
            // The requester may have given up.
            let _ = reply.send((self.reading.part, read));
            let _ = reply.send((self.owning.part, flows.snapshot(&mut scanner.bucket, now)));
        }
    }
}

/// Stands in for a worker that panicked: sends empty batches, so that the other workers do not wait.
fn stand_in(
    share: Share,
    reading: Option<u64>,
    inbox: &Receiver<Work>,
    workers: &[SyncSender<Work>],
) {
    let hand_out = |number: u64, ticket: Option<&Ticket>| {
        let others = workers.iter().enumerate().filter(|(worker, _)| *worker != share.worker);
        for (_, worker) in others {
            let ticket = ticket.cloned().unwrap_or_default();
            drop(worker.send(Work::Batch(number, Batch::default(), ticket)));
        }
    };
    if let Some(number) = reading {
        hand_out(number, None);
    }
    for work in inbox {
        match work {
            Work::Step(number, Step::Read(_), ticket) => hand_out(number, Some(&ticket)),
            Work::Stop => break,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;
    use crate::aggregate::pipeline::tests::settings;
    use crate::store::Store;
    use crate::store::minutes::Retention;

    #[test]
    fn panic_drops_pending_snapshot_and_batches_continue() {
        let store = Store::start(parts(2), Retention { periods: 5, single: false }).unwrap();
        let worker = Divided::new(&settings().into(), &store.intake(), Share { worker: 0, of: 2 });
        let (work, inbox) = sync_channel(8);
        let (other, of_other) = sync_channel(8);
        let workers = vec![work.clone(), other];
        let thread = std::thread::spawn(move || worker.run(&inbox, &workers));
        // Work 0 is still missing, so the request waits.
        work.send(Work::Step(1, Step::Nothing, Ticket::default())).unwrap();
        let (reply, answer) = channel();
        work.send(Work::Snapshot(Timestamp::EPOCH, reply)).unwrap();
        work.send(Work::Batch(0, Batch::broken(), Ticket::default())).unwrap();
        assert!(answer.recv().is_err(), "the question is dropped");
        // The worker still sends the batches that others wait for.
        let piece = Piece {
            block: Arc::default(),
            packets: 0..0,
            before: 0,
            since: Timestamp::EPOCH,
            latest: Timestamp::EPOCH,
            is_outlier: false,
        };
        work.send(Work::Step(2, Step::Read(piece), Ticket::default())).unwrap();
        assert!(matches!(of_other.recv(), Ok(Work::Batch(2, ..))));
        work.send(Work::Stop).unwrap();
        thread.join().unwrap();
    }
}
