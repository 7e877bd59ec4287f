//! Follows the interfaces that programs in the kernel watch: they go, come back, are renamed, get other
//! addresses; others take their hooks.

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

/// How soon the end is noticed.
const PATIENCE: Duration = Duration::from_millis(250);
/// Between two looks at the load.
const SECOND: Duration = Duration::from_secs(1);
/// Between two looks at the hooks: links and marks, which cost some system calls for each.
const LOOK: Duration = Duration::from_secs(10);
/// Looks of which one asks for filters of clsact too, unless something has changed.
const FILTERS: u32 = 6;
/// How long programs are attached before other work has its turn.
const SLICE: Duration = Duration::from_millis(200);

/// What is followed, and who is told.
pub(super) struct Follower {
    /// Where changes of interfaces are told of.
    pub(super) changes: Arc<Changes>,
    /// What the summaries depend on.
    pub(super) settings: Arc<Settings>,
    /// Gets what is watched.
    pub(super) status: Arc<Status>,
    /// Gets what was not watched.
    pub(super) losses: Losses,
    /// Whether sampling is adapted to the load.
    pub(super) adaptive: bool,
    /// Tells when the end is asked for.
    pub(super) shutdown: Shutdown,
}

impl Follower {
    /// Follows changes of interfaces and options, and the load where it is to, until the end is asked
    /// for; then the programs are taken away.
    pub(super) fn follow(&self, programs: &mut Programs, options: &Receiver<Options>) {
        let stop = self.shutdown.flag();
        let counters = programs.probe.counters();
        let (mut load, mut before) = (Load::default(), Counters::default());
        let (mut looked, mut verified, mut looks) = (Instant::now(), Instant::now(), 0u32);
        // Something has changed that was not verified yet.
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
            // A change can be that of a filter. Changes that do not end are looked at once a second.
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
                    Err(error) => error!("the interfaces cannot be listed: {error}"),
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
            // That they can't be read is said where they are taken in.
            let Ok(now) = counters.read() else { continue };
            let last = std::mem::replace(&mut before, now);
            let lost = now.since(&last).lost;
            let of = |kind: Kind| lost.iter().map(|ring| ring[kind as usize]).sum::<u64>();
            let [dns, fragments, headers] = Kind::ALL.map(of);
            if let Some(halvings) = load.second(dns + fragments, headers) {
                self.settings.sampling.halve(halvings.dns, halvings.rest);
                let (dns, rest) = self.settings.sampling.percents();
                info!("inspecting {dns} % of DNS and {rest} % of the rest");
                if let Err(refusal) = programs.configure(&self.settings) {
                    error!("{refusal}");
                }
            }
        }
        programs.leave();
    }
}
