//! What an input tells of itself: what it watches, how far it is behind, whether it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pktvisor_common::api;
use tokio::sync::watch;

use super::kernel::drain::DrainStatus;

/// How packets are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// By programs in the kernel.
    Ebpf,
    /// Through libpcap.
    Libpcap,
    /// They are read from a capture file.
    File,
}

impl InputKind {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Libpcap => "libpcap",
            Self::File => "file",
        }
    }
}

/// What is watched, and what is not as it should be.
#[derive(Clone, Debug, Default)]
pub struct Watching {
    /// Names of the interfaces or the file, and the hooks of the interfaces.
    pub watched: Vec<api::Watched>,
    /// Interfaces to which programs are still to be attached.
    pub pending: u64,
    /// Interfaces whose packets are not seen as they should be, each with the reason.
    pub faults: Vec<String>,
}

/// The state of an input, which the input writes and others read.
#[derive(Debug)]
pub struct Status {
    /// How packets are captured.
    pub kind: InputKind,
    /// Why programs in the kernel do not capture them, where these were asked for.
    pub fallback: Option<String>,
    watching: watch::Sender<Watching>,
    /// How far the threads that drain rings are behind.
    drains: Vec<Arc<DrainStatus>>,
    /// Whether no packet so far had a time.
    timeless: AtomicBool,
    finished: AtomicBool,
}

impl Status {
    /// The state of a capture file of this name.
    pub fn file(name: String) -> Self {
        let watched = vec![api::Watched { name, ..api::Watched::default() }];
        let status = Self::interfaces(InputKind::File, None, Vec::new());
        status.watch(Watching { watched, ..Watching::default() });
        status
    }

    /// The state of interfaces none of which is watched yet.
    pub fn interfaces(
        kind: InputKind,
        fallback: Option<String>,
        drains: Vec<Arc<DrainStatus>>,
    ) -> Self {
        let (timeless, finished) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { kind, fallback, watching: watch::Sender::default(), drains, timeless, finished }
    }

    /// Sets what is watched now.
    pub fn watch(&self, watching: Watching) {
        self.watching.send_replace(watching);
    }

    /// Returns what is watched now.
    pub fn watching(&self) -> Watching {
        self.watching.borrow().clone()
    }

    /// Returns what is watched, to wait for changes of it.
    pub fn subscribe(&self) -> watch::Receiver<Watching> {
        self.watching.subscribe()
    }

    /// Whether packets come from all that is to be watched.
    pub fn is_watching(&self) -> bool {
        let watching = self.watching.borrow();
        !watching.watched.is_empty() && watching.pending == 0 && watching.faults.is_empty()
    }

    /// Notes that the input has ended.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    /// Whether the input has ended, so that no more packets come.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Notes whether no packet so far had a time: then there are no latencies and no rates.
    pub fn set_timeless(&self, timeless: bool) {
        self.timeless.store(timeless, Ordering::Relaxed);
    }

    /// Whether no packet so far had a time.
    pub fn is_timeless(&self) -> bool {
        self.timeless.load(Ordering::Relaxed)
    }

    /// Names of what is watched.
    pub fn names(&self) -> Vec<String> {
        self.watching.borrow().watched.iter().map(|watched| watched.name.clone()).collect()
    }

    /// How far user space is behind the packets, in milliseconds; none where that can't be told.
    pub fn lag_ms(&self) -> Option<u64> {
        self.drains.iter().map(|drain| drain.lag_ms()).max()
    }

    /// Completes a view with what only the input knows.
    pub fn complete(&self, mut view: api::MetricsView) -> api::MetricsView {
        self.kind.name().clone_into(&mut view.capture.source);
        view.capture.interfaces = self.names();
        view.capture.lag_ms = self.lag_ms().unwrap_or(0);
        if self.is_timeless() {
            view.forget_times();
        }
        view
    }
}
