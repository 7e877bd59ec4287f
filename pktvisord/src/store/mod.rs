//! The store: closed minutes, merged of the workers' parts, kept, and handed to those who subscribe.
//!
//! Workers hand in their parts over a channel. Merging, keeping and notifying happen on the store's
//! thread, so that a minute of many names costs no packet any time. A capture that one worker reads on
//! the caller's thread has no other thread for it either.
//!
//! * [`parts`]: minutes of which some workers have closed their part.
//! * [`minutes`]: the minutes that are kept, and windows over them.
//! * [`feed`]: the feed of closed minutes.

pub mod feed;
pub mod minutes;
pub mod parts;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;

use self::feed::{Closed, Feed, PolicyName, Subscription};
use self::minutes::{LeftOut, Minutes, Retention};
use self::parts::{Assembly, Part};

/// What workers have handed in and the store has not looked at: beyond that they wait.
const QUEUE: usize = 16;

/// What the store's thread is told.
enum Message {
    /// A worker has closed these minutes.
    Closed(usize, Vec<Part>),
    /// A worker hands in nothing more.
    Left(usize),
    /// Answer when all that was handed in before is taken in.
    Settle(Sender<()>),
    /// Nothing follows.
    Stop,
}

/// What is kept, and who hears of it.
#[derive(Debug)]
struct Shared {
    /// Only who takes parts in holds this lock.
    assembly: Mutex<Assembly>,
    /// Held for as long as a minute is put in or looked up, but not while minutes are merged.
    minutes: Mutex<Minutes>,
    feed: Feed,
}

impl Shared {
    fn minutes(&self) -> MutexGuard<'_, Minutes> {
        // Each change leaves the minutes whole, so a panic elsewhere does not spoil them.
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

    /// Keeps a minute that is whole, and publishes it.
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

/// The way of closed minutes to the store.
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
    /// How much is kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Takes a worker's parts of minutes that it has closed, the oldest first.
    pub fn hand_in(&self, worker: usize, parts: Vec<Part>) {
        match &self.to {
            To::Here(shared) => shared.take(worker, parts),
            // An error means that the store is gone: the daemon ends.
            To::Thread(store) => drop(store.send(Message::Closed(worker, parts))),
        }
    }

    /// A worker hands in nothing more, because it has failed: minutes no longer wait for its part.
    pub fn leave(&self, worker: usize) {
        match &self.to {
            To::Here(shared) => shared.leave(worker),
            // An error means that the store is gone: the daemon ends.
            To::Thread(store) => drop(store.send(Message::Left(worker))),
        }
    }
}

/// The store.
pub struct Store {
    shared: Arc<Shared>,
    intake: Intake,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// A store on a thread of its own, for the minutes of so many workers.
    ///
    /// # Errors
    /// Where a thread can't be started.
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

    /// A store on the thread of whoever hands in minutes of so many workers.
    pub fn inline(workers: usize, retention: Retention) -> Self {
        let shared = Arc::new(Shared::new(workers, retention));
        let intake = Intake { retention, to: To::Here(Arc::clone(&shared)) };
        Self { shared, intake, thread: None }
    }

    /// The way of closed minutes to it.
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// How much it keeps.
    pub fn retention(&self) -> Retention {
        self.intake.retention
    }

    /// Hands each minute that closes from now on to the subscriber, who has room for so many, at least
    /// 1. What finds no room is lost to that subscriber, and counted.
    pub fn subscribe(&self, room: usize) -> Subscription {
        self.shared.feed.subscribe(room)
    }

    /// Waits until all that was handed in before is taken in.
    pub fn settle(&self) {
        if let To::Thread(store) = &self.intake.to {
            let (reply, settled) = channel();
            // An error means that the thread is gone, and that was reported where it happened.
            if store.send(Message::Settle(reply)).is_ok() {
                let _ = settled.recv();
            }
        }
    }

    /// How many buckets there are now, the live one included.
    pub fn available(&self) -> u64 {
        self.shared.minutes().available()
    }

    /// The minutes that are no longer kept, if any.
    pub fn left_out(&self) -> Option<LeftOut> {
        self.shared.minutes().left_out()
    }

    /// The closed bucket `n` ≥ 1.
    pub fn closed(&self, n: u64) -> Option<Arc<Summary>> {
        self.shared.minutes().closed(n)
    }

    /// The live bucket merged with the `n` − 1 closed before it, or with all in a single summary.
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
            // Workers hold senders too, so the channel stays open. If the thread panicked, that was
            // reported where it happened.
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
            // Whoever asked may have given up.
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
    fn both_kinds_of_store_keep_the_same() {
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
    fn subscribers_get_each_minute_once_and_lose_what_they_have_no_room_for() {
        let store = Store::start(1, RETENTION).unwrap();
        let (mut quick, mut slow) = (store.subscribe(8), store.subscribe(2));
        drop(store.subscribe(1));
        hand_in(&store, 1..6);
        let minutes = |subscription: &mut Subscription| -> Vec<(i64, u64)> {
            std::iter::from_fn(|| subscription.try_next())
                .map(|closed| (closed.summary.minute, closed.cumulative.totals.packets[Direction::In]))
                .collect()
        };
        assert_eq!(minutes(&mut quick), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(minutes(&mut slow), [(1, 1), (2, 2)]);
        assert_eq!((quick.lost(), slow.lost()), (0, 3));
    }
}
