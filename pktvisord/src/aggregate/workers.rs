//! Lanes on threads of their own.
//!
//! All get the same blocks, shared and not copied. Channels are bounded, so that a slow lane holds
//! the reader up instead of filling memory.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pktvisor_common::loss::Loss;

use crate::aggregate::bucket::Bucket;
use crate::aggregate::lane::{Forwarded, Lane};
use crate::decode::block::Block;

/// Blocks that wait for a lane.
const QUEUE: usize = 4;
/// How long lanes that live take to answer, at most.
const LIFE: Duration = Duration::from_secs(5);

/// What a lane is told.
pub enum Work {
    /// Some packets of a block.
    Packets(Arc<Block>, Range<usize>),
    /// Packet time has passed up to here.
    Advance(i64),
    /// The input has ended.
    End,
    /// Hand over a copy of the live bucket as of this time.
    Snapshot(i64, Sender<(usize, Bucket)>),
    /// So much was lost before it got here, for this reason.
    Lost(Loss, u64),
    /// So many packets were of a link type that is not read.
    Unread(u64),
    /// A datagram that another lane has put together.
    Datagram(Forwarded),
    /// Answer, to show that it lives.
    Answer(Sender<()>),
    /// The settings have changed.
    Reload,
    /// Nothing follows.
    Stop,
}

/// The threads, as the reader sees them.
pub struct Workers {
    senders: Vec<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
    failed: bool,
}

/// Reaches the worker threads from outside: reads their live buckets, changes their settings.
#[derive(Clone, Default)]
pub struct WorkerControl(Vec<SyncSender<Work>>);

impl WorkerControl {
    /// Copies of the live buckets of all lanes as of `now`, in the order of the lanes, so that what
    /// is merged of them is the same each time; a lane that is gone has none.
    pub fn take(&self, now: i64) -> Vec<Bucket> {
        let (reply, replies) = channel();
        for sender in &self.0 {
            // An error means that the lane is gone.
            let _ = sender.send(Work::Snapshot(now, reply.clone()));
        }
        drop(reply);
        let mut buckets: Vec<(usize, Bucket)> = replies.iter().collect();
        buckets.sort_unstable_by_key(|&(lane, _)| lane);
        buckets.into_iter().map(|(_, bucket)| bucket).collect()
    }

    /// Whether all lanes answer, in time.
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

    /// Tells all lanes that the settings have changed.
    pub fn reload(&self) {
        for sender in &self.0 {
            // An error means that the lane is gone.
            let _ = sender.send(Work::Reload);
        }
    }
}

/// The way of losses to the first lane, for those who see something get lost.
#[derive(Clone)]
pub struct Losses(SyncSender<Work>);

impl Losses {
    /// Counts what was lost before it got to a lane.
    pub fn lose(&self, loss: Loss, count: u64) {
        if count > 0 {
            // If the lane is gone, that is reported when packets are sent.
            let _ = self.0.send(Work::Lost(loss, count));
        }
    }
}

impl Workers {
    /// Starts a thread for each lane, which takes in what it is fed.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(lanes: Vec<Lane>) -> std::io::Result<Self> {
        Self::start_with(lanes, |lane, receiver, _| run(lane, &receiver))
    }

    /// Starts a thread for each of `lanes`, which `body` runs on: with what it is told, and with
    /// the ways to all lanes.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start_with<T: Send + 'static>(
        lanes: Vec<T>,
        body: impl Fn(T, Receiver<Work>, Vec<SyncSender<Work>>) + Copy + Send + 'static,
    ) -> std::io::Result<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            lanes.iter().map(|_| sync_channel(QUEUE)).unzip();
        let mut workers = Self { senders, threads: Vec::new(), failed: false };
        for (at, (lane, receiver)) in lanes.into_iter().zip(receivers).enumerate() {
            let senders = workers.senders.clone();
            let thread = std::thread::Builder::new()
                .name(format!("lane-{at}"))
                .spawn(move || body(lane, receiver, senders))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// For readers of the live bucket.
    pub fn control(&self) -> WorkerControl {
        WorkerControl(self.senders.clone())
    }

    /// Sends some packets of a block.
    pub fn feed(&mut self, block: &Arc<Block>, packets: &Range<usize>) {
        self.send(|| Work::Packets(Arc::clone(block), packets.clone()));
    }

    /// Lets packet time pass.
    pub fn advance(&mut self, time: i64) {
        self.send(|| Work::Advance(time));
    }

    /// Tells that the input has ended.
    pub fn end_input(&mut self) {
        self.send(|| Work::End);
    }

    /// Counts packets of a link type that is not read, in the first lane.
    pub fn count_unread(&mut self, packets: u64) {
        // If the lane is gone, that is reported when packets are sent.
        let _ = self.senders[0].send(Work::Unread(packets));
    }

    /// For those who see something get lost before it gets here.
    pub fn losses(&self) -> Losses {
        Losses(self.senders[0].clone())
    }

    fn send(&mut self, work: impl Fn() -> Work) {
        let gone = self.senders.iter().filter(|sender| sender.send(work()).is_err()).count();
        if gone > 0 && !self.failed {
            self.failed = true;
            tracing::error!(gone, "lanes have stopped: their packets are no longer counted");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Those who read the live bucket hold senders too, so the channels stay open. A lane that
        // is gone needs no stop, and if it panicked, that was reported where it happened.
        for sender in &self.senders {
            let _ = sender.send(Work::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(mut lane: Lane, work: &Receiver<Work>) {
    for work in work {
        match work {
            Work::Packets(block, packets) => lane.feed(&block, packets),
            Work::Advance(time) => lane.advance(time),
            Work::End => lane.end_input(),
            Work::Snapshot(now, reply) => {
                // Whoever asked may have given up.
                let _ = reply.send((lane.number(), lane.snapshot(now)));
            }
            Work::Lost(loss, count) => lane.lose(loss, count),
            Work::Unread(packets) => lane.count_unread(packets),
            Work::Datagram(forwarded) => lane.take(&forwarded),
            // Whoever asked may have given up.
            Work::Answer(reply) => drop(reply.send(())),
            Work::Reload => lane.reload(),
            Work::Stop => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes of which only the first answers: the second keeps the question, the third is gone.
    #[test]
    fn a_lane_that_hangs_or_is_gone_does_not_answer() {
        let workers = Workers::start_with(vec![0, 1, 2], |lane, receiver, _| {
            let mut kept = Vec::new();
            for work in Some(receiver).filter(|_| lane < 2).iter().flatten() {
                match work {
                    Work::Answer(reply) if lane == 0 => drop(reply.send(())),
                    Work::Stop => break,
                    work => kept.push(work),
                }
            }
        });
        let workers = workers.unwrap();
        let only = |lane: usize| WorkerControl(vec![workers.senders[lane].clone()]);
        let soon = Duration::from_millis(100);
        assert!(only(0).answer());
        assert!(!only(1).answer_within(soon));
        assert!(!only(2).answer());
        assert!(!workers.control().answer_within(soon));
    }
}
