//! What the daemon does with its arguments: summarize a capture, serve one, or watch interfaces.

mod error;
pub mod fleet_key;
mod listen;
pub mod output;
mod reload;
mod run;
mod service;
mod summarize;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::channel;

use ahash::RandomState;
use pktvisor_common::flow::FlowKey;
use pktvisor_common::sketch::key::FleetKey;
use tracing::info;

pub use self::error::AppError;
use self::error::system;
use self::listen::Listeners;
use self::run::Run;
use crate::aggregate::geo::GeoDatabases;
use crate::aggregate::host::HostSpec;
use crate::aggregate::naming::{NameKey, Naming};
use crate::aggregate::settings::{DnsPorts, OtherPorts, Sampling, Settings, Tunnels};
use crate::aggregate::shard::PARTITIONS;
use crate::cli::{Cli, Switch, exit};
use crate::config::Config;
use crate::input::Input;
use crate::input::file::{CaptureReader, FileInput, FileOptions, Speed};
use crate::input::kernel::KernelOptions;
use crate::input::live::{Interfaces, LiveOptions};
use crate::input::target::{Target, resolve};
use crate::serve::live::Live;
use crate::store::Store;
use crate::system::privileges::{Rights, User, give_up, raise, raise_limits};

/// Runs the daemon. Returns the exit code where nothing went wrong.
///
/// # Errors
/// [`AppError`], to be reported by the caller.
pub fn run(config: &Arc<Config>) -> Result<u8, AppError> {
    let cli = &config.cli;
    if cli.print_config {
        return print(&config.print());
    }
    if cli.check_config {
        return print(&reload::check_all(config)?);
    }
    let target = resolve(&cli.target)?;
    let databases = reload::databases(cli)?;
    match (&target, cli.replay) {
        (Target::File(_) | Target::Stdin, speed) => read(config, &target, databases, speed),
        (_, Some(_)) => Err(AppError::ReplayOfLive),
        (_, None) => watch(config, &target, databases),
    }
}

/// Prints what was asked for instead of a run.
fn print(text: &str) -> Result<u8, AppError> {
    let written = io::stdout().write_all(text.as_bytes());
    let name = || "standard output".to_owned();
    written.map_err(|source| AppError::Output { name: name(), source })?;
    Ok(exit::OK)
}

/// Reads a capture: summarizes it, or replays it at a speed.
fn read(
    config: &Arc<Config>,
    target: &Target,
    databases: GeoDatabases,
    replay: Option<Speed>,
) -> Result<u8, AppError> {
    let cli = &config.cli;
    if replay.is_some() {
        reload::ignore_for_now();
    }
    let settings = settings(cli, cli.hosts.clone().unwrap_or_default(), databases, FlowKey::FIXED)?;
    let run = Run::new(config, Arc::new(settings))?;
    let options = FileOptions {
        filter: cli.filter.clone(),
        strict: cli.strict,
        interrupt: Some(run.shutdown.flag()),
    };
    let opened = match target {
        Target::File(path) => CaptureReader::open(path, &options),
        _ => CaptureReader::stdin(&options),
    };
    let reader = match opened {
        Err(_) if run.shutdown.asked() => return Ok(exit::INTERRUPTED),
        opened => opened?,
    };
    if cli.hosts.is_none() {
        info!("no -H HOSTSPEC: the direction of all packets is unknown");
    }
    let input = FileInput {
        reader,
        name: cli.target.clone(),
        speed: replay.unwrap_or(Speed::Max),
        workers: workers(cli),
        shows_progress: replay.is_none() && !cli.quiet,
    };
    if replay.is_none() {
        return summarize::summarize(&run, input);
    }
    let listeners = Listeners::bind(cli)?;
    serve(&run, Box::new(input), listeners, None)
}

/// Watches interfaces.
fn watch(config: &Arc<Config>, target: &Target, databases: GeoDatabases) -> Result<u8, AppError> {
    let cli = &config.cli;
    reload::ignore_for_now();
    raise();
    raise_limits();
    let user = user(cli)?;
    let options = live_options(cli);
    options.check()?;
    let mut interfaces = Interfaces::find(target, cli.hosts.clone().unwrap_or_default())?;
    let listeners = Listeners::bind(cli)?;
    let mut settings = settings(cli, interfaces.hosts(), databases, new_flow_key())?;
    if settings.naming.fleet.is_public() {
        info!(
            "no --fleet-key: whoever sends packets can forge distinct counts and top lists; `pktvisord \
             fleet-key --new FILE` makes a key"
        );
    }
    if settings.tunnels == Tunnels::Inner
        && let Some(tunnel) = interfaces.watched_tunnel()
    {
        info!(
            "--tunnels inner is not used: {tunnel} is watched itself, and the packets in it would count \
             a second time at the interface below"
        );
        settings.tunnels = Tunnels::Outer;
    }
    // What takes rights is done before they are given up, and threads are started after that.
    let input = interfaces.open(options, &settings)?;
    service::connect();
    let needs = input.needs().and(config.needs());
    let rights = give_up(user.as_ref(), &needs, !cli.no_sandbox)?;
    let run = Run::new(config, Arc::new(settings))?;
    serve(&run, input, listeners, Some(rights))
}

/// Serves what an input counts, until the end is asked for.
fn serve(
    run: &Run<'_>,
    input: Box<dyn Input>,
    listeners: Listeners,
    rights: Option<Rights>,
) -> Result<u8, AppError> {
    let no_thread = system("cannot start a thread");
    let store = Arc::new(Store::start(input.workers(), run.retention()).map_err(&no_thread)?);
    let reloads = input.reloads();
    let mut running = input.start(run.context(&store)).map_err(&no_thread)?;
    let status = running.status();
    let live = Arc::new(Live::new(
        Arc::clone(&run.settings),
        Arc::clone(&store),
        running.clock(),
        running.control(),
        Arc::clone(&status),
        rights,
    ));
    let http = listeners.options();
    let servers = listeners.serve(&live, &run.shutdown, &run.runtime)?;
    let (sender, changes) = channel();
    reload::listen(run, running.control(), (reloads, sender), http)?;
    let ended = running.run(&changes);
    if !run.shutdown.asked() {
        summarize::report_left_out(&run.config.cli, &store);
        match ended {
            Ok(()) => info!("the capture has ended; serving it until Ctrl-C"),
            Err(error) => tracing::error!("{error}; serving what was read until Ctrl-C"),
        }
    }
    servers.wait(&run.runtime);
    Ok(exit::OK)
}

/// How interfaces are captured from.
fn live_options(cli: &Cli) -> LiveOptions {
    LiveOptions {
        kernel: KernelOptions {
            mode: cli.capture,
            workers: cli.workers(),
            ring_size: cli.ring_size(),
            adaptive: cli.adaptive == Switch::On,
        },
        filter: cli.filter.clone(),
        capture_memory: cli.capture_memory(),
        workers: workers(cli),
    }
}

fn workers(cli: &Cli) -> usize {
    cli.workers().min(PARTITIONS)
}

/// The user to become, who is looked up once: later /etc/passwd is out of reach. Root becomes an
/// unprivileged one, unless told otherwise.
fn user(cli: &Cli) -> Result<Option<User>, AppError> {
    let Some(user) = &cli.user else { return Ok(User::instead_of_root()) };
    let problem = |problem| AppError::User { user: user.clone(), problem };
    user.parse().map(Some).map_err(problem)
}

/// What flows are hashed with until the next start.
fn new_flow_key() -> FlowKey {
    let random = RandomState::new();
    FlowKey::of([0, 1].map(|number| random.hash_one(number)))
}

fn settings(
    cli: &Cli,
    hosts: HostSpec,
    databases: GeoDatabases,
    flow_key: FlowKey,
) -> Result<Settings, AppError> {
    Ok(Settings {
        hosts: hosts.into(),
        ports: DnsPorts::new(cli.dns_ports()).into(),
        other_ports: OtherPorts::default(),
        databases: databases.into(),
        timeout: cli.dns_timeout(),
        naming: naming(cli)?,
        sampling: Sampling::new(cli.max_deep_sample),
        tunnels: cli.tunnels,
        flow_key,
    })
}

/// How names and addresses are kept.
fn naming(cli: &Cli) -> Result<Naming, AppError> {
    Ok(Naming {
        fleet: match &cli.fleet_key {
            Some(path) => fleet_key::read(path)?,
            None => FleetKey::of_seed(cli.sketch_seed),
        },
        public_suffix: cli.public_suffix,
        mask: cli.mask_ip,
        names: cli.hash_names.as_deref().map(NameKey::read).transpose()?,
    })
}
