//! Interfaces through libpcap, where there are no programs in the kernel or a filter is wanted: they are
//! opened, end, and are opened again.
//!
//! * [`capture`]: one interface, and the thread that captures from it.
//! * `captures`: all of them.

pub mod capture;
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
use crate::time::{SECOND, wall_clock};

/// What libpcap needs to open an interface that comes back.
const NET_RAW: Capability =
    Capability { set: CapabilitySet::NET_RAW, name: "CAP_NET_RAW", used_by: "libpcap" };
/// How long packets can lie in the kernel before libpcap hands them over.
const LAG: i64 = SECOND * 3 / 10;
/// Blocks between the threads that capture and the one that feeds.
const BLOCKS: usize = 8;
/// Between two looks at the counters of tunnels.
const COUNT: Duration = Duration::from_secs(10);
/// How long to wait for packets before time passes without them.
const TICK: Duration = Duration::from_millis(50);

/// How interfaces are captured from through libpcap.
#[derive(Clone, Debug)]
pub struct LibpcapOptions {
    /// The filter, in libpcap's language.
    pub filter: Option<String>,
    /// Bytes of all capture buffers.
    pub memory: u64,
    /// The number of workers.
    pub workers: usize,
    /// Why programs in the kernel do not capture, where that was asked for.
    pub fallback: Option<String>,
}

/// Interfaces that are opened through libpcap.
pub struct LibpcapInput {
    captures: Captures,
    changes: Arc<Changes>,
    workers: usize,
    fallback: Option<String>,
}

impl LibpcapInput {
    /// Opens what `scope` names among the interfaces that there are, of `any` as far as that is done
    /// within `at_once`.
    ///
    /// # Errors
    /// Where libpcap refuses, of `any` all of it.
    pub fn open(
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

/// Interfaces that are captured from. The threads that capture end before the workers do.
struct RunningLibpcap {
    /// Goes first, so that no thread waits for it to take a block.
    captured: Receiver<Captured>,
    captures: Captures,
    sender: SyncSender<Captured>,
    changes: Arc<Changes>,
    pipeline: Pipeline,
    status: Arc<Status>,
    context: Context,
}

impl RunningLibpcap {
    /// Looks at the interfaces as they are now.
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
                // It may be there again already.
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
