//! Live capture through libpcap: interfaces that are opened, end, and are opened again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pktvisor_common::api;
use pktvisor_common::loss::Loss;
use tracing::{error, info, warn};

use super::listen::Listeners;
use super::missed::Baselines;
use super::reload::{self, Owner};
use super::tunnels::Tunnels;
use super::watch::Selection;
use super::{AppError, Run, system};
use crate::aggregate::pipeline::Pipeline;
use crate::aggregate::settings::{Settings, Shared};
use crate::cli::{Cli, exit};
use crate::decode::block::LinkType;
use crate::input::interface::{self, Interface, OneSided, Selected};
use crate::input::libpcap::{Budget, Captured, LiveCapture, OpenError};
use crate::input::netlink::changes::Changes;
use crate::serve::live::{Live, Source, Watching};
use crate::system::privileges::Rights;
use crate::time::{SECOND, wall_clock};

/// How long packets can lie in the kernel before libpcap hands them over.
const LAG: i64 = SECOND * 3 / 10;
/// Blocks between the threads that capture and the one that feeds.
const BLOCKS: usize = 8;
/// Between two looks at the counters of tunnels.
const COUNT: Duration = Duration::from_secs(10);
/// How long interfaces are opened before packets have their turn.
const SLICE: Duration = Duration::from_millis(100);
/// How long to wait for packets before time passes without them.
const TICK: Duration = Duration::from_millis(50);

/// An interface that is opened.
struct One {
    interface: Interface,
    selected: Selected,
    /// Bytes of its buffer.
    buffer: u64,
    state: State,
}

enum State {
    /// It waits for its thread.
    Opened(LiveCapture),
    /// It is captured from, until the flag is set.
    Started(Arc<AtomicBool>, JoinHandle<()>),
}

/// Interfaces that are captured from.
pub(super) struct Captures {
    selection: Selection,
    filter: Arc<Shared<Option<String>>>,
    ones: Vec<One>,
    budget: Budget,
    /// Interfaces that can't be opened, which is said once.
    given_up: BTreeSet<u32>,
    baselines: Baselines,
    /// Interfaces that are still to be opened.
    pending: u64,
}

impl Captures {
    /// Opens what is selected, of `any` as far as that is done within `at_once`.
    ///
    /// # Errors
    /// Where libpcap refuses, of `any` all of it.
    pub(super) fn open(
        cli: &Cli,
        selection: Selection,
        listed: &[Interface],
        at_once: Duration,
    ) -> Result<Self, AppError> {
        let filter = Arc::new(cli.filter.clone().into());
        let wanted = selection.wanted(listed);
        let budget = Budget::new(cli.capture_memory(), wanted.len());
        let (ones, given_up, baselines) = (Vec::new(), BTreeSet::new(), Baselines::start(listed));
        let pending = 0;
        let mut captures = Self { selection, filter, ones, budget, given_up, baselines, pending };
        let mut last = None;
        let deadline = Instant::now() + at_once;
        for (interface, selected) in wanted {
            let late = Instant::now() >= deadline && !captures.ones.is_empty();
            if late && captures.selection.is_any() {
                captures.pending += 1;
                continue;
            }
            match captures.add(&interface, selected) {
                Ok(()) => {}
                Err(error) if captures.selection.is_any() => {
                    warn!("{} is not watched: {error}", interface.name);
                    last = Some(error);
                }
                Err(error) => return Err(AppError::Libpcap(error)),
            }
        }
        match last {
            Some(error) if captures.ones.is_empty() => Err(AppError::Libpcap(error)),
            None if captures.ones.is_empty() => Err(AppError::NoInterface),
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

    /// Captures, sums up and serves until the end is asked for.
    ///
    /// # Errors
    /// Where a thread can't be started, or a port be listened on.
    pub(super) fn run(
        mut self,
        run: &Run<'_>,
        fallback: Option<String>,
        changes: &Changes,
        listeners: Listeners,
        rights: Rights,
    ) -> Result<u8, AppError> {
        let window = run.window();
        let mut pipeline = run.pipeline(&window, true)?;
        let source = Arc::new(Source::interfaces("libpcap", fallback, Vec::new(), rights));
        let live = Arc::new(Live::new(
            Arc::clone(&run.settings),
            window,
            pipeline.clock(),
            pipeline.control().unwrap_or_default(),
            Arc::clone(&source),
        ));
        let (sender, captured) = sync_channel(BLOCKS);
        let links = self.ones.iter().filter_map(One::link).collect();
        self.start(run, &sender).map_err(system("cannot start a thread"))?;
        source.watch(self.watching());
        pipeline.advance(wall_clock());
        let http = listeners.options();
        let servers = listeners.serve(&live, &run.shutdown, &run.runtime)?;
        let (reloads_sender, reloads) = channel();
        let lanes = pipeline.control().unwrap_or_default();
        reload::listen(run, lanes, Owner::Libpcap { owner: reloads_sender, links }, http)?;
        let (mut tunnels, mut counted) = (Tunnels::default(), Instant::now());
        while !run.shutdown.asked() {
            if counted.elapsed() >= COUNT {
                counted = Instant::now();
                let indexes = self.ones.iter().map(|one| one.interface.index).collect();
                let listed = interface::list().unwrap_or_default();
                pipeline.lose(Loss::LeftOut, tunnels.look(&listed, &indexes));
            }
            if let Some(config) = reloads.try_iter().last() {
                self.reload(&config.cli, &run.settings);
            }
            match captured.recv_timeout(TICK) {
                Ok(Captured::Block(block)) => pipeline.feed(&block, 0..block.packets.len()),
                Ok(Captured::Lost { kernel, interface }) => {
                    pipeline.lose(Loss::KernelDrops, kernel);
                    pipeline.lose(Loss::IfDrops, interface);
                }
                Ok(Captured::Ended { index, message }) => {
                    for one in self.drop_if(|one| one.interface.index == index) {
                        warn!("{} is no longer watched: {message}", one.name);
                    }
                    // It may be there again already.
                    self.look(run, &sender, &mut pipeline);
                    source.watch(self.watching());
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if changes.wait(Duration::ZERO) || self.pending > 0 {
                self.look(run, &sender, &mut pipeline);
                source.watch(self.watching());
            }
            pipeline.advance(wall_clock() - LAG);
        }
        drop(captured);
        for one in self.ones {
            if let State::Started(_, thread) = one.state {
                // If it panicked, that was reported where it happened.
                let _ = thread.join();
            }
        }
        servers.wait(&run.runtime);
        Ok(exit::OK)
    }

    /// Goes by these options from now on.
    fn reload(&mut self, cli: &Cli, settings: &Settings) {
        self.filter.set(cli.filter.clone());
        self.selection.set_hosts(cli);
        self.follow_hosts(&interface::list().unwrap_or_default(), settings);
    }

    fn follow_hosts(&mut self, listed: &[Interface], settings: &Settings) {
        let watched = self.ones.iter().map(|one| one.interface.index).collect();
        self.selection.follow_hosts(&watched, listed, settings);
    }

    /// Lets go of some, whose threads end by themselves.
    fn drop_if(&mut self, is: impl Fn(&One) -> bool) -> Vec<Interface> {
        let (gone, left) = std::mem::take(&mut self.ones).into_iter().partition(is);
        self.ones = left;
        let gone: Vec<One> = gone;
        if !gone.is_empty() {
            // There may be memory for others now.
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

    /// Starts what was opened.
    fn start(&mut self, run: &Run<'_>, sender: &SyncSender<Captured>) -> std::io::Result<()> {
        let mut failed = Ok(());
        let opened = std::mem::take(&mut self.ones);
        for One { interface, selected, buffer, state } in opened {
            let state = match state {
                State::Started(..) => Ok(state),
                State::Opened(capture) => {
                    let let_go = Arc::new(AtomicBool::new(false));
                    let stop = run.shutdown.flag();
                    let thread = capture.start(sender.clone(), stop, Arc::clone(&let_go));
                    thread.map(|thread| State::Started(let_go, thread)).inspect(|_| {
                        let why = selected.one_sided.as_ref();
                        let why = why.map(|why| format!(", one side: {why}")).unwrap_or_default();
                        info!("watching {} through libpcap{why}", interface.name);
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

    /// Looks at the interfaces as they are now: lets go of those that are seen elsewhere, and opens
    /// those that are there again.
    fn look(&mut self, run: &Run<'_>, sender: &SyncSender<Captured>, pipeline: &mut Pipeline) {
        let listed = match interface::list() {
            Ok(listed) => listed,
            Err(error) => return error!("the interfaces cannot be listed: {error}"),
        };
        let wanted = self.selection.wanted(&listed);
        for one in &mut self.ones {
            let now = listed.iter().find(|now| now.is(&one.interface));
            let Some(now) = now else { continue };
            if now.name != one.interface.name {
                info!("{} is called {} now", one.interface.name, now.name);
            }
            one.interface.clone_from(now);
        }
        let before: BTreeSet<u32> = self.ones.iter().map(|one| one.interface.index).collect();
        let is_any = self.selection.is_any();
        let sides = |index: u32| {
            let found = wanted.iter().find(|(wanted, _)| wanted.index == index);
            found.map(|(_, selected)| selected.sides)
        };
        // One that is down ends by itself.
        let elsewhere = |one: &One| {
            let wanted = sides(one.interface.index);
            is_any && one.interface.up && wanted != Some(one.selected.sides)
        };
        for one in self.drop_if(elsewhere) {
            if sides(one.index).is_none() {
                info!("{} is no longer watched: its packets are seen elsewhere", one.name);
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
        // Sides of a watched interface that are watched from now on were seen elsewhere until now.
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
                        warn!("{}: {missed} packets came before it was watched", interface.name);
                        pipeline.lose(Loss::NotWatchedYet, missed);
                    }
                }
                Err(error) => warn!("{} is not watched: {error}", interface.name),
            }
        }
        if let Err(error) = self.start(run, sender) {
            error!("cannot start a thread: {error}");
        }
        self.follow_hosts(&listed, &run.settings);
    }

    fn watching(&self) -> Watching {
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

impl One {
    fn link(&self) -> Option<LinkType> {
        match &self.state {
            State::Opened(capture) => Some(capture.link()),
            State::Started(..) => None,
        }
    }
}
