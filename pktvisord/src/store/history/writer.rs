//! The thread that stores closed minutes in the history.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::{error, info, warn};

use super::{Counted, SharedHistory};
use crate::store::feed::{Closed, Subscription};
use crate::time::Timestamp;

/// Minutes that wait while the history cannot be written. Older ones are lost to it.
const WAITING: usize = 60;
/// Queue length of the subscription: the thread merges days and hours in seconds.
pub(crate) const QUEUE: usize = 16;

/// The writing thread.
pub(crate) struct Writer(JoinHandle<State>);

/// The history and the minutes that wait for it.
struct State {
    history: Arc<SharedHistory>,
    counted: Box<dyn Fn() -> Counted + Send>,
    waiting: VecDeque<Arc<Closed>>,
    /// True if the last minute could not be stored.
    failed: bool,
    /// Start of the last minute that came.
    last: Option<Timestamp>,
}

impl Writer {
    /// Starts storing the minutes of a subscription, until the feed ends. `counted` returns the
    /// terms and the key of the minutes.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start(
        history: Arc<SharedHistory>,
        counted: impl Fn() -> Counted + Send + 'static,
        mut closed: Subscription,
    ) -> io::Result<Self> {
        let waiting = VecDeque::new();
        let counted = Box::new(counted);
        let mut state = State { history, counted, waiting, failed: false, last: None };
        let body = move || {
            let mut missed = 0;
            while let Some(minute) = closed.wait() {
                state.take(minute);
                state.lose(closed.lost() - missed);
                missed = closed.lost();
            }
            state
        };
        std::thread::Builder::new().name("history".to_owned()).spawn(body).map(Self)
    }

    /// Stores the minute that has not ended, once the feed has.
    pub(crate) fn finish(self, live: Option<Closed>) {
        // If the thread panicked, that was reported where it happened.
        let Ok(mut state) = self.0.join() else { return };
        // It may have ended since it was copied.
        if let Some(live) = live.filter(|live| state.last != Some(live.summary.start)) {
            state.take(Arc::new(live));
        }
        let left = state.waiting.len() as u64;
        state.lose(left);
    }
}

impl State {
    /// Stores a minute, after those that wait.
    fn take(&mut self, minute: Arc<Closed>) {
        self.last = Some(minute.summary.start);
        self.waiting.push_back(minute);
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
            self.lose(1);
        }
        while let Some(minute) = self.waiting.front() {
            let counted = (self.counted)();
            match self.history.add(minute, &counted) {
                Ok(()) => {
                    self.waiting.pop_front();
                    if std::mem::take(&mut self.failed) {
                        info!("the history is written again");
                    }
                }
                Err(problem) => {
                    // Logged once, not each minute.
                    if !std::mem::replace(&mut self.failed, true) {
                        error!("cannot write the history: {problem}; capture goes on");
                    }
                    return;
                }
            }
        }
    }

    fn lose(&self, minutes: u64) {
        if minutes > 0 {
            let all = self.history.lose(minutes);
            warn!("{minutes} minutes are missing in the history, {all} since the start");
        }
    }
}
