//! Capture by kernel programs.
//!
//! * [`probe`]: the loaded programs and their maps.
//! * `hooks`: the programs attached to interfaces; `check`: detects packets that do not reach them.
//! * `follow`: interfaces that come and go; `load`: the sampling rate under load.
//! * [`attach`]: the hooks of one interface.
//! * [`links`], [`clsact`]: the two ways to attach a program.
//! * [`drain`]: one thread for each ring, which aggregates its records.
//! * [`refusal`]: explains why the kernel refuses.

pub mod attach;
mod check;
pub mod clsact;
pub mod drain;
mod follow;
mod hooks;
pub mod links;
mod load;
pub mod probe;
pub mod refusal;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use pktvisor_common::abi::RINGS;
use rustix::thread::CapabilitySet;

use self::attach::CaptureMode;
use self::drain::{Drain, DrainStatus};
use self::follow::Follower;
use self::hooks::Programs;
use self::probe::{Probe, Ring};
use self::refusal::Refusal;
use super::file::ReadError;
use super::interface::Interface;
use super::interface::scope::Scope;
use super::netlink::changes::Changes;
use super::status::{InputKind, Status};
use super::{Context, Input, Options, Reloads, Running};
use crate::aggregate::flows::Share;
use crate::aggregate::pipeline::Clock;
use crate::aggregate::settings::Settings;
use crate::aggregate::worker::Worker;
use crate::aggregate::workers::{WorkerControl, Workers};
use crate::system::needs::{Capability, Needs};

/// The capability for clsact: the daemon checks its filters and removes them at the end.
const NET_ADMIN: Capability =
    Capability { set: CapabilitySet::NET_ADMIN, name: "CAP_NET_ADMIN", used_by: "clsact" };

/// The programs as compiled by `cargo xtask build-ebpf`; empty if the daemon was built without
/// them.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pktvisor.o"));

/// Returns true if the daemon was built with the programs.
pub const fn is_built_in() -> bool {
    !OBJECT.is_empty()
}

/// Options of capture by kernel programs.
#[derive(Clone, Copy, Debug)]
pub struct KernelOptions {
    /// The hooks that programs are attached to.
    pub mode: CaptureMode,
    /// Number of workers, each with a ring; rounded down to a power of two, at most [`RINGS`].
    pub workers: usize,
    /// Size of each ring, in bytes.
    pub ring_size: u32,
    /// Adapt sampling to the load.
    pub adaptive: bool,
}

/// Interfaces with attached programs.
pub struct KernelInput {
    programs: Programs,
    rings: Vec<Ring>,
    changes: Arc<Changes>,
    adaptive: bool,
}

impl KernelInput {
    /// Loads the programs and attaches them to the listed interfaces in `scope`. With `any`,
    /// interfaces that are not attached within `at_once` follow later.
    ///
    /// # Errors
    /// [`Refusal`] if the kernel refuses.
    pub fn open(
        options: KernelOptions,
        scope: Scope,
        changes: Arc<Changes>,
        settings: &Settings,
        listed: &[Interface],
        at_once: Duration,
    ) -> Result<Self, Refusal> {
        let KernelOptions { mode, workers, ring_size, adaptive } = options;
        let probe = Probe::load(1 << workers.clamp(1, RINGS).ilog2(), ring_size)?;
        let mut programs = Programs::start(probe, scope, mode, settings, listed, at_once)?;
        let rings = programs.probe.take_rings()?;
        Ok(Self { programs, rings, changes, adaptive })
    }
}

impl Input for KernelInput {
    fn needs(&self) -> Needs {
        let capabilities = if self.programs.use_clsact() { vec![NET_ADMIN] } else { Vec::new() };
        Needs { capabilities, ..Needs::default() }
    }

    fn parts(&self) -> usize {
        self.rings.len()
    }

    fn reloads(&self) -> Reloads {
        Reloads { is_live: true, filter: None }
    }

    fn start(self: Box<Self>, context: Context) -> io::Result<Box<dyn Running>> {
        let Self { programs, rings, changes, adaptive } = *self;
        let Context { settings, store, shutdown } = context;
        let of = rings.len();
        let clock: Arc<Clock> = Arc::default();
        let statuses: Vec<Arc<DrainStatus>> = rings.iter().map(|_| Arc::default()).collect();
        let drains = rings.into_iter().zip(&statuses).enumerate().map(|(at, (ring, status))| {
            let share = Share { worker: at, of };
            let worker = Worker::of_spread_packets(Arc::clone(&settings), store.intake(), share);
            let counting = (at == 0).then(|| (programs.probe.counters(), Arc::clone(&clock)));
            Drain { worker, ring, counting, status: Arc::clone(status) }
        });
        let drains: Vec<Drain> = drains.collect();
        let workers =
            Workers::start_with(drains, |drain, work, workers| drain.run(&work, &workers))?;
        let status = Arc::new(Status::interfaces(InputKind::Ebpf, None, statuses));
        status.watch(programs.watching());
        let losses = workers.losses();
        let follower = Follower { changes, settings, status, losses, adaptive, shutdown };
        Ok(Box::new(RunningKernel { programs, workers, clock, follower }))
    }
}

/// Attached programs, and a worker for each ring.
struct RunningKernel {
    programs: Programs,
    workers: Workers,
    clock: Arc<Clock>,
    follower: Follower,
}

impl Running for RunningKernel {
    fn control(&self) -> WorkerControl {
        self.workers.control()
    }

    fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.clock)
    }

    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.follower.status)
    }

    fn run(&mut self, changes: &Receiver<Options>) -> Result<(), ReadError> {
        // Filters are removed before the workers end. Links end with the process.
        self.follower.follow(&mut self.programs, changes);
        Ok(())
    }
}
