//! Programs at the hooks of interfaces: attached, verified, attached again, detached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pktvisor_common::api;
use pktvisor_common::loss::Loss;
use tracing::{error, info, warn};

use super::attach::{self, Attached, CaptureMode, Hook};
use super::check::{Check, Finding};
use super::clsact::State;
use super::probe::{Probe, Terms};
use super::refusal::Refusal;
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::Losses;
use crate::input::interface::missed::Baselines;
use crate::input::interface::scope::Scope;
use crate::input::interface::tunnels::Tunnels;
use crate::input::interface::{self, Interface, OneSided, Selected, Sides};
use crate::input::netlink::Requests;
use crate::input::status::Watching;

/// A program at one hook.
struct Hooked {
    program: Attached,
    check: Check,
}

/// An interface and its hooks.
struct Watched {
    interface: Interface,
    one_sided: Option<OneSided>,
    /// Programs for received and for sent packets.
    hooks: [Option<Hooked>; 2],
    /// Why packets of a side do not reach their program.
    faults: [Option<String>; 2],
}

/// The sides in the order of [`Watched::hooks`].
const SIDES: [(bool, Sides, &str); 2] =
    [(false, Sides::INGRESS, "received"), (true, Sides::EGRESS, "sent")];

/// The kernel programs and the interfaces they are attached to.
pub(super) struct Programs {
    /// The loaded programs and their maps.
    pub(super) probe: Probe,
    pub(super) scope: Scope,
    mode: CaptureMode,
    watched: BTreeMap<u32, Watched>,
    /// Interfaces that cannot be watched. Each is reported once.
    given_up: BTreeSet<u32>,
    baselines: Baselines,
    tunnels: Tunnels,
    /// Number of interfaces still to be watched.
    pending: u64,
}

impl Programs {
    /// Configures the loaded programs and attaches them to the selected interfaces. With `any`,
    /// interfaces that are not attached within `at_once` follow later.
    ///
    /// # Errors
    /// [`Refusal`] if the kernel refuses.
    pub(super) fn start(
        probe: Probe,
        scope: Scope,
        mode: CaptureMode,
        settings: &Settings,
        listed: &[Interface],
        at_once: Duration,
    ) -> Result<Self, Refusal> {
        let mut programs = Self {
            probe,
            scope,
            mode,
            watched: BTreeMap::new(),
            given_up: BTreeSet::new(),
            baselines: Baselines::start(listed),
            tunnels: Tunnels::default(),
            pending: 0,
        };
        programs.configure(settings)?;
        // Later the daemon may lack the rights to load them.
        attach::load_all(programs.probe.programs(), mode);
        let deadline = Instant::now() + at_once;
        let is_any = programs.scope.is_any();
        let mut last = None;
        for (interface, selected) in programs.scope.wanted(listed) {
            if is_any && Instant::now() >= deadline && !programs.watched.is_empty() {
                programs.pending += 1;
                continue;
            }
            match programs.attach(&interface, selected) {
                Ok(()) => {}
                // With `any`, one interface may lack what the others support.
                Err(refusal) if is_any && !refusal.is_general() => {
                    warn!("cannot watch {}: {refusal}", interface.name);
                    last = Some(refusal);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if programs.watched.is_empty() {
            let message = "no interface can be watched".to_owned();
            return Err(last.unwrap_or(Refusal::Other { what: "any".to_owned(), message }));
        }
        Ok(programs)
    }

    /// Attaches the missing programs of an interface, and detaches those that are not wanted. If the kernel
    /// refuses one, the interface stays as it was.
    fn attach(&mut self, interface: &Interface, selected: Selected) -> Result<(), Refusal> {
        let index = interface.index;
        let wanted = [selected.sides.ingress, selected.sides.egress];
        let there = self.watched.get(&index).map_or(Sides::NONE, Watched::sides);
        let mut missing = [None, None];
        let Sides { ingress, egress } = selected.sides.without(there);
        for ((new, is_missing), (egress, side, _)) in
            missing.iter_mut().zip([ingress, egress]).zip(SIDES)
        {
            if is_missing {
                let program = attach::attach(self.probe.programs(), interface, self.mode, egress);
                let program = program.inspect_err(|_| _ = self.given_up.insert(index))?;
                let check = Check::new(interface.packets(side));
                *new = Some(Hooked { program, check });
            }
        }
        let watched = self.watched.entry(index).or_insert_with(|| Watched {
            interface: interface.clone(),
            one_sided: None,
            hooks: [None, None],
            faults: [None, None],
        });
        watched.interface.clone_from(interface);
        watched.one_sided = selected.one_sided;
        let sides = watched.hooks.iter_mut().zip(&mut watched.faults);
        for (((hook, fault), new), wanted) in sides.zip(missing).zip(wanted) {
            if !wanted || new.is_some() {
                (*hook, *fault) = (new, None);
            }
        }
        watched.announce();
        Ok(())
    }

    /// Returns true if the daemon must keep `CAP_NET_ADMIN`: it checks the filters of clsact and
    /// removes them at the end.
    pub(super) fn use_clsact(&self) -> bool {
        let hooks = self.watched.values().flat_map(|one| &one.hooks).flatten();
        hooks.into_iter().any(|hook| hook.program.hook == Hook::Clsact)
    }

    /// Returns true if interfaces are still to be watched.
    pub(super) fn is_pending(&self) -> bool {
        self.pending > 0
    }

    /// Writes the settings to the maps of the programs.
    ///
    /// # Errors
    /// [`Refusal`] if a map cannot be written.
    pub(super) fn configure(&mut self, settings: &Settings) -> Result<(), Refusal> {
        let (hosts, ports) = (settings.hosts.now(), settings.ports.now());
        let sampling = &settings.sampling;
        let (dns, rest) = (*sampling.dns(), *sampling.rest());
        let tunnels = settings.tunnels;
        let flow_key = settings.flow_key;
        let terms = Terms { hosts: &hosts, ports: &ports, dns, rest, tunnels, flow_key };
        self.probe
            .configure(&terms)
            .map_err(|error| Refusal::of_map("configuring the kernel programs", error))
    }

    /// Updates HOST if addresses have changed.
    pub(super) fn follow_hosts(&mut self, listed: &[Interface], settings: &Settings) {
        // Include interfaces that are still to be watched.
        let wanted = self.scope.wanted(listed).into_iter().map(|(interface, _)| interface.index);
        let watched = self.watched.keys().copied().chain(wanted).collect();
        if self.scope.follow_hosts(&watched, listed, settings)
            && let Err(refusal) = self.configure(settings)
        {
            error!("{refusal}");
        }
    }

    /// Returns what is watched, for the status.
    pub(super) fn watching(&self) -> Watching {
        Watching {
            watched: self.watched.values().map(Watched::describe).collect(),
            pending: self.pending,
            faults: self.watched.values().flat_map(|one| &one.faults).flatten().cloned().collect(),
        }
    }

    /// Updates the watched interfaces, and attaches programs until `deadline` or until `stop` is
    /// set.
    pub(super) fn look(&mut self, losses: &Losses, deadline: Instant, stop: &AtomicBool) {
        let listed = match interface::list() {
            Ok(listed) => listed,
            Err(error) => return error!("cannot list the interfaces: {error}"),
        };
        let wanted: BTreeMap<u32, (Interface, Selected)> =
            self.scope.wanted(&listed).into_iter().map(|one| (one.0.index, one)).collect();
        let is_any = self.scope.is_any();
        self.watched.retain(|index, one| {
            let now = listed.iter().find(|interface| interface.is(&one.interface));
            let Some(now) = now else {
                warn!("interface {} is gone", one.interface.name);
                return false;
            };
            if now.name != one.interface.name {
                info!("{} was renamed to {}", one.interface.name, now.name);
            }
            one.interface.clone_from(now);
            // An interface that is down has no packets, and may come back up.
            let keep = !now.up || wanted.contains_key(index) || !is_any;
            if !keep {
                info!("stopped watching {}: its packets are seen elsewhere", now.name);
            }
            keep
        });
        self.given_up.retain(|&index| listed.iter().any(|interface| interface.index == index));
        let is_open = |programs: &Self, index: u32, sides: Sides| {
            let missing = |one: &Watched| one.sides() != sides;
            !programs.given_up.contains(&index) && programs.watched.get(&index).is_none_or(missing)
        };
        let open: BTreeSet<u32> = wanted
            .iter()
            .filter(|(index, (_, selected))| is_open(self, **index, selected.sides))
            .map(|(&index, _)| index)
            .collect();
        // Newly watched sides of an interface that is already watched were seen elsewhere until
        // now.
        self.baselines.look(&listed, |interface| {
            open.contains(&interface.index) && !self.watched.contains_key(&interface.index)
        });
        self.pending = open.len() as u64;
        for index in open {
            if Instant::now() >= deadline || stop.load(Ordering::Relaxed) {
                break;
            }
            let Some((interface, selected)) = wanted.get(&index) else { continue };
            self.pending -= 1;
            self.attach_and_count(interface, selected, losses);
        }
    }

    fn attach_and_count(&mut self, interface: &Interface, selected: &Selected, losses: &Losses) {
        let name = &interface.name;
        let there = self.watched.get(&interface.index).map_or(Sides::NONE, Watched::sides);
        let new = selected.sides.without(there);
        // The drain logs an error if the counters cannot be read.
        let counted = |probe: &Probe| -> u64 {
            probe.counters().read().map_or(0, |now| now.packets.iter().sum())
        };
        let before = counted(&self.probe);
        if let Err(refusal) = self.attach(interface, selected.clone()) {
            return warn!("cannot watch {name}: {refusal}");
        }
        // `counted` includes other interfaces. If these are busy, too much is subtracted, and
        // packets during the attachment do not count as missed.
        let counted = counted(&self.probe).saturating_sub(before);
        let now = interface::read(interface.index);
        let missed = now.map_or(0, |now| self.baselines.missed(&now, new)).saturating_sub(counted);
        let missed = missed.max(self.baselines.missed(interface, new));
        if missed > 0 {
            warn!("{name}: {missed} packets passed before capture started");
            losses.lose(Loss::NotWatchedYet, missed);
        }
    }

    /// Verifies that the programs are at their hooks and that packets reach them; attaches them
    /// again if not. With `filters` it also lists the filters of clsact, which costs one request
    /// each.
    pub(super) fn verify(&mut self, filters: bool, losses: &Losses) {
        let requests = Requests::open();
        let listed = requests.as_ref().ok().and_then(|requests| requests.links().ok());
        let Some(listed) = listed else { return };
        let requests = requests.as_ref().ok().filter(|_| filters);
        let indexes = self.watched.keys().copied().collect();
        losses.lose(Loss::LeftOut, self.tunnels.look(&listed, &indexes));
        let mut watched = std::mem::take(&mut self.watched);
        for (index, one) in &mut watched {
            let Some(now) = listed.iter().find(|now| now.index == *index) else { continue };
            let sides = one.hooks.iter_mut().zip(&mut one.faults).zip(SIDES);
            for ((hook, known), (egress, side, said)) in sides {
                let Some(hooked) = hook else { continue };
                let place = format!("{}: {} for {said} packets", now.name, hooked.program.hook);
                let counted = now.packets(side);
                let seen = self.probe.take_seen(*index, egress).unwrap_or(true);
                let finding = hooked.check.look(counted, seen);
                let state = hooked.program.state(*index, requests);
                let why = match (&state, finding) {
                    (State::Gone, _) => "the program is no longer at its hook".to_owned(),
                    (_, Finding::Fine) => {
                        if let Some(fault) = known.take_if(|_| seen) {
                            info!("packets reach the program again; resolved: {fault}");
                        }
                        continue;
                    }
                    (State::Behind(other), Finding::Missed(n) | Finding::Blind(n)) => {
                        format!("{n} packets did not reach the program: {other} runs before it")
                    }
                    (State::First, Finding::Missed(n) | Finding::Blind(n)) => format!(
                        "{n} packets did not reach the program: an earlier program or XDP consumed them"
                    ),
                };
                let fault = format!("{place}: {why}");
                if state != State::Gone && matches!(finding, Finding::Blind(_)) {
                    if known.is_none() {
                        error!("{fault}; attaching the program again does not help");
                    }
                    *known = Some(fault);
                    continue;
                }
                let check = hooked.check;
                // The kernel accepts a program only once at each hook, so detach the old one first.
                *hook = None;
                match attach::attach(self.probe.programs(), now, self.mode, egress) {
                    Ok(program) => {
                        warn!("{fault}; attached it again");
                        *hook = Some(Hooked { program, check });
                    }
                    Err(refusal) => {
                        let fault = format!("{fault}; cannot attach it again: {refusal}");
                        error!("{fault}");
                        *known = Some(fault);
                    }
                }
            }
        }
        self.watched = watched;
        // A packet after the counters were read may have left a mark that is now cleared.
        let listed = interface::list().unwrap_or_default();
        for now in listed {
            let Some(one) = self.watched.get_mut(&now.index) else { continue };
            for (hook, (_, side, _)) in one.hooks.iter_mut().zip(SIDES) {
                if let Some(hooked) = hook {
                    hooked.check.cleared(now.packets(side));
                }
            }
        }
    }

    /// Removes filters. Links stay until the process ends: the kernel takes about 15 ms for each,
    /// one after the other, and closes them at the end of the process anyway.
    pub(super) fn leave(&mut self) {
        for hook in
            std::mem::take(&mut self.watched).into_values().flat_map(|one| one.hooks).flatten()
        {
            hook.program.leave();
        }
    }
}

impl Watched {
    fn sides(&self) -> Sides {
        let [ingress, egress] = &self.hooks;
        Sides { ingress: ingress.is_some(), egress: egress.is_some() }
    }

    fn describe(&self) -> api::Watched {
        let hook = |hook: &Option<Hooked>| hook.as_ref().map(|one| one.program.hook.to_string());
        let [ingress, egress] = &self.hooks;
        let refused = self.hooks.iter().flatten().flat_map(|hook| &hook.program.refused);
        api::Watched {
            name: self.interface.name.clone(),
            ingress: hook(ingress),
            egress: hook(egress),
            one_sided: self.one_sided.as_ref().map(OneSided::to_string),
            refused: refused.map(Refusal::to_string).collect(),
        }
    }

    fn announce(&self) {
        let api::Watched { name, ingress, egress, one_sided, refused } = self.describe();
        for refusal in &refused {
            info!("hook not used: {refusal}");
        }
        let why = one_sided.map(|why| format!(": {why}")).unwrap_or_default();
        match (ingress, egress) {
            (Some(ingress), Some(egress)) => info!("watching {name}: {ingress} in, {egress} out"),
            (Some(ingress), None) => info!("watching {name}: {ingress} in only{why}"),
            (None, Some(egress)) => info!("watching {name}: {egress} out only{why}"),
            (None, None) => {}
        }
    }
}
