//! Follows the watched interfaces: they disappear, return, get renamed or get other addresses, and
//! other programs take their hooks.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use pktvisor_common::abi::{Counters, Kind};
use tracing::{error, info};

use super::hooks::Programs;
use super::load::Load;
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::Losses;
use crate::input::netlink::changes::Changes;
use crate::input::status::Status;
use crate::input::{Options, interface};
use crate::system::shutdown::Shutdown;

/// Longest wait for a change, and so the delay of noticing shutdown.
const PATIENCE: Duration = Duration::from_millis(250);
/// Interval of checking the load.
const SECOND: Duration = Duration::from_secs(1);
/// Interval of checking the hooks: links and marks, which cost some system calls each.
const LOOK: Duration = Duration::from_secs(10);
/// One check in this many lists the filters of clsact even if nothing has changed.
const FILTERS: u32 = 6;
/// Time spent attaching programs before other work gets its turn.
const SLICE: Duration = Duration::from_millis(200);

/// Follows the interfaces of the kernel input.
pub(super) struct Follower {
    /// Reports changes of interfaces.
    pub(super) changes: Arc<Changes>,
    /// Settings that the summaries depend on.
    pub(super) settings: Arc<Settings>,
    /// Receives what is watched.
    pub(super) status: Arc<Status>,
    /// Receives the packets that were not watched.
    pub(super) losses: Losses,
    /// Adapt sampling to the load.
    pub(super) adaptive: bool,
    /// Tells when shutdown is requested.
    pub(super) shutdown: Shutdown,
}

impl Follower {
    /// Follows changes of interfaces and options, and the load if `adaptive` is set, until shutdown
    /// is requested. Then it removes filters; links end with the process.
    pub(super) fn follow(&self, programs: &mut Programs, options: &Receiver<Options>) {
        let stop = self.shutdown.flag();
        let counters = programs.probe.counters();
        let (mut load, mut before) = (Load::default(), Counters::default());
        let (mut looked, mut verified, mut looks) = (Instant::now(), Instant::now(), 0u32);
        // True if something has changed since the hooks were last verified.
        let mut open = false;
        while !self.shutdown.asked() {
            let was_pending = programs.is_pending();
            let changed = self.changes.wait(if was_pending { Duration::ZERO } else { PATIENCE });
            if changed || was_pending {
                programs.look(&self.losses, Instant::now() + SLICE, &stop);
                if was_pending && !programs.is_pending() {
                    info!("all interfaces are watched");
                }
            }
            let due = verified.elapsed() >= LOOK;
            // A change can be that of a filter. Under constant changes the hooks are verified once
            // a second.
            open |= changed;
            let verify = due || open && !was_pending && verified.elapsed() >= SECOND;
            if verify {
                verified = Instant::now();
                looks = if due { looks.wrapping_add(1) } else { looks };
                programs.verify(open || looks.is_multiple_of(FILTERS), &self.losses);
                open = false;
            }
            if changed || was_pending || verify {
                self.status.watch(programs.watching());
            }
            if changed || was_pending && !programs.is_pending() {
                match interface::list() {
                    Ok(listed) => programs.follow_hosts(&listed, &self.settings),
                    Err(error) => error!("cannot list the interfaces: {error}"),
                }
            }
            if let Some(options) = options.try_iter().last() {
                programs.scope.set_hosts(options.hosts);
                programs.follow_hosts(&interface::list().unwrap_or_default(), &self.settings);
                if let Err(refusal) = programs.configure(&self.settings) {
                    error!("{refusal}");
                }
            }
            programs.probe.flush_log();
            if !self.adaptive || looked.elapsed() < SECOND {
                continue;
            }
            looked = Instant::now();
            // The drain logs an error if the counters cannot be read.
            let Ok(now) = counters.read() else { continue };
            let last = std::mem::replace(&mut before, now);
            let lost = now.since(&last).lost;
            let of = |kind: Kind| lost.iter().map(|ring| ring[kind as usize]).sum::<u64>();
            let [dns, fragments, headers] = Kind::ALL.map(of);
            if let Some(halvings) = load.second(dns + fragments, headers) {
                self.settings.sampling.halve(halvings.dns, halvings.rest);
                let (dns, rest) = self.settings.sampling.percents();
                info!("inspecting {dns} % of DNS packets and {rest} % of other packets");
                if let Err(refusal) = programs.configure(&self.settings) {
                    error!("{refusal}");
                }
            }
        }
        programs.leave();
    }
}
