//! Workers on threads of their own.
//!
//! The input goes to them in numbered steps. Only so many are under way at a time, so that a slow worker
//! holds the reader up instead of filling memory.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pktvisor_common::loss::Loss;

use crate::aggregate::batch::Batch;
use crate::aggregate::bucket::Bucket;
use crate::aggregate::divided::Divided;
use crate::aggregate::flows::{Forwarded, Share};
use crate::aggregate::scanner::Piece;
use crate::aggregate::settings::Settings;
use crate::aggregate::worker::Worker;
use crate::store::Intake;

/// Steps under way for each worker.
const STEPS: usize = 4;
/// What waits for a worker of a ring.
const QUEUE: usize = 4;
/// What waits for a worker of an input that is divided: more than all steps under way, so that no worker
/// ever waits for another one.
const DIVIDED_QUEUE: usize = 256;
/// How long workers that live take to answer, at most.
const LIFE: Duration = Duration::from_secs(5);

/// A step of the input.
#[derive(Clone, Debug)]
pub enum Step {
    /// Packets are to be read.
    Read(Piece),
    /// Packet time has passed up to here, into another minute.
    Advance(i64),
    /// Packet time has gone back, in a single summary.
    Back {
        /// The latest time before.
        before: i64,
        /// The time now.
        time: i64,
    },
    /// The input has ended; with the time of its last packet, if there was one.
    End(Option<i64>),
    /// Nothing has happened, and all workers hear of it.
    Nothing,
}

/// What a worker is told.
pub enum Work {
    /// A step of the input, by its number. All workers get it, or one if packets are to be read.
    Step(u64, Step, Ticket),
    /// What the piece of this number has for the flows of the worker, from the one that has read it.
    Batch(u64, Batch, Ticket),
    /// Hand over a copy of each live bucket as of this time.
    Snapshot(i64, Sender<(usize, Bucket)>),
    /// So much was lost before it got here, for this reason.
    Lost(Loss, u64),
    /// So many packets were of a link type that is not read.
    Unread(u64),
    /// What another worker has that belongs to this one.
    Forwarded(Forwarded),
    /// Answer, to show that it lives.
    Answer(Sender<()>),
    /// The settings have changed.
    Reload,
    /// Nothing follows.
    Stop,
}

/// Lets only so many steps be under way.
#[derive(Debug)]
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    fn enter(self: &Arc<Self>) -> Ticket {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Ticket(Some(Arc::new(Passed(Arc::clone(self)))))
    }
}

/// Stands for a step that is under way, until all who hold it have let go.
#[derive(Clone, Debug, Default)]
pub struct Ticket(#[expect(dead_code, reason = "held until it is dropped")] Option<Arc<Passed>>);

#[derive(Debug)]
struct Passed(Arc<Gate>);

impl Drop for Passed {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// The threads, as the reader sees them.
pub struct Workers {
    senders: Vec<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
    /// The number of the next step.
    next: u64,
    /// The worker that reads the next block.
    turn: usize,
    failed: bool,
}

/// Reaches the worker threads from outside: reads their live buckets, changes their settings.
#[derive(Clone, Default)]
pub struct WorkerControl(Vec<SyncSender<Work>>);

impl WorkerControl {
    /// Copies of the live buckets of all workers as of `now`, in the order of their parts, so that what
    /// is merged of them is the same each time; a worker that is gone has none.
    pub fn take(&self, now: i64) -> Vec<Bucket> {
        let (reply, replies) = channel();
        for sender in &self.0 {
            // An error means that the worker is gone.
            let _ = sender.send(Work::Snapshot(now, reply.clone()));
        }
        drop(reply);
        let mut buckets: Vec<(usize, Bucket)> = replies.iter().collect();
        buckets.sort_unstable_by_key(|&(part, _)| part);
        buckets.into_iter().map(|(_, bucket)| bucket).collect()
    }

    /// Whether all workers answer, in time.
    pub fn answer(&self) -> bool {
        self.answer_within(LIFE)
    }

    fn answer_within(&self, time: Duration) -> bool {
        let (reply, replies) = channel();
        let asked = self.0.iter().all(|sender| sender.send(Work::Answer(reply.clone())).is_ok());
        drop(reply);
        let end = Instant::now() + time;
        let left = || end.saturating_duration_since(Instant::now());
        asked && self.0.iter().all(|_| replies.recv_timeout(left()).is_ok())
    }

    /// Tells all workers that the settings have changed.
    pub fn reload(&self) {
        for sender in &self.0 {
            // An error means that the worker is gone.
            let _ = sender.send(Work::Reload);
        }
    }
}

/// The way of losses to the first worker, for those who see something get lost.
#[derive(Clone)]
pub struct Losses(SyncSender<Work>);

impl Losses {
    /// Counts what was lost before it got to a worker.
    pub fn lose(&self, loss: Loss, count: u64) {
        if count > 0 {
            // If the worker is gone, that is reported when packets are sent.
            let _ = self.0.send(Work::Lost(loss, count));
        }
    }
}

impl Workers {
    /// Starts a thread for each of `workers`, 1 to [`crate::aggregate::flows::PARTITIONS`], who share the
    /// blocks of an input.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(
        settings: &Arc<Settings>,
        store: &Intake,
        workers: usize,
    ) -> std::io::Result<Self> {
        if workers == 1 {
            let worker = Worker::alone(Arc::clone(settings), store.clone());
            return Self::with(vec![worker], DIVIDED_QUEUE, |worker, inbox, _| run(worker, &inbox));
        }
        let divided = |worker| Divided::new(settings, store, Share { worker, of: workers });
        let divided: Vec<Divided> = (0..workers).map(divided).collect();
        Self::with(divided, DIVIDED_QUEUE, |worker, inbox, workers| worker.run(&inbox, &workers))
    }

    /// Starts a thread for each of `workers`, which `body` runs on: with what it is told, and with the
    /// ways to all workers.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start_with<T: Send + 'static>(
        workers: Vec<T>,
        body: impl Fn(T, Receiver<Work>, Vec<SyncSender<Work>>) + Copy + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::with(workers, QUEUE, body)
    }

    fn with<T: Send + 'static>(
        workers: Vec<T>,
        queue: usize,
        body: impl Fn(T, Receiver<Work>, Vec<SyncSender<Work>>) + Copy + Send + 'static,
    ) -> std::io::Result<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            workers.iter().map(|_| sync_channel(queue)).unzip();
        let free = Mutex::new(STEPS * workers.len());
        let gate = Arc::new(Gate { free, freed: Condvar::new() });
        let threads = Vec::new();
        let mut started = Self { senders, threads, gate, next: 0, turn: 0, failed: false };
        for (at, (worker, receiver)) in workers.into_iter().zip(receivers).enumerate() {
            let senders = started.senders.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{at}"))
                .spawn(move || body(worker, receiver, senders))?;
            started.threads.push(thread);
        }
        Ok(started)
    }

    /// For readers of the live bucket.
    pub fn control(&self) -> WorkerControl {
        WorkerControl(self.senders.clone())
    }

    /// Has a piece read, by the worker whose turn it is.
    pub fn read(&mut self, piece: Piece) {
        let (number, ticket) = self.enter();
        let sent = self.senders[self.turn].send(Work::Step(number, Step::Read(piece), ticket));
        self.note_gone(usize::from(sent.is_err()));
    }

    /// Another worker has its turn.
    pub fn next_turn(&mut self) {
        self.turn = (self.turn + 1) % self.senders.len();
    }

    /// Tells all workers of a step.
    pub fn step(&mut self, step: &Step) {
        let (number, ticket) = self.enter();
        let work = || Work::Step(number, step.clone(), ticket.clone());
        let gone = self.senders.iter().filter(|sender| sender.send(work()).is_err()).count();
        self.note_gone(gone);
    }

    fn enter(&mut self) -> (u64, Ticket) {
        let number = self.next;
        self.next += 1;
        (number, self.gate.enter())
    }

    /// Counts packets of a link type that is not read, in the first worker.
    pub fn count_unread(&mut self, packets: u64) {
        // If the worker is gone, that is reported when packets are sent.
        let _ = self.senders[0].send(Work::Unread(packets));
    }

    /// For those who see something get lost before it gets here.
    pub fn losses(&self) -> Losses {
        Losses(self.senders[0].clone())
    }

    fn note_gone(&mut self, gone: usize) {
        if gone > 0 && !self.failed {
            self.failed = true;
            tracing::error!(gone, "workers have stopped: their packets are no longer counted");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Those who read the live bucket hold senders too, so the channels stay open. A worker that is
        // gone needs no stop, and if it panicked, that was reported where it happened.
        for sender in &self.senders {
            let _ = sender.send(Work::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Works alone.
fn run(mut worker: Worker, inbox: &Receiver<Work>) {
    for work in inbox {
        match work {
            Work::Step(_, step, _) => worker.step(&step),
            Work::Snapshot(now, reply) => {
                // Whoever asked may have given up.
                let _ = reply.send((worker.number(), worker.snapshot(now)));
            }
            Work::Lost(loss, count) => worker.lose(loss, count),
            Work::Unread(packets) => worker.count_unread(packets),
            // Whoever asked may have given up.
            Work::Answer(reply) => drop(reply.send(())),
            Work::Reload => worker.reload(),
            // There is nobody else.
            Work::Batch(..) | Work::Forwarded(_) => {}
            Work::Stop => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers of which only the first answers: the second keeps the question, the third is gone.
    #[test]
    fn a_worker_that_hangs_or_is_gone_does_not_answer() {
        let workers = Workers::start_with(vec![0, 1, 2], |worker, receiver, _| {
            let mut kept = Vec::new();
            for work in Some(receiver).filter(|_| worker < 2).iter().flatten() {
                match work {
                    Work::Answer(reply) if worker == 0 => drop(reply.send(())),
                    Work::Stop => break,
                    work => kept.push(work),
                }
            }
        });
        let workers = workers.unwrap();
        let only = |worker: usize| WorkerControl(vec![workers.senders[worker].clone()]);
        let soon = Duration::from_millis(100);
        assert!(only(0).answer());
        assert!(!only(1).answer_within(soon));
        assert!(!only(2).answer());
        assert!(!workers.control().answer_within(soon));
    }
}
