//! The feed of closed minutes for subscribers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The name of a policy: a filter, what is counted, and its retention. It is part of storage keys and of
/// exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(&'static str);

impl PolicyName {
    /// The policy that counts everything. So far it is the only one.
    pub const DEFAULT: Self = Self("default");

    /// Returns the name as text.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A closed minute. It no longer changes.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Policy under which it was counted.
    pub policy: PolicyName,
    /// Summary of all workers.
    pub summary: Arc<Summary>,
    /// Totals since the start, up to the end of the minute.
    pub cumulative: Arc<Cumulative>,
}

/// Receives each minute that closes after the subscription, in order.
#[derive(Debug)]
pub struct Subscription {
    closed: Receiver<Arc<Closed>>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// Waits for the next closed minute. Returns `None` if the store is gone and no minute is left.
    pub async fn next(&mut self) -> Option<Arc<Closed>> {
        self.closed.recv().await
    }

    /// Blocks until the next closed minute. Returns `None` if the feed has ended and no minute is left.
    pub fn wait(&mut self) -> Option<Arc<Closed>> {
        self.closed.blocking_recv()
    }

    /// Returns the next closed minute if one is waiting.
    pub fn try_next(&mut self) -> Option<Arc<Closed>> {
        self.closed.try_recv().ok()
    }

    /// Returns the number of minutes dropped so far because the queue was full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The treatment of a minute while the queue of a subscriber is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is dropped for this subscriber and counted, so that live packets never wait.
    Drop,
    /// The store waits, and with it the reading of a capture.
    Wait,
}

/// The sending side of a subscription.
#[derive(Debug)]
struct Subscriber {
    to: Sender<Arc<Closed>>,
    lost: Arc<AtomicU64>,
    when_full: WhenFull,
}

/// All subscribers.
#[derive(Debug, Default)]
pub(super) struct Feed(Mutex<Vec<Subscriber>>);

impl Feed {
    /// Subscribes with a queue of `room` closed minutes, at least 1.
    pub(super) fn subscribe(&self, room: usize, when_full: WhenFull) -> Subscription {
        let (to, closed) = channel(room);
        let lost: Arc<AtomicU64> = Arc::default();
        let mut subscribers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Subscriber { to, lost: Arc::clone(&lost), when_full });
        Subscription { closed, lost }
    }

    /// Ends all subscriptions, after the minutes in their queues.
    pub(super) fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends a closed minute to all subscribers. It is only built if there are any.
    pub(super) fn publish(&self, closed: impl FnOnce() -> Closed) {
        let mut subscribers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribers.is_empty() {
            return;
        }
        let closed = Arc::new(closed());
        subscribers.retain(|Subscriber { to, lost, when_full }| {
            let sent = to.try_send(Arc::clone(&closed));
            match sent {
                Ok(()) => true,
                Err(TrySendError::Full(closed)) if *when_full == WhenFull::Wait => {
                    to.blocking_send(closed).is_ok()
                }
                Err(TrySendError::Full(_)) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }
}
