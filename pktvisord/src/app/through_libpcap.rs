//! Live capture through libpcap: interfaces that are opened, end, and are opened again.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pktvisor_common::api;
use tracing::{error, info, warn};

use super::follow::unwatched;
use super::reload::{self, Owner};
use super::serve::Listeners;
use super::watch::Selection;
use super::{AppError, Run, system};
use crate::capture::interface::{self, Interface};
use crate::capture::libpcap::{Captured, LiveCapture, OpenError};
use crate::capture::netlink::Changes;
use crate::cli::{Cli, exit};
use crate::live::{Live, Source};
use crate::pipeline::Pipeline;
use crate::privileges::Rights;
use crate::settings::{Settings, Shared};
use crate::time::{SECOND, wall_clock};

/// How long packets can lie in the kernel before libpcap hands them over.
const LAG: i64 = SECOND * 3 / 10;
/// Blocks between the threads that capture and the one that feeds.
const BLOCKS: usize = 8;
/// How long to wait for packets before time passes without them.
const TICK: Duration = Duration::from_millis(50);

/// Interfaces that are captured from.
pub(super) struct Captures {
    selection: Selection,
    filter: Arc<Shared<Option<String>>>,
    /// Opened and not started yet.
    opened: Vec<(Interface, LiveCapture)>,
    /// Those on threads of their own.
    started: Vec<(Interface, JoinHandle<()>)>,
    /// How the interfaces were when they were last looked at.
    listed: Vec<Interface>,
}

impl Captures {
    /// Opens what is selected.
    ///
    /// # Errors
    /// Where libpcap refuses, of `any` all of it.
    pub(super) fn open(
        cli: &Cli,
        selection: Selection,
        listed: Vec<Interface>,
    ) -> Result<Self, AppError> {
        let filter = Arc::new(cli.filter.clone().into());
        let wanted = selection.wanted(&listed);
        let (opened, started) = (Vec::new(), Vec::new());
        let mut captures = Self { selection, filter, opened, started, listed };
        for interface in wanted {
            match captures.add(&interface) {
                Ok(()) => {}
                Err(error) if captures.selection.is_any() => {
                    warn!("{} is not watched: {error}", interface.name);
                }
                Err(error) => return Err(AppError::Libpcap(error)),
            }
        }
        if captures.opened.is_empty() { Err(AppError::NoInterface) } else { Ok(captures) }
    }

    fn add(&mut self, interface: &Interface) -> Result<(), OpenError> {
        let capture = LiveCapture::open(&interface.name, Arc::clone(&self.filter))?;
        self.opened.push((interface.clone(), capture));
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
            pipeline.snapshots().unwrap_or_default(),
            Arc::clone(&source),
        ));
        let (sender, captured) = sync_channel(BLOCKS);
        let links = self.opened.iter().map(|(_, capture)| capture.link()).collect();
        self.start(run, &sender).map_err(system("cannot start a thread"))?;
        source.watch(self.watched());
        pipeline.advance(wall_clock());
        let access = listeners.access();
        let servers = listeners.serve(&live, &run.shutdown, &run.runtime)?;
        let (reloads_sender, reloads) = channel();
        let lanes = pipeline.snapshots().unwrap_or_default();
        reload::listen(run, lanes, Owner::Libpcap { owner: reloads_sender, links }, access)?;
        while !run.shutdown.asked() {
            if let Some(config) = reloads.try_iter().last() {
                self.reload(&config.cli, &run.settings);
            }
            match captured.recv_timeout(TICK) {
                Ok(Captured::Block(block)) => pipeline.feed(&block, 0..block.packets.len()),
                Ok(Captured::Lost { kernel, interface }) => {
                    pipeline.lose("kernel_drops", kernel);
                    pipeline.lose("if_drops", interface);
                }
                Ok(Captured::Ended { interface, message }) => {
                    warn!("{interface} is no longer watched: {message}");
                    self.started.retain(|(started, _)| started.name != interface);
                    // It may be there again already.
                    self.look(run, &sender, &mut pipeline);
                    source.watch(self.watched());
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if changes.wait(Duration::ZERO) {
                self.look(run, &sender, &mut pipeline);
                source.watch(self.watched());
            }
            pipeline.advance(wall_clock() - LAG);
        }
        drop(captured);
        for (_, thread) in self.started {
            // If it panicked, that was reported where it happened.
            let _ = thread.join();
        }
        servers.wait(&run.runtime);
        Ok(exit::OK)
    }

    /// Goes by these options from now on.
    fn reload(&mut self, cli: &Cli, settings: &Settings) {
        self.filter.set(cli.filter.clone());
        self.selection.set_hosts(cli);
        let interfaces = self.started.iter().map(|(interface, _)| interface);
        self.selection.follow_hosts(interfaces, settings);
    }

    /// Starts what was opened.
    fn start(&mut self, run: &Run<'_>, sender: &SyncSender<Captured>) -> std::io::Result<()> {
        for (interface, capture) in self.opened.drain(..) {
            info!("watching {} through libpcap", interface.name);
            let thread = capture.start(sender.clone(), run.shutdown.flag())?;
            self.started.push((interface, thread));
        }
        Ok(())
    }

    /// Looks at the interfaces as they are now, and opens those that are there again.
    fn look(&mut self, run: &Run<'_>, sender: &SyncSender<Captured>, pipeline: &mut Pipeline) {
        let listed = match interface::list() {
            Ok(listed) => listed,
            Err(error) => return error!("the interfaces cannot be listed: {error}"),
        };
        for interface in self.selection.wanted(&listed) {
            let known = |(one, _): &(Interface, _)| one.name == interface.name;
            if !interface.up || self.started.iter().any(known) {
                continue;
            }
            let result = self.add(&interface);
            match result {
                Ok(()) => {
                    pipeline.lose("not_watched_yet", unwatched(&interface, &self.listed, 0));
                }
                Err(error) => warn!("{} is not watched: {error}", interface.name),
            }
        }
        self.listed = listed;
        if let Err(error) = self.start(run, sender) {
            error!("cannot start a thread: {error}");
        }
        let interfaces = self.started.iter().map(|(interface, _)| interface);
        self.selection.follow_hosts(interfaces, &run.settings);
    }

    fn watched(&self) -> Vec<api::Watched> {
        let watched = |(interface, _): &(Interface, _)| api::Watched {
            name: interface.name.clone(),
            ..api::Watched::default()
        };
        self.started.iter().map(watched).collect()
    }
}
