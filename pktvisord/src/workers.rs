//! Shards on threads of their own.
//!
//! Packets travel in batches: the block they lie in, shared, and where. Channels are bounded, so
//! that a slow shard holds the reader up instead of filling memory.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crate::capture::Block;
use crate::shard::Shard;
use crate::summary::bucket::{Bucket, Packet};
use crate::window::Window;

/// Batches that wait for a shard.
const QUEUE: usize = 4;

/// A packet of a batch and where its octets lie in the block.
#[derive(Clone, Copy, Debug)]
struct Item {
    packet: Packet,
    offset: u32,
    captured: u32,
}

/// What a shard is told.
enum Work {
    /// The first bucket starts at this time.
    Begin(i64),
    Batch(Arc<Block>, Vec<Item>),
    Datagram(Box<Packet>, Box<[u8]>),
    /// Close the bucket at its end, go on with the one from the second time.
    Close(i64, i64),
    /// The input has ended.
    End(i64),
    /// Something was lost before it reached a shard.
    Lost(&'static str, u64),
    /// Nothing follows.
    Stop,
    /// Hand over a copy of the live bucket as of this time.
    Snapshot(i64, Sender<Bucket>),
}

/// The threads, as the reader sees them.
pub struct Workers {
    senders: Vec<SyncSender<Work>>,
    batches: Vec<Vec<Item>>,
    recycled: Receiver<Vec<Item>>,
    threads: Vec<JoinHandle<()>>,
    failed: Arc<OnceLock<()>>,
}

/// The threads, as those see them who read the live bucket.
#[derive(Clone, Default)]
pub struct Snapshots(Vec<SyncSender<Work>>);

impl Snapshots {
    /// Copies of the live buckets of all shards as of `now`; a shard that is gone has none.
    pub fn take(&self, now: i64) -> Vec<Bucket> {
        let (reply, replies) = channel();
        for sender in &self.0 {
            // An error means that the shard is gone.
            let _ = sender.send(Work::Snapshot(now, reply.clone()));
        }
        drop(reply);
        replies.iter().collect()
    }
}

impl Workers {
    /// Starts a thread for each shard; closed minutes go to `window`.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(shards: Vec<Shard>, window: &Arc<Window>) -> std::io::Result<Self> {
        let (recycle, recycled) = channel();
        let failed = Arc::new(OnceLock::new());
        let mut workers = Self {
            senders: Vec::new(),
            batches: vec![Vec::new(); shards.len()],
            recycled,
            threads: Vec::new(),
            failed,
        };
        for (at, shard) in shards.into_iter().enumerate() {
            let (sender, receiver) = sync_channel(QUEUE);
            let (window, recycle) = (Arc::clone(window), recycle.clone());
            let thread = std::thread::Builder::new()
                .name(format!("shard-{at}"))
                .spawn(move || run(shard, &receiver, &window, &recycle))?;
            workers.senders.push(sender);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// For readers of the live bucket.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots(self.senders.clone())
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Queues a packet for a shard.
    #[inline]
    pub fn push(&mut self, shard: usize, packet: Packet, offset: u32, captured: u32) {
        self.batches[shard].push(Item { packet, offset, captured });
    }

    /// Sends the packets queued, which lie in `block`.
    pub fn flush(&mut self, block: &Arc<Block>) {
        for at in 0..self.senders.len() {
            if !self.batches[at].is_empty() {
                let mut next = self.recycled.try_recv().unwrap_or_default();
                next.clear();
                let batch = std::mem::replace(&mut self.batches[at], next);
                self.send(at, Work::Batch(Arc::clone(block), batch));
            }
        }
    }

    /// Sends a reassembled datagram.
    pub fn datagram(&mut self, shard: usize, packet: Packet, octets: &[u8]) {
        self.send(shard, Work::Datagram(Box::new(packet), octets.into()));
    }

    /// Starts the first buckets at `start`.
    pub fn begin(&mut self, start: i64) {
        self.send_all(|| Work::Begin(start));
    }

    /// Closes the buckets at `end`.
    pub fn close(&mut self, end: i64, next_start: i64) {
        self.send_all(|| Work::Close(end, next_start));
    }

    /// Tells that the input has ended.
    pub fn end_input(&mut self, end: i64) {
        self.send_all(|| Work::End(end));
    }

    /// Counts what was lost before it reached a shard.
    pub fn lose(&mut self, reason: &'static str, count: u64) {
        self.send(0, Work::Lost(reason, count));
    }

    fn send_all(&mut self, work: impl Fn() -> Work) {
        for at in 0..self.senders.len() {
            self.send(at, work());
        }
    }

    fn send(&mut self, shard: usize, work: Work) {
        if self.senders[shard].send(work).is_err() && self.failed.set(()).is_ok() {
            tracing::error!(shard, "a shard has stopped: its packets are no longer counted");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Those who read the live bucket hold senders too, so the channels stay open.
        self.send_all(|| Work::Stop);
        for thread in self.threads.drain(..) {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

fn run(mut shard: Shard, work: &Receiver<Work>, window: &Window, recycle: &Sender<Vec<Item>>) {
    for work in work {
        match work {
            Work::Begin(start) => shard.begin(start),
            Work::Batch(block, items) => {
                for item in &items {
                    let start = item.offset as usize;
                    shard.ingest(&item.packet, &block.data[start..start + item.captured as usize]);
                }
                // The reader may have ended.
                let _ = recycle.send(items);
            }
            Work::Datagram(packet, octets) => shard.datagram(&packet, &octets),
            Work::Close(end, next_start) => window.hand_in(shard.close(end, next_start)),
            Work::End(end) => shard.end_input(end),
            Work::Lost(reason, count) => shard.lose(reason, count),
            Work::Stop => break,
            Work::Snapshot(now, reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(shard.snapshot(now));
            }
        }
    }
}
