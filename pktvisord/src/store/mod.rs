//! The store: merges the workers' parts of each minute, keeps closed minutes and hands them to subscribers.
//!
//! Workers hand in their parts over a channel. The store merges, keeps and publishes them on its own
//! thread, so that a minute with many names never delays a packet. If one worker reads a capture on the
//! caller's thread, the store runs on that thread too.
//!
//! * `history`: closed minutes on disk, and the hours and days merged from them.
//! * `range`: any range of time, from both.
//! * `parts`: minutes that some workers have closed.
//! * [`minutes`]: the minutes that are kept, and windows over them.
//! * `feed`: the feed of closed minutes.

pub(crate) mod feed;
pub mod history;
pub mod minutes;
pub(crate) mod parts;
pub(crate) mod range;
pub(crate) mod rollup;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;

use self::feed::{Closed, Feed, PolicyName, Subscription, WhenFull};
use self::minutes::{LeftOut, Minutes, Retention};
use self::parts::{Assembly, Part};

/// Messages waiting for the store's thread. Workers block when the queue is full.
const QUEUE: usize = 16;

/// A message to the store's thread.
enum Message {
    /// A worker's parts of minutes that it has closed.
    Closed(usize, Vec<Part>),
    /// A worker hands in no more parts.
    Left(usize),
    /// Reply once all earlier messages are processed.
    Settle(Sender<()>),
    /// Stop: no message follows.
    Stop,
}

/// The state shared by the store's thread and its readers.
#[derive(Debug)]
struct Shared {
    /// Locked only while parts are added.
    assembly: Mutex<Assembly>,
    /// Locked while a minute is added or looked up, but not while minutes are merged.
    minutes: Mutex<Minutes>,
    feed: Feed,
}

impl Shared {
    fn minutes(&self) -> MutexGuard<'_, Minutes> {
        // Each change leaves the minutes consistent, so a panic elsewhere does no harm.
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, worker: usize, parts: Vec<Part>) {
        let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts {
            assembly.take(worker, part, &mut |whole, cumulative| self.close(whole, cumulative));
        }
    }

    fn leave(&self, worker: usize) {
        let mut assembly = self.assembly.lock().unwrap_or_else(PoisonError::into_inner);
        assembly.leave(worker, &mut |whole, cumulative| self.close(whole, cumulative));
    }

    /// Keeps a complete minute and publishes it.
    fn close(&self, whole: Summary, cumulative: &BTreeMap<usize, Cumulative>) {
        let summary = Arc::new(whole);
        self.minutes().push(Arc::clone(&summary));
        self.feed.publish(|| {
            let mut all = Cumulative::default();
            cumulative.values().for_each(|one| all.merge(one));
            let (policy, cumulative) = (PolicyName::DEFAULT, Arc::new(all));
            Closed { policy, summary, cumulative }
        });
    }
}

/// The workers' handle for handing in closed minutes.
#[derive(Clone)]
pub struct Intake {
    retention: Retention,
    to: To,
}

#[derive(Clone)]
enum To {
    /// The store itself, on the worker's thread.
    Here(Arc<Shared>),
    /// The store's thread.
    Thread(SyncSender<Message>),
}

impl Intake {
    /// Returns the retention of the store.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Hands in a worker's parts of closed minutes, oldest first.
    pub fn hand_in(&self, worker: usize, parts: Vec<Part>) {
        match &self.to {
            To::Here(shared) => shared.take(worker, parts),
            // An error means that the store is gone: the daemon is stopping.
            To::Thread(store) => drop(store.send(Message::Closed(worker, parts))),
        }
    }

    /// Reports that a worker has failed and hands in no more parts: minutes no longer wait for it.
    pub fn leave(&self, worker: usize) {
        match &self.to {
            To::Here(shared) => shared.leave(worker),
            // An error means that the store is gone: the daemon is stopping.
            To::Thread(store) => drop(store.send(Message::Left(worker))),
        }
    }
}

/// The store of closed minutes.
pub struct Store {
    shared: Arc<Shared>,
    intake: Intake,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Starts a store on its own thread, for `workers` parts of each minute.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn start(workers: usize, retention: Retention) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(workers, retention));
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &receiver)
        })?;
        let intake = Intake { retention, to: To::Thread(sender) };
        Ok(Self { shared, intake, thread: Some(thread) })
    }

    /// Creates a store that runs on the threads that hand in minutes, for `workers` parts of each minute.
    pub fn inline(workers: usize, retention: Retention) -> Self {
        let shared = Arc::new(Shared::new(workers, retention));
        let intake = Intake { retention, to: To::Here(Arc::clone(&shared)) };
        Self { shared, intake, thread: None }
    }

    /// Returns the intake for closed minutes.
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Returns the retention.
    pub fn retention(&self) -> Retention {
        self.intake.retention
    }

    /// Subscribes to the minutes that close from now on, with a queue of `room` minutes, at least 1.
    pub fn subscribe(&self, room: usize, when_full: WhenFull) -> Subscription {
        self.shared.feed.subscribe(room, when_full)
    }

    /// Ends all subscriptions once everything handed in before is processed.
    pub(crate) fn end_feed(&self) {
        self.settle();
        self.shared.feed.end();
    }

    /// Adds minutes of an earlier run, oldest first, before others are handed in.
    pub(crate) fn restore(&self, earlier: Vec<Summary>) {
        let mut minutes = self.shared.minutes();
        earlier.into_iter().for_each(|minute| minutes.restore(minute));
    }

    /// Waits until everything handed in before is processed.
    pub fn settle(&self) {
        if let To::Thread(store) = &self.intake.to {
            let (reply, settled) = channel();
            // An error means that the thread is gone. That was reported where it happened.
            if store.send(Message::Settle(reply)).is_ok() {
                let _ = settled.recv();
            }
        }
    }

    /// Returns the number of buckets, the live one included.
    pub fn available(&self) -> u64 {
        self.shared.minutes().available()
    }

    /// Returns the span of the minutes that are no longer kept, if any.
    pub fn left_out(&self) -> Option<LeftOut> {
        self.shared.minutes().left_out()
    }

    /// Returns the closed bucket `n` ≥ 1. The newest is 1.
    pub fn closed(&self, n: u64) -> Option<Arc<Summary>> {
        self.shared.minutes().closed(n)
    }

    /// Returns all closed minutes that are older than the live bucket, oldest first.
    pub(crate) fn closed_before(&self, live: &Summary) -> Vec<Arc<Summary>> {
        self.shared.minutes().closed_before(live).rev().cloned().collect()
    }

    /// Merges the live bucket with the `n` − 1 newest closed ones, or with all of them for a single summary.
    pub fn merged(&self, live: &Summary, n: u64) -> Summary {
        let parts = self.shared.minutes().window(live, n);
        parts.merged()
    }
}

impl Shared {
    fn new(workers: usize, retention: Retention) -> Self {
        let assembly = Mutex::new(Assembly::new(workers));
        Self { assembly, minutes: Mutex::new(Minutes::new(retention)), feed: Feed::default() }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let (To::Thread(store), Some(thread)) = (&self.intake.to, self.thread.take()) {
            // Workers hold senders too, so the channel stays open. If the thread panicked, that was reported
            // where it happened.
            let _ = store.send(Message::Stop);
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, messages: &Receiver<Message>) {
    for message in messages {
        match message {
            Message::Closed(worker, parts) => shared.take(worker, parts),
            Message::Left(worker) => shared.leave(worker),
            // The requester may have given up.
            Message::Settle(reply) => drop(reply.send(())),
            Message::Stop => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use pktvisor_common::direction::Direction;

    use super::*;

    const RETENTION: Retention = Retention { periods: 3, single: false };

    fn hand_in(store: &Store, minutes: std::ops::Range<i64>) {
        for minute in minutes {
            let mut summary = Summary { minute, ..Summary::default() };
            summary.totals.packets[Direction::In] = 1;
            let mut cumulative = Cumulative::default();
            cumulative.totals.packets[Direction::In] = minute as u64;
            store.intake().hand_in(0, vec![Part::of(summary, &cumulative)]);
        }
        store.settle();
    }

    #[test]
    fn inline_and_threaded_stores_keep_the_same_minutes() {
        for store in [Store::inline(1, RETENTION), Store::start(1, RETENTION).unwrap()] {
            hand_in(&store, 1..5);
            assert_eq!(store.available(), 3);
            assert_eq!(store.closed(1).unwrap().minute, 4);
            assert_eq!(store.closed(2).unwrap().minute, 3);
            assert!(store.closed(3).is_none() && store.left_out().is_some());
            let live = Summary { minute: 5, ..Summary::default() };
            assert_eq!(store.merged(&live, 3).totals.packets[Direction::In], 2);
        }
    }

    #[test]
    fn subscribers_get_each_minute_once_and_lose_those_beyond_their_queue() {
        let store = Store::start(1, RETENTION).unwrap();
        let (mut quick, mut slow) =
            (store.subscribe(8, WhenFull::Drop), store.subscribe(2, WhenFull::Drop));
        drop(store.subscribe(1, WhenFull::Wait));
        hand_in(&store, 1..6);
        let minutes = |subscription: &mut Subscription| -> Vec<(i64, u64)> {
            std::iter::from_fn(|| subscription.try_next())
                .map(|closed| {
                    (closed.summary.minute, closed.cumulative.totals.packets[Direction::In])
                })
                .collect()
        };
        assert_eq!(minutes(&mut quick), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(minutes(&mut slow), [(1, 1), (2, 2)]);
        assert_eq!((quick.lost(), slow.lost()), (0, 3));
    }

    #[test]
    fn the_store_waits_for_a_subscriber_that_must_have_all() {
        let store = Store::start(1, RETENTION).unwrap();
        let mut all = store.subscribe(1, WhenFull::Wait);
        let reader = std::thread::spawn(move || {
            let minutes = std::iter::from_fn(|| all.wait()).map(|closed| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                closed.summary.minute
            });
            (minutes.collect::<Vec<_>>(), all.lost())
        });
        hand_in(&store, 1..9);
        store.end_feed();
        assert_eq!(reader.join().unwrap(), ((1..9).collect::<Vec<i64>>(), 0));
    }
}
