//! Live capture: interfaces in, HTTP out, until the end is asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use ahash::RandomState;
use pktvisor_common::abi::RINGS;
use pktvisor_common::flow::FlowKey;
use tracing::{info, warn};

use super::follow::Follower;
use super::hooks::Programs;
use super::listen::Listeners;
use super::reload::{self, Owner};
use super::through_libpcap::Captures;
use super::{AppError, Run, service, settings, system};
use crate::aggregate::geo::GeoDatabases;
use crate::aggregate::host::HostSpec;
use crate::aggregate::lane::{Lane, Share};
use crate::aggregate::pipeline::Clock;
use crate::aggregate::settings::{Settings, Tunnels};
use crate::aggregate::workers::Workers;
use crate::cli::{Cli, Switch, exit};
use crate::config::Config;
use crate::input::interface::selection::is_tunnel;
use crate::input::interface::{self, Interface, Selected, Sides};
use crate::input::kernel::attach::CaptureMode;
use crate::input::kernel::drain::{Drain, DrainStatus};
use crate::input::kernel::probe::Probe;
use crate::input::netlink::Requests;
use crate::input::netlink::changes::Changes;
use crate::input::target::Target;
use crate::serve::live::{Live, Source};
use crate::system::privileges::{Keep, Rights, User, give_up, raise, raise_limits};

/// How long programs are attached before anything is served; the rest follows in the background. Loading
/// them takes more than a second on a slow machine, and an answer is due two seconds after the start.
const AT_ONCE: Duration = Duration::from_millis(250);

/// What is to be watched, and what is HOST besides the addresses of that.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// Names; `None` is all interfaces, those too that come later.
    names: Option<Vec<String>>,
    hosts: HostSpec,
    /// The addresses of what is watched, when they were last looked at.
    addresses: BTreeSet<IpAddr>,
}

impl Selection {
    fn of(cli: &Cli, target: &Target) -> Self {
        let names = match target {
            Target::Interfaces(names) => Some(names.clone()),
            Target::Address(_, name) => Some(vec![name.clone()]),
            _ => None,
        };
        Self { names, hosts: cli.hosts.clone().unwrap_or_default(), addresses: BTreeSet::new() }
    }

    /// From now on these are HOST besides the addresses of what is watched.
    pub(super) fn set_hosts(&mut self, cli: &Cli) {
        self.hosts = cli.hosts.clone().unwrap_or_default();
    }

    /// Whether all interfaces are watched.
    pub(super) fn is_any(&self) -> bool {
        self.names.is_none()
    }

    /// Those of the interfaces that are to be watched, devices first.
    pub(super) fn wanted(&self, listed: &[Interface]) -> Vec<(Interface, Selected)> {
        let mut wanted: Vec<(Interface, Selected)> = match &self.names {
            Some(names) => {
                let found = |name: &String| listed.iter().find(|i| i.name == *name).cloned();
                let named = names.iter().filter_map(found);
                named
                    .map(|interface| (interface.clone(), Sides::named(&interface).into()))
                    .collect()
            }
            None => interface::select(listed)
                .into_iter()
                .filter_map(|(interface, verdict)| Some((interface.clone(), verdict.ok()?)))
                .collect(),
        };
        wanted.sort_by_key(|(interface, _)| !interface.physical);
        wanted
    }

    /// What is HOST: the addresses of the watched interfaces and of what stands on them, and those
    /// given besides.
    pub(super) fn hosts(&mut self, watched: &BTreeSet<u32>, listed: &[Interface]) -> HostSpec {
        match Requests::open().and_then(|requests| requests.addresses()) {
            Ok(addresses) => {
                self.addresses = interface::host::addresses(watched, listed, &addresses);
            }
            Err(error) => warn!("the addresses of the interfaces cannot be listed: {error}"),
        }
        let mut hosts = self.hosts.clone();
        self.addresses.iter().for_each(|&address| hosts.insert(address));
        if self.addresses.iter().any(IpAddr::is_loopback) {
            hosts.insert_loopback();
        }
        hosts
    }

    /// Sets HOST anew where addresses have changed. Returns whether they have.
    pub(super) fn follow_hosts(
        &mut self,
        watched: &BTreeSet<u32>,
        listed: &[Interface],
        settings: &Settings,
    ) -> bool {
        let before = self.addresses.clone();
        let hosts = self.hosts(watched, listed);
        let changed = *settings.hosts.now() != hosts;
        if changed {
            let added = named(self.addresses.difference(&before));
            let removed = named(before.difference(&self.addresses));
            info!("the addresses of HOST have changed: added {added}, removed {removed}");
            settings.hosts.set(hosts);
        }
        changed
    }
}

/// Addresses in a log line, the first of them.
fn named<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    const MOST: usize = 8;
    let all: Vec<String> = addresses.map(IpAddr::to_string).collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=MOST => all.join(" "),
        more => format!("{} and {} more", all[..MOST].join(" "), more - MOST),
    }
}

/// Where packets come from, set up and not started yet.
enum Capture {
    Kernel(Box<Programs>),
    Libpcap(Box<Captures>),
}

/// Rings for so many workers: a power of two.
fn rings(workers: usize) -> usize {
    1 << workers.min(RINGS).ilog2()
}

/// Whether a filter goes with the mode of capture.
pub(super) fn check_mode(cli: &Cli) -> Result<(), AppError> {
    match (cli.capture, &cli.filter) {
        (CaptureMode::Auto | CaptureMode::Libpcap, _) | (_, None) => Ok(()),
        (_, Some(_)) => Err(AppError::FilterInKernel),
    }
}

/// The user to become, who is looked up once: later /etc/passwd is out of reach. Root becomes an
/// unprivileged one, unless told otherwise.
pub(super) fn user(cli: &Cli) -> Result<Option<User>, AppError> {
    let Some(user) = &cli.user else { return Ok(User::instead_of_root()) };
    let problem = |problem| AppError::User { user: user.clone(), problem };
    user.parse().map(Some).map_err(problem)
}

/// The name of a tunnel that is watched together with an interface that its outer packets can pass.
fn watched_tunnel(wanted: &[(Interface, Selected)]) -> Option<&str> {
    let is_below = |one: &Interface| !is_tunnel(&one.kind) && !one.loopback;
    let below = wanted.iter().any(|(one, _)| is_below(one));
    let tunnel = wanted.iter().find(|(one, _)| is_tunnel(&one.kind)).filter(|_| below);
    tunnel.map(|(one, _)| one.name.as_str())
}

/// What flows are hashed with until the next start.
fn new_flow_key() -> FlowKey {
    let random = RandomState::new();
    FlowKey::of([0, 1].map(|number| random.hash_one(number)))
}

/// Watches interfaces until the end is asked for.
pub(super) fn watch(
    config: &Arc<Config>,
    target: &Target,
    databases: GeoDatabases,
) -> Result<u8, AppError> {
    let cli = &config.cli;
    reload::ignore_for_now();
    raise();
    raise_limits();
    let user = user(cli)?;
    check_mode(cli)?;
    let mut selection = Selection::of(cli, target);
    let changes = Changes::listen().map_err(system("cannot listen for changes of interfaces"))?;
    let listed = interface::list().map_err(system("cannot list the interfaces"))?;
    let wanted = selection.wanted(&listed);
    if selection.is_any() {
        for (interface, verdict) in interface::select(&listed) {
            if let Err(reason) = verdict {
                info!("{} is not watched: {reason}", interface.name);
            }
        }
    }
    if wanted.is_empty() {
        return Err(AppError::NoInterface);
    }
    let listeners = Listeners::bind(cli)?;
    let hosts = selection.hosts(&wanted.iter().map(|(one, _)| one.index).collect(), &listed);
    if hosts.is_empty() {
        info!("no addresses and no -H HOSTSPEC: what is received is in, what is sent is out");
    }
    let mut settings = settings(cli, hosts, databases, new_flow_key())?;
    if settings.naming.fleet.is_public() {
        info!(
            "no --fleet-key: whoever sends packets can forge distinct counts and top lists; `pktvisord \
             fleet-key --new FILE` makes a key"
        );
    }
    if settings.tunnels == Tunnels::Inner
        && let Some(tunnel) = watched_tunnel(&wanted)
        && let Some(settings) = Arc::get_mut(&mut settings)
    {
        info!(
            "--tunnels inner is not used: {tunnel} is watched itself, and the packets in it would count \
             a second time at the interface below"
        );
        settings.tunnels = Tunnels::Outer;
    }
    let load = || {
        let probe = Probe::load(rings(cli.workers()), cli.ring_size())?;
        Programs::start(probe, selection.clone(), cli.capture, &settings, &listed, AT_ONCE)
    };
    let (programs, fallback) = match (cli.capture, &cli.filter) {
        (CaptureMode::Libpcap, _) => (None, None),
        (CaptureMode::Auto, Some(_)) => {
            (None, Some("a filter (-b) is run by libpcap's capture".to_owned()))
        }
        (mode, _) => match load() {
            Ok(programs) => (Some(programs), None),
            Err(refusal) if mode == CaptureMode::Auto => (None, Some(refusal.to_string())),
            Err(refusal) => return Err(AppError::Kernel(refusal)),
        },
    };
    if let Some(reason) = &fallback {
        warn!("capture goes through libpcap: {reason}");
    }
    // What needs rights is done from here on before they are given up, and threads are started
    // after that.
    let (capture, keep) = match programs {
        Some(programs) if programs.use_clsact() => {
            (Capture::Kernel(Box::new(programs)), Keep::NetAdmin)
        }
        Some(programs) => (Capture::Kernel(Box::new(programs)), Keep::Nothing),
        None => (
            Capture::Libpcap(Box::new(Captures::open(cli, selection, &listed, AT_ONCE)?)),
            Keep::NetRaw,
        ),
    };
    service::connect();
    let files = (!cli.no_sandbox).then(|| config.files());
    let rights = give_up(user.as_ref(), keep, files.as_deref())?;
    let run = Run::new(config, Arc::clone(&settings))?;
    match capture {
        Capture::Kernel(programs) => from_kernel(&run, *programs, changes, listeners, rights),
        Capture::Libpcap(captures) => captures.run(&run, fallback, &changes, listeners, rights),
    }
}

fn from_kernel(
    run: &Run<'_>,
    mut programs: Programs,
    changes: Changes,
    listeners: Listeners,
    rights: Rights,
) -> Result<u8, AppError> {
    let rings = programs.probe.take_rings().map_err(AppError::Kernel)?;
    let of = rings.len();
    let window = run.window_of(of);
    let clock: Arc<Clock> = Arc::default();
    let statuses: Vec<Arc<DrainStatus>> = rings.iter().map(|_| Arc::default()).collect();
    let drains = rings.into_iter().zip(&statuses).enumerate().map(|(at, (ring, status))| {
        let lane = Lane::of_spread_packets(
            Arc::clone(&run.settings),
            Arc::clone(&window),
            Share { lane: at, of },
        );
        let counting = (at == 0).then(|| (programs.probe.counters(), Arc::clone(&clock)));
        Drain { lane, ring, counting, status: Arc::clone(status) }
    });
    let drains: Vec<Drain> = drains.collect();
    let workers = Workers::start_with(drains, |drain, work, lanes| drain.run(&work, &lanes))
        .map_err(system("cannot start a thread"))?;
    let source = Arc::new(Source::interfaces("ebpf", None, statuses, rights));
    source.watch(programs.watching());
    let live = Arc::new(Live::new(
        Arc::clone(&run.settings),
        window,
        clock,
        workers.control(),
        Arc::clone(&source),
    ));
    let http = listeners.options();
    let servers = listeners.serve(&live, &run.shutdown, &run.runtime)?;
    let (settings, stop) = (Arc::clone(&run.settings), run.shutdown.flag());
    let (losses, adaptive) = (workers.losses(), run.cli.adaptive == Switch::On);
    let (sender, reloads) = channel();
    reload::listen(run, workers.control(), Owner::Kernel(sender), http)?;
    let follower = Follower { changes, reloads, settings, source, losses, adaptive, stop };
    let follower = follower.start(programs).map_err(system("cannot start a thread"))?;
    servers.wait(&run.runtime);
    // The programs go first, so that nothing is counted any more that nobody takes in. If the
    // thread panicked, that was reported where it happened.
    let _ = follower.join();
    drop(workers);
    Ok(exit::OK)
}
