//! Workers on threads of their own.
//!
//! The input reaches them in numbered steps. The number of steps in flight is bounded, so that a slow
//! worker blocks the reader instead of filling memory.

use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
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
use crate::time::Timestamp;

/// Steps in flight for each worker.
const STEPS: usize = 4;
/// Queue length of a worker that reads a ring buffer.
const QUEUE: usize = 4;
/// Queue length of a worker that shares the blocks of an input. It exceeds the number of steps in flight,
/// so that no worker ever waits for another one.
const DIVIDED_QUEUE: usize = 256;
/// Time limit for all workers to answer a liveness check.
const LIFE: Duration = Duration::from_secs(5);
/// Wait before asking a worker with a full queue again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A step of the input.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read these packets.
    Read(Piece),
    /// Advance packet time to this time, in another minute.
    Advance(Timestamp),
    /// Packet time went back. Only a single summary has this step.
    Back {
        /// Latest packet time before.
        before: Timestamp,
        /// New packet time.
        time: Timestamp,
    },
    /// The input ended, with the time of its last packet if there was one.
    End(Option<Timestamp>),
    /// A marker that every worker receives and that changes nothing.
    Nothing,
}

/// A message to a worker.
pub enum Work {
    /// A numbered step of the input. All workers get it, except [`Step::Read`], which one worker gets.
    Step(u64, Step, Ticket),
    /// Records of the piece with this number for the worker's flows, from the worker that read the piece.
    Batch(u64, Batch, Ticket),
    /// Reply with a copy of each live bucket as of this time.
    Snapshot(Timestamp, Sender<(usize, Bucket)>),
    /// Count this many losses, for this reason, that happened before the worker.
    Lost(Loss, u64),
    /// Count this many packets of an unsupported link type.
    Unread(u64),
    /// An item from another worker for a flow of this one.
    Forwarded(Forwarded),
    /// Reply, to prove that the worker is alive.
    Answer(Sender<()>),
    /// Apply the changed settings.
    Reload,
    /// Stop: no message follows.
    Stop,
}

/// Bounds the number of steps in flight.
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

/// Stands for a step in flight, until every holder has dropped its clone.
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

/// The worker threads, as the reader sees them.
pub(crate) struct Workers {
    senders: Vec<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
    /// Number of the next step.
    next: u64,
    /// Worker that reads the next block.
    turn: usize,
    failed: bool,
}

/// A handle to the worker threads: copies their live buckets and reloads their settings.
#[derive(Clone, Default)]
pub struct WorkerControl(Vec<SyncSender<Work>>);

impl WorkerControl {
    /// Returns copies of the live buckets of all workers as of `now`. They are sorted by part, so that the
    /// result of merging them is reproducible. A worker that is gone contributes none.
    pub fn take(&self, now: Timestamp) -> Vec<Bucket> {
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

    /// Returns true if every worker answers within 5 seconds.
    pub fn answer(&self) -> bool {
        self.answer_within(LIFE)
    }

    fn answer_within(&self, time: Duration) -> bool {
        let (reply, replies) = channel();
        let end = Instant::now() + time;
        let asked = self.0.iter().all(|sender| ask(sender, &reply, end));
        drop(reply);
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

/// Asks a worker to reply. Returns false if it is gone, or if its queue is still full at `end`: a hung
/// worker must not block a thread for each check.
fn ask(worker: &SyncSender<Work>, reply: &Sender<()>, end: Instant) -> bool {
    loop {
        match worker.try_send(Work::Answer(reply.clone())) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) if Instant::now() < end => std::thread::sleep(ASK_AGAIN),
            Err(_) => return false,
        }
    }
}

/// Sends losses to the first worker, for components that detect losses.
#[derive(Clone)]
pub(crate) struct Losses(SyncSender<Work>);

impl Losses {
    /// Counts losses that happened before a worker.
    pub(crate) fn lose(&self, loss: Loss, count: u64) {
        if count > 0 {
            // A worker that is gone is reported when packets are sent to it.
            let _ = self.0.send(Work::Lost(loss, count));
        }
    }
}

impl Workers {
    /// Starts `workers` threads, 1 to [`crate::aggregate::flows::PARTITIONS`], that share the blocks of an
    /// input.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub(crate) fn start(
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

    /// Starts a thread for each of `workers` and runs `body` on it, with the worker's inbox and the senders
    /// to all workers.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub(crate) fn start_with<T: Send + 'static>(
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

    /// Returns a handle for readers of the live buckets.
    pub(crate) fn control(&self) -> WorkerControl {
        WorkerControl(self.senders.clone())
    }

    /// Sends a piece to the worker whose turn it is.
    pub(crate) fn read(&mut self, piece: Piece) {
        let (number, ticket) = self.enter();
        let sent = self.senders[self.turn].send(Work::Step(number, Step::Read(piece), ticket));
        self.note_gone(usize::from(sent.is_err()));
    }

    /// Passes the turn to the next worker.
    pub(crate) fn next_turn(&mut self) {
        self.turn = (self.turn + 1) % self.senders.len();
    }

    /// Sends a step to all workers.
    pub(crate) fn step(&mut self, step: &Step) {
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

    /// Counts packets of an unsupported link type, in the first worker.
    pub(crate) fn count_unread(&mut self, packets: u64) {
        // A worker that is gone is reported when packets are sent to it.
        let _ = self.senders[0].send(Work::Unread(packets));
    }

    /// Returns a handle for components that detect losses before the workers.
    pub(crate) fn losses(&self) -> Losses {
        Losses(self.senders[0].clone())
    }

    fn note_gone(&mut self, gone: usize) {
        if gone > 0 && !self.failed {
            self.failed = true;
            tracing::error!(gone, "workers stopped; their packets are no longer counted");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Readers of the live buckets hold senders too, so the channels stay open. A worker that is gone
        // needs no stop message. If it panicked, that was reported where it happened.
        for sender in &self.senders {
            let _ = sender.send(Work::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Runs the only worker until it is told to stop.
fn run(mut worker: Worker, inbox: &Receiver<Work>) {
    for work in inbox {
        match work {
            Work::Step(_, step, _) => worker.step(&step),
            Work::Snapshot(now, reply) => {
                // The requester may have given up.
                let _ = reply.send((worker.number(), worker.snapshot(now)));
            }
            Work::Lost(loss, count) => worker.lose(loss, count),
            Work::Unread(packets) => worker.count_unread(packets),
            // The requester may have given up.
            Work::Answer(reply) => drop(reply.send(())),
            Work::Reload => worker.reload(),
            // There are no other workers.
            Work::Batch(..) | Work::Forwarded(_) => {}
            Work::Stop => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the first worker answers: the second keeps the request, the third is gone.
    #[test]
    fn hung_or_stopped_worker_fails_liveness_check() {
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

    /// Otherwise each liveness check of a hung worker would block a thread for ever.
    #[test]
    fn asking_a_worker_with_a_full_queue_ends() {
        let (worker, queue) = sync_channel(1);
        worker.send(Work::Reload).unwrap();
        let (reply, _replies) = channel();
        assert!(!ask(&worker, &reply, Instant::now() + Duration::from_millis(20)));
        drop(queue);
        assert!(!ask(&worker, &reply, Instant::now() + LIFE));
    }
}
