//! The feed of closed minutes, for those who subscribe to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::Cumulative;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The name of a policy: a filter, what is counted, and how much of it is kept. It stands in keys of
/// storage and in exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(&'static str);

impl PolicyName {
    /// The policy that counts everything, and so far the only one.
    pub const DEFAULT: Self = Self("default");

    /// The name as text.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A closed minute, which changes no more.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The policy that it was counted by.
    pub policy: PolicyName,
    /// What was counted in it, by all workers.
    pub summary: Arc<Summary>,
    /// What was counted since the start, up to its end.
    pub cumulative: Arc<Cumulative>,
}

/// Gets each closed minute, in order, from the time of the subscription on.
#[derive(Debug)]
pub struct Subscription {
    closed: Receiver<Arc<Closed>>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// Waits for the next closed minute; `None` where the store is gone and none is left.
    pub async fn next(&mut self) -> Option<Arc<Closed>> {
        self.closed.recv().await
    }

    /// Takes the next closed minute where it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Closed>> {
        self.closed.try_recv().ok()
    }

    /// The number of closed minutes, since the start, that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Who has subscribed.
#[derive(Debug)]
struct Subscriber {
    to: Sender<Arc<Closed>>,
    lost: Arc<AtomicU64>,
}

/// All who have subscribed.
#[derive(Debug, Default)]
pub(super) struct Feed(Mutex<Vec<Subscriber>>);

impl Feed {
    /// Subscribes, with room for so many closed minutes, at least 1.
    pub(super) fn subscribe(&self, room: usize) -> Subscription {
        let (to, closed) = channel(room);
        let lost: Arc<AtomicU64> = Arc::default();
        let mut subscribers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Subscriber { to, lost: Arc::clone(&lost) });
        Subscription { closed, lost }
    }

    /// Hands a closed minute to all subscribers, where there are any: waits for none of them.
    pub(super) fn publish(&self, closed: impl FnOnce() -> Closed) {
        let mut subscribers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribers.is_empty() {
            return;
        }
        let closed = Arc::new(closed());
        subscribers.retain(|Subscriber { to, lost }| match to.try_send(Arc::clone(&closed)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }
}
