//! The captured interfaces: opened, ended, checked, opened again.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pktvisor_common::api;
use pktvisor_common::loss::Loss;
use tracing::{error, info, warn};

use super::capture::{Budget, Captured, LiveCapture, OpenError};
use crate::aggregate::pipeline::Pipeline;
use crate::aggregate::settings::{Settings, Shared};
use crate::decode::block::LinkType;
use crate::input::interface::missed::Baselines;
use crate::input::interface::scope::Scope;
use crate::input::interface::{self, Interface, OneSided, Selected};
use crate::input::live::LiveError;
use crate::input::status::Watching;
use crate::input::{Context, Options};

/// Time spent opening interfaces before packets get their turn.
const SLICE: Duration = Duration::from_millis(100);

/// An open interface.
struct One {
    interface: Interface,
    selected: Selected,
    /// Size of its buffer, in bytes.
    buffer: u64,
    state: State,
}

enum State {
    /// Open, without a thread yet.
    Opened(LiveCapture),
    /// Captured by a thread, until the flag is set.
    Started(Arc<AtomicBool>, JoinHandle<()>),
}

/// All captured interfaces.
pub(super) struct Captures {
    scope: Scope,
    filter: Arc<Shared<Option<String>>>,
    ones: Vec<One>,
    budget: Budget,
    /// Interfaces that cannot be opened. Each is reported once.
    given_up: BTreeSet<u32>,
    baselines: Baselines,
    /// Number of interfaces still to be opened.
    pending: u64,
}

impl Captures {
    /// Opens the selected interfaces. With `any`, those that are not open within `at_once` follow
    /// later.
    ///
    /// # Errors
    /// [`LiveError`] if libpcap refuses an interface; with `any`, if it refuses all.
    pub(super) fn open(
        scope: Scope,
        filter: Option<String>,
        memory: u64,
        listed: &[Interface],
        at_once: Duration,
    ) -> Result<Self, LiveError> {
        let filter = Arc::new(filter.into());
        let wanted = scope.wanted(listed);
        let budget = Budget::new(memory, wanted.len());
        let (ones, given_up, baselines) = (Vec::new(), BTreeSet::new(), Baselines::start(listed));
        let pending = 0;
        let mut captures = Self { scope, filter, ones, budget, given_up, baselines, pending };
        let mut last = None;
        let deadline = Instant::now() + at_once;
        for (interface, selected) in wanted {
            let late = Instant::now() >= deadline && !captures.ones.is_empty();
            if late && captures.scope.is_any() {
                captures.pending += 1;
                continue;
            }
            match captures.add(&interface, selected) {
                Ok(()) => {}
                Err(error) if captures.scope.is_any() => {
                    warn!("cannot watch {}: {error}", interface.name);
                    last = Some(error);
                }
                Err(error) => return Err(LiveError::Libpcap(error)),
            }
        }
        match last {
            Some(error) if captures.ones.is_empty() => Err(LiveError::Libpcap(error)),
            None if captures.ones.is_empty() => Err(LiveError::NoInterface),
            _ => Ok(captures),
        }
    }

    fn add(&mut self, interface: &Interface, selected: Selected) -> Result<(), OpenError> {
        let memory = || OpenError::Memory { interface: interface.name.clone() };
        let Some(buffer) = self.budget.take() else {
            self.given_up.insert(interface.index);
            return Err(memory());
        };
        let filter = Arc::clone(&self.filter);
        let capture = LiveCapture::open(interface, selected.sides, buffer, filter);
        let capture = capture.inspect_err(|_| {
            self.budget.give(buffer);
            self.given_up.insert(interface.index);
        })?;
        let (interface, state) = (interface.clone(), State::Opened(capture));
        self.ones.push(One { interface, selected, buffer, state });
        Ok(())
    }

    /// Applies new options.
    pub(super) fn reload(&mut self, options: Options, settings: &Settings) {
        self.filter.set(options.filter);
        self.scope.set_hosts(options.hosts);
        self.follow_hosts(&interface::list().unwrap_or_default(), settings);
    }

    fn follow_hosts(&mut self, listed: &[Interface], settings: &Settings) {
        let watched = self.indexes();
        self.scope.follow_hosts(&watched, listed, settings);
    }

    /// Releases the interfaces that match. Their threads end on their own.
    fn drop_if(&mut self, is: impl Fn(&One) -> bool) -> Vec<Interface> {
        let (gone, left) = std::mem::take(&mut self.ones).into_iter().partition(is);
        self.ones = left;
        let gone: Vec<One> = gone;
        if !gone.is_empty() {
            // There may be memory for other interfaces now.
            self.given_up.clear();
        }
        let gone = gone.into_iter().map(|one| {
            self.budget.give(one.buffer);
            if let State::Started(let_go, _) = one.state {
                let_go.store(true, Ordering::Relaxed);
            }
            one.interface
        });
        gone.collect()
    }

    /// Starts the threads of opened interfaces.
    pub(super) fn start(
        &mut self,
        stop: &Arc<AtomicBool>,
        sender: &SyncSender<Captured>,
    ) -> io::Result<()> {
        let mut failed = Ok(());
        let opened = std::mem::take(&mut self.ones);
        for One { interface, selected, buffer, state } in opened {
            let state = match state {
                State::Started(..) => Ok(state),
                State::Opened(capture) => {
                    let let_go = Arc::new(AtomicBool::new(false));
                    let stop = Arc::clone(stop);
                    let thread = capture.start(sender.clone(), stop, Arc::clone(&let_go));
                    thread.map(|thread| State::Started(let_go, thread)).inspect(|_| {
                        let why = selected.one_sided.as_ref();
                        let why =
                            why.map(|why| format!(", one side only: {why}")).unwrap_or_default();
                        info!("watching {} with libpcap{why}", interface.name);
                    })
                }
            };
            match state {
                Ok(state) => self.ones.push(One { interface, selected, buffer, state }),
                Err(error) => {
                    self.budget.give(buffer);
                    failed = Err(error);
                }
            }
        }
        failed
    }

    /// Updates the interfaces: releases those that are seen elsewhere, and opens those that are new
    /// or back.
    pub(super) fn look(
        &mut self,
        context: &Context,
        sender: &SyncSender<Captured>,
        pipeline: &mut Pipeline,
    ) {
        let listed = match interface::list() {
            Ok(listed) => listed,
            Err(error) => return error!("cannot list the interfaces: {error}"),
        };
        let wanted = self.scope.wanted(&listed);
        for one in &mut self.ones {
            let now = listed.iter().find(|now| now.is(&one.interface));
            let Some(now) = now else { continue };
            if now.name != one.interface.name {
                info!("{} was renamed to {}", one.interface.name, now.name);
            }
            one.interface.clone_from(now);
        }
        let before = self.indexes();
        let is_any = self.scope.is_any();
        let sides = |index: u32| {
            let found = wanted.iter().find(|(wanted, _)| wanted.index == index);
            found.map(|(_, selected)| selected.sides)
        };
        // The capture of an interface that is down ends on its own.
        let elsewhere = |one: &One| {
            let wanted = sides(one.interface.index);
            is_any && one.interface.up && wanted != Some(one.selected.sides)
        };
        for one in self.drop_if(elsewhere) {
            if sides(one.index).is_none() {
                info!("stopped watching {}: its packets are seen elsewhere", one.name);
            }
        }
        self.given_up.retain(|&index| listed.iter().any(|interface| interface.index == index));
        let open: Vec<(Interface, Selected)> = wanted
            .into_iter()
            .filter(|(interface, _)| {
                let known = |one: &One| one.interface.index == interface.index;
                interface.up
                    && !self.ones.iter().any(known)
                    && !self.given_up.contains(&interface.index)
            })
            .collect();
        // Newly watched sides of an interface that is already watched were seen elsewhere until
        // now.
        self.baselines.look(&listed, |one| {
            !before.contains(&one.index) && open.iter().any(|(open, _)| open.index == one.index)
        });
        self.pending = open.len() as u64;
        let deadline = Instant::now() + SLICE;
        for (interface, selected) in open {
            if Instant::now() >= deadline {
                break;
            }
            self.pending -= 1;
            let sides = selected.sides;
            match self.add(&interface, selected) {
                Ok(()) => {
                    let now = interface::read(interface.index);
                    let missed = self.baselines.missed(now.as_ref().unwrap_or(&interface), sides);
                    if missed > 0 {
                        warn!("{}: {missed} packets passed before capture started", interface.name);
                        pipeline.lose(Loss::NotWatchedYet, missed);
                    }
                }
                Err(error) => warn!("cannot watch {}: {error}", interface.name),
            }
        }
        if let Err(error) = self.start(&context.shutdown.flag(), sender) {
            error!("cannot start a thread: {error}");
        }
        self.follow_hosts(&listed, &context.settings);
    }

    /// Returns the link types of interfaces that are open but not started.
    pub(super) fn links(&self) -> Vec<LinkType> {
        self.ones.iter().filter_map(One::link).collect()
    }

    /// Returns the indexes of the open interfaces.
    pub(super) fn indexes(&self) -> BTreeSet<u32> {
        self.ones.iter().map(|one| one.interface.index).collect()
    }

    /// Returns true if interfaces are still to be opened.
    pub(super) fn is_pending(&self) -> bool {
        self.pending > 0
    }

    /// Releases an interface whose capture has ended, for the reason that libpcap gives.
    pub(super) fn end(&mut self, index: u32, message: &str) {
        for one in self.drop_if(|one| one.interface.index == index) {
            warn!("stopped watching {}: {message}", one.name);
            // The interface may be up again already.
            if let Some(now) = interface::read(one.index) {
                self.baselines.watched_until(&now);
            }
        }
    }

    /// Returns what is watched, for the status.
    pub(super) fn watching(&self) -> Watching {
        let watched = |one: &One| api::Watched {
            name: one.interface.name.clone(),
            one_sided: one.selected.one_sided.as_ref().map(OneSided::to_string),
            ..api::Watched::default()
        };
        Watching {
            watched: self.ones.iter().map(watched).collect(),
            pending: self.pending,
            faults: Vec::new(),
        }
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        for one in self.ones.drain(..) {
            if let State::Started(let_go, thread) = one.state {
                let_go.store(true, Ordering::Relaxed);
                // The panic hook has reported a panic of the thread.
                let _ = thread.join();
            }
        }
    }
}

impl One {
    fn link(&self) -> Option<LinkType> {
        match &self.state {
            State::Opened(capture) => Some(capture.link()),
            State::Started(..) => None,
        }
    }
}
