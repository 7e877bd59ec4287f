//! Status of an input: what it watches, how far it lags, and whether it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pktvisor_common::api;
use tokio::sync::watch;

use super::kernel::drain::DrainStatus;

/// Capture method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// By kernel programs.
    Ebpf,
    /// Through libpcap.
    Libpcap,
    /// From a capture file.
    File,
}

impl InputKind {
    /// Returns its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Libpcap => "libpcap",
            Self::File => "file",
        }
    }
}

/// The watched interfaces or file, and problems with them.
#[derive(Clone, Debug, Default)]
pub struct Watching {
    /// The interfaces with their hooks, or the file.
    pub watched: Vec<api::Watched>,
    /// Number of interfaces that still need programs attached.
    pub pending: u64,
    /// Interfaces whose packets do not all reach the programs, each with the reason.
    pub faults: Vec<String>,
}

/// Status of an input. The input writes it, and others read it.
#[derive(Debug)]
pub struct Status {
    /// Capture method.
    pub kind: InputKind,
    /// The reason why libpcap replaced kernel programs, if it did.
    pub fallback: Option<String>,
    watching: watch::Sender<Watching>,
    /// Status of each thread that drains a ring.
    drains: Vec<Arc<DrainStatus>>,
    /// True if no packet so far had a timestamp.
    timeless: AtomicBool,
    finished: AtomicBool,
}

impl Status {
    /// Creates the status of a capture file.
    pub fn file(name: String) -> Self {
        let watched = vec![api::Watched { name, ..api::Watched::default() }];
        let status = Self::interfaces(InputKind::File, None, Vec::new());
        status.watch(Watching { watched, ..Watching::default() });
        status
    }

    /// Creates the status of interfaces, none of which is watched yet.
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

    /// Subscribes to changes of what is watched.
    pub fn subscribe(&self) -> watch::Receiver<Watching> {
        self.watching.subscribe()
    }

    /// Returns true if something is watched, no interface is pending, and there are no faults.
    pub fn is_watching(&self) -> bool {
        let watching = self.watching.borrow();
        !watching.watched.is_empty() && watching.pending == 0 && watching.faults.is_empty()
    }

    /// Marks the input as ended.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    /// Returns true if the input has ended: no more packets will come.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Sets whether no packet so far had a timestamp. Without timestamps there are no latencies and
    /// no rates.
    pub fn set_timeless(&self, timeless: bool) {
        self.timeless.store(timeless, Ordering::Relaxed);
    }

    /// Returns whether no packet so far had a time.
    pub fn is_timeless(&self) -> bool {
        self.timeless.load(Ordering::Relaxed)
    }

    /// Returns the names of the watched interfaces or of the file.
    pub fn names(&self) -> Vec<String> {
        self.watching.borrow().watched.iter().map(|watched| watched.name.clone()).collect()
    }

    /// Returns the lag of user space behind the packets in milliseconds, or `None` if it is not
    /// known.
    pub fn lag_ms(&self) -> Option<u64> {
        self.drains.iter().map(|drain| drain.lag_ms()).max()
    }

    /// Adds to a view what only the input knows.
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
