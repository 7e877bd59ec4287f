//! The interfaces that are watched by programs in the kernel, and what becomes of them: they go, come
//! back, are renamed, get other addresses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pktvisor_common::abi::{Counters, Kind};
use pktvisor_common::api;
use tracing::{error, info, warn};

use super::load::Load;
use super::watch::Selection;
use crate::capture::ebpf::attach::{Attached, CaptureMode, Hook, attach};
use crate::capture::ebpf::probe::{Probe, Terms};
use crate::capture::ebpf::refusal::Refusal;
use crate::capture::interface::{self, Interface};
use crate::capture::netlink::Changes;
use crate::cli::Cli;
use crate::config::Config;
use crate::live::Source;
use crate::settings::Settings;
use crate::workers::Losses;

/// How soon the end is noticed.
const PATIENCE: Duration = Duration::from_millis(250);
/// Between two looks at the load.
const SECOND: Duration = Duration::from_secs(1);

/// Programs in the kernel, at their hooks.
pub(super) struct Programs {
    /// The programs.
    pub(super) probe: Probe,
    selection: Selection,
    mode: CaptureMode,
    attached: Vec<Attached>,
    /// Interfaces, by number, that can't be watched: that is said once.
    given_up: BTreeSet<u32>,
    /// How the interfaces were when they were last looked at.
    listed: Vec<Interface>,
}

impl Programs {
    /// Configures loaded programs and attaches them to what is selected.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn start(
        probe: Probe,
        selection: Selection,
        mode: CaptureMode,
        settings: &Settings,
        listed: Vec<Interface>,
    ) -> Result<Self, Refusal> {
        let interfaces = selection.wanted(&listed);
        let (attached, given_up) = (Vec::new(), BTreeSet::new());
        let mut programs = Self { probe, selection, mode, attached, given_up, listed };
        programs.configure(settings)?;
        for interface in interfaces {
            let refused = programs.attach(&interface).err();
            match refused {
                None => {}
                // One of many need not have what the others have.
                Some(refusal) if programs.selection.is_any() && !refusal.is_general() => {
                    warn!("{} is not watched: {refusal}", interface.name);
                }
                Some(refusal) => return Err(refusal),
            }
        }
        if programs.attached.is_empty() {
            let message = "no interface could be watched".to_owned();
            return Err(Refusal::Other { what: "any".to_owned(), message });
        }
        Ok(programs)
    }

    fn attach(&mut self, interface: &Interface) -> Result<(), Refusal> {
        let attached = attach(self.probe.programs(), interface, self.mode)
            .inspect_err(|_| _ = self.given_up.insert(interface.index))?;
        announce(&attached);
        self.attached.push(attached);
        Ok(())
    }

    /// Whether a filter of clsact has to be taken away at the end.
    pub(super) fn use_clsact(&self) -> bool {
        let clsact =
            |one: &Attached| one.ingress == Hook::Clsact || one.egress == Some(Hook::Clsact);
        self.attached.iter().any(clsact)
    }

    /// Tells the programs what to go by.
    ///
    /// # Errors
    /// Where a map can't be written.
    fn configure(&mut self, settings: &Settings) -> Result<(), Refusal> {
        let (hosts, ports) = (settings.hosts.now(), settings.ports.now());
        let sampling = &settings.sampling;
        let (dns, rest) = (*sampling.dns(), *sampling.rest());
        let tunnels = settings.tunnels;
        let terms = Terms { hosts: &hosts, ports: &ports, dns, rest, tunnels };
        self.probe
            .configure(&terms)
            .map_err(|error| Refusal::of_map("configuring the programs", error))
    }

    /// What is watched, for those who ask.
    pub(super) fn watched(&self) -> Vec<api::Watched> {
        self.attached.iter().map(describe).collect()
    }

    /// Follows changes, and the load where it is to, until the end is asked for; then the programs are
    /// taken away.
    fn follow(mut self, with: &Follower) {
        let Follower { changes, reloads, settings, source, losses, adaptive, stop } = with;
        let counters = self.probe.counters();
        let (mut load, mut before) = (Load::default(), Counters::default());
        let mut looked = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if changes.wait(PATIENCE) {
                self.look(settings, source, losses);
            }
            if let Some(config) = reloads.try_iter().last() {
                self.reload(&config.cli, settings);
            }
            self.probe.flush_log();
            if !*adaptive || looked.elapsed() < SECOND {
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
                settings.sampling.halve(halvings.dns, halvings.rest);
                let (dns, rest) = settings.sampling.percents();
                info!("inspecting {dns} % of DNS and {rest} % of the rest");
                if let Err(refusal) = self.configure(settings) {
                    error!("{refusal}");
                }
            }
        }
    }

    /// Goes by these options from now on.
    fn reload(&mut self, cli: &Cli, settings: &Settings) {
        self.selection.set_hosts(cli);
        let interfaces = self.attached.iter().map(|one| &one.interface);
        self.selection.follow_hosts(interfaces, settings);
        if let Err(refusal) = self.configure(settings) {
            error!("{refusal}");
        }
    }

    /// Looks at the interfaces as they are now.
    fn look(&mut self, settings: &Settings, source: &Source, losses: &Losses) {
        let listed = match interface::list() {
            Ok(listed) => listed,
            Err(error) => return error!("the interfaces cannot be listed: {error}"),
        };
        let wanted = self.selection.wanted(&listed);
        let wants = |index: u32| wanted.iter().any(|interface| interface.index == index);
        self.attached.retain_mut(|one| {
            let now = listed.iter().find(|interface| interface.index == one.interface.index);
            let Some(now) = now else {
                warn!("{} is gone", one.interface.name);
                return false;
            };
            if now.name != one.interface.name {
                info!("{} is called {} now", one.interface.name, now.name);
            }
            one.interface.clone_from(now);
            // One that is down has no packets, and may come back.
            let keep = !now.up || wants(now.index) || !self.selection.is_any();
            if !keep {
                info!("{} is no longer watched: its packets are seen elsewhere", now.name);
            }
            keep
        });
        self.given_up.retain(|&index| listed.iter().any(|interface| interface.index == index));
        for interface in wanted {
            let known = |one: &Attached| one.interface.index == interface.index;
            if self.attached.iter().any(known) || self.given_up.contains(&interface.index) {
                continue;
            }
            // That they can't be read is said where they are taken in.
            let counted = |probe: &Probe| -> u64 {
                probe.counters().read().map_or(0, |now| now.packets.iter().sum())
            };
            let before = counted(&self.probe);
            match self.attach(&interface) {
                Ok(()) => {
                    let counted = counted(&self.probe).saturating_sub(before);
                    let missed = unwatched(&interface, &self.listed, counted);
                    losses.lose("not_watched_yet", missed);
                }
                Err(refusal) => warn!("{} is not watched: {refusal}", interface.name),
            }
        }
        self.listed = listed;
        source.watch(self.watched());
        let interfaces = self.attached.iter().map(|one| &one.interface);
        if self.selection.follow_hosts(interfaces, settings)
            && let Err(refusal) = self.configure(settings)
        {
            error!("{refusal}");
        }
    }
}

/// Packets of an interface that came before it was watched, which is said. `before` is how it was
/// before that, and `counted` what has been counted since: where other interfaces are busy that is
/// too much, and the packets of the moment itself are left out.
pub(super) fn unwatched(before: &Interface, last: &[Interface], counted: u64) -> u64 {
    let name = &before.name;
    let now = interface::read(name).map_or(0, |now| now.unwatched(last));
    let missed = now.saturating_sub(counted).max(before.unwatched(last));
    if missed > 0 {
        warn!("{name}: {missed} packets came before it was watched");
    }
    missed
}

fn describe(attached: &Attached) -> api::Watched {
    api::Watched {
        name: attached.interface.name.clone(),
        ingress: Some(attached.ingress.to_string()),
        egress: attached.egress.map(|hook| hook.to_string()),
        refused: attached.refused.iter().map(Refusal::to_string).collect(),
    }
}

fn announce(attached: &Attached) {
    let name = &attached.interface.name;
    for refusal in &attached.refused {
        info!("not used: {refusal}");
    }
    let ingress = attached.ingress;
    if let Some(egress) = attached.egress {
        info!("watching {name}: {ingress} in, {egress} out");
    } else {
        info!("watching {name}: {ingress} in, which sees all that is sent too");
    }
}

/// What is followed, and who is told.
pub(super) struct Follower {
    /// Where changes of interfaces are told of.
    pub(super) changes: Changes,
    /// New options.
    pub(super) reloads: Receiver<Arc<Config>>,
    /// What the summaries depend on.
    pub(super) settings: Arc<Settings>,
    /// Gets what is watched.
    pub(super) source: Arc<Source>,
    /// Gets what was not watched.
    pub(super) losses: Losses,
    /// Whether sampling is adapted to the load.
    pub(super) adaptive: bool,
    /// Set when the end is asked for.
    pub(super) stop: Arc<AtomicBool>,
}

impl Follower {
    /// Starts to follow on a thread of its own.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub(super) fn start(self, programs: Programs) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("interfaces".to_owned())
            .spawn(move || programs.follow(&self))
    }
}
