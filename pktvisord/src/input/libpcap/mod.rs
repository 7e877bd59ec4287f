//! Capture through libpcap, where kernel programs are not available or a filter is set. Interfaces
//! are opened, end, and are opened again.
//!
//! * [`capture`]: one interface, and the thread that captures from it.
//! * `captures`: all of them.

pub(crate) mod capture;
mod captures;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use pktvisor_common::loss::Loss;
use rustix::thread::CapabilitySet;

use self::capture::Captured;
use self::captures::Captures;
use super::file::ReadError;
use super::interface::scope::Scope;
use super::interface::tunnels::Tunnels;
use super::interface::{self, Interface};
use super::live::LiveError;
use super::netlink::changes::Changes;
use super::status::{InputKind, Status};
use super::{Context, Input, Options, Reloads, Running};
use crate::aggregate::pipeline::{Clock, Pipeline};
use crate::aggregate::workers::WorkerControl;
use crate::system::needs::{Capability, Needs};
use crate::time::{Span, wall_clock};

/// The capability that libpcap needs to open an interface that comes back.
const NET_RAW: Capability =
    Capability { set: CapabilitySet::NET_RAW, name: "CAP_NET_RAW", used_by: "libpcap" };
/// Longest time that packets wait in the kernel before libpcap returns them.
const LAG: Span = Span::from_millis(300);
/// Capacity of the queue between the capture threads and the thread that feeds the pipeline, in
/// messages.
const BLOCKS: usize = 8;
/// Interval of reading the counters of tunnels.
const COUNT: Duration = Duration::from_secs(10);
/// Longest wait for packets before time advances without them.
const TICK: Duration = Duration::from_millis(50);

/// Options of capture through libpcap.
#[derive(Clone, Debug)]
pub(crate) struct LibpcapOptions {
    /// The filter expression in libpcap's language.
    pub filter: Option<String>,
    /// Total size of the capture buffers, in bytes.
    pub memory: u64,
    /// The number of workers.
    pub workers: usize,
    /// The reason why libpcap replaces kernel programs, if it does.
    pub fallback: Option<String>,
}

/// Interfaces opened through libpcap.
pub(crate) struct LibpcapInput {
    captures: Captures,
    changes: Arc<Changes>,
    workers: usize,
    fallback: Option<String>,
}

impl LibpcapInput {
    /// Opens the listed interfaces in `scope`. With `any`, interfaces that are not open within
    /// `at_once` follow later.
    ///
    /// # Errors
    /// [`LiveError`] if libpcap refuses an interface; with `any`, if it refuses all.
    pub(crate) fn open(
        options: LibpcapOptions,
        scope: Scope,
        changes: Arc<Changes>,
        listed: &[Interface],
        at_once: Duration,
    ) -> Result<Self, LiveError> {
        let LibpcapOptions { filter, memory, workers, fallback } = options;
        let captures = Captures::open(scope, filter, memory, listed, at_once)?;
        Ok(Self { captures, changes, workers, fallback })
    }
}

impl Input for LibpcapInput {
    fn needs(&self) -> Needs {
        Needs { capabilities: vec![NET_RAW], packet_sockets: true, ..Needs::default() }
    }

    fn parts(&self) -> usize {
        Pipeline::parts(self.workers)
    }

    fn reloads(&self) -> Reloads {
        Reloads { is_live: true, filter: Some(self.captures.links()) }
    }

    fn start(self: Box<Self>, context: Context) -> io::Result<Box<dyn Running>> {
        let Self { mut captures, changes, workers, fallback } = *self;
        let settings = Arc::clone(&context.settings);
        let mut pipeline = Pipeline::threads(settings, &context.store, workers)?;
        let (sender, captured) = sync_channel(BLOCKS);
        captures.start(&context.shutdown.flag(), &sender)?;
        let status = Status::interfaces(InputKind::Libpcap, fallback, Vec::new());
        status.watch(captures.watching());
        pipeline.advance(wall_clock());
        let status = Arc::new(status);
        Ok(Box::new(RunningLibpcap {
            captured,
            captures,
            sender,
            changes,
            pipeline,
            status,
            context,
        }))
    }
}

/// Running captures. Their threads end before the workers do.
struct RunningLibpcap {
    /// Dropped first, so that no capture thread blocks on sending to it.
    captured: Receiver<Captured>,
    captures: Captures,
    sender: SyncSender<Captured>,
    changes: Arc<Changes>,
    pipeline: Pipeline,
    status: Arc<Status>,
    context: Context,
}

impl RunningLibpcap {
    /// Updates the captured interfaces.
    fn look(&mut self) {
        self.captures.look(&self.context, &self.sender, &mut self.pipeline);
        self.status.watch(self.captures.watching());
    }

    fn take(&mut self, captured: Captured) {
        match captured {
            Captured::Block(block) => self.pipeline.feed(&block, 0..block.packets.len()),
            Captured::Lost { kernel, interface } => {
                self.pipeline.lose(Loss::KernelDrops, kernel);
                self.pipeline.lose(Loss::IfDrops, interface);
            }
            Captured::Ended { index, message } => {
                self.captures.end(index, &message);
                // The interface may be back already.
                self.look();
            }
        }
    }
}

impl Running for RunningLibpcap {
    fn control(&self) -> WorkerControl {
        self.pipeline.control()
    }

    fn clock(&self) -> Arc<Clock> {
        self.pipeline.clock()
    }

    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    fn run(&mut self, changes: &Receiver<Options>) -> Result<(), ReadError> {
        let (mut tunnels, mut counted) = (Tunnels::default(), Instant::now());
        while !self.context.shutdown.asked() {
            if counted.elapsed() >= COUNT {
                counted = Instant::now();
                let listed = interface::list().unwrap_or_default();
                let left_out = tunnels.look(&listed, &self.captures.indexes());
                self.pipeline.lose(Loss::LeftOut, left_out);
            }
            if let Some(options) = changes.try_iter().last() {
                self.captures.reload(options, &self.context.settings);
            }
            match self.captured.recv_timeout(TICK) {
                Ok(captured) => self.take(captured),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if self.changes.wait(Duration::ZERO) || self.captures.is_pending() {
                self.look();
            }
            self.pipeline.advance(wall_clock() - LAG);
        }
        Ok(())
    }
}
