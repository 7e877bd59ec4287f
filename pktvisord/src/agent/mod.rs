//! Runs the daemon: summarizes a capture, replays one, or watches interfaces.

mod error;
pub mod fleet_key;
mod history;
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
use tracing::{info, warn};

pub use self::error::AppError;
use self::error::system;
use self::listen::Listeners;
use self::run::Run;
use crate::aggregate::anonymize::{Anonymizer, NameKey};
use crate::aggregate::flows::PARTITIONS;
use crate::aggregate::geo::GeoDatabases;
use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::{DnsPorts, OtherPorts, Sampling, Settings, Tunnels};
use crate::cli::exit;
use crate::config::{Action, Config, Model, PolicyConfig, ProcessConfig, Switch};
use crate::input::Input;
use crate::input::file::{CaptureReader, FileInput, FileOptions, Speed};
use crate::input::kernel::KernelOptions;
use crate::input::live::{Interfaces, LiveOptions};
use crate::input::target::{Target, resolve};
use crate::serve::live::Live;
use crate::store::Store;
use crate::store::feed::WhenFull;
use crate::system::privileges::{Rights, User, give_up, raise, raise_limits};

/// Runs the daemon. Returns the exit code of a run without an error.
///
/// # Errors
/// [`AppError`], which the caller reports.
pub fn run(config: &Arc<Config>) -> Result<u8, AppError> {
    match config.action {
        Action::Print => return print(&config.print()),
        Action::Check => return print(&reload::check_all(config)?),
        Action::Run => {}
    }
    let model = &config.model;
    let target = resolve(&model.input.target)?;
    let databases = reload::databases(&model.policy.geo)?;
    match (&target, model.input.replay) {
        (Target::File(_) | Target::Stdin, speed) => read(config, &target, databases, speed),
        (_, Some(_)) => Err(AppError::ReplayOfLive),
        (_, None) => watch(config, &target, databases),
    }
}

/// Prints the text that the options ask for instead of a run.
fn print(text: &str) -> Result<u8, AppError> {
    let written = io::stdout().write_all(text.as_bytes());
    let name = || "standard output".to_owned();
    written.map_err(|source| AppError::Output { name: name(), source })?;
    Ok(exit::OK)
}

/// Reads a capture: summarizes it, or replays it at the given speed.
fn read(
    config: &Arc<Config>,
    target: &Target,
    databases: GeoDatabases,
    replay: Option<Speed>,
) -> Result<u8, AppError> {
    let model = &config.model;
    if replay.is_some() {
        reload::ignore_for_now();
    }
    let settings = settings(model, model.input.tuning.hosts(), databases, FlowKey::FIXED)?;
    let run = Run::new(config, Arc::new(settings))?;
    let options = FileOptions {
        filter: model.input.tuning.filter.clone(),
        strict: model.input.strict,
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
    if model.input.tuning.hosts.is_none() {
        info!("no -H HOSTSPEC: all packets have an unknown direction");
    }
    let input = FileInput {
        reader,
        name: model.input.target.clone(),
        speed: replay.unwrap_or(Speed::Max),
        workers: workers(model),
        shows_progress: replay.is_none() && !model.log.level.quiet,
    };
    if replay.is_none() {
        if model.history.history_dir.is_some() && !config.takes_history_from_file() {
            warn!("the summary of a file is not stored in a history; use --replay");
        }
        return summarize::summarize(&run, input);
    }
    let listeners = Listeners::bind(&model.serve)?;
    serve(&run, Box::new(input), listeners, None)
}

/// Watches interfaces.
fn watch(config: &Arc<Config>, target: &Target, databases: GeoDatabases) -> Result<u8, AppError> {
    let model = &config.model;
    reload::ignore_for_now();
    raise();
    raise_limits();
    let user = user(&model.process)?;
    let options = live_options(model);
    options.check()?;
    let mut interfaces = Interfaces::find(target, model.input.tuning.hosts())?;
    let listeners = Listeners::bind(&model.serve)?;
    let mut settings = settings(model, interfaces.hosts(), databases, new_flow_key())?;
    if settings.anonymizer.fleet.is_public() {
        info!(
            "no --fleet-key: anyone who sends packets can forge distinct counts and top lists; generate \
             a key with `pktvisord fleet-key --new FILE`"
        );
    }
    if settings.tunnels == Tunnels::Inner
        && let Some(tunnel) = interfaces.watched_tunnel()
    {
        info!(
            "ignoring --tunnels inner: the tunnel interface {tunnel} is watched itself, so packets in the \
             tunnel would count twice"
        );
        settings.tunnels = Tunnels::Outer;
    }
    // Privileged work comes before dropping privileges, and threads start after that.
    let input = interfaces.open(options, &settings)?;
    service::connect();
    let needs = input.needs().and(config.needs());
    let rights = give_up(user.as_ref(), &needs, !model.process.no_sandbox)?;
    let run = Run::new(config, Arc::new(settings))?;
    serve(&run, input, listeners, Some(rights))
}

/// Serves the counts of an input until shutdown is requested.
fn serve(
    run: &Run<'_>,
    input: Box<dyn Input>,
    listeners: Listeners,
    rights: Option<Rights>,
) -> Result<u8, AppError> {
    let no_thread = system("cannot start a thread");
    let store = Arc::new(Store::start(input.parts(), run.retention()).map_err(&no_thread)?);
    // Packets of a file can wait, those of an interface cannot.
    let when_full = if rights.is_some() { WhenFull::Drop } else { WhenFull::Wait };
    let history = history::open(run, &store);
    let writer = history::write(run, &store, history.as_ref(), when_full).map_err(&no_thread)?;
    let reloads = input.reloads();
    let mut running = input.start(run.context(&store)).map_err(&no_thread)?;
    let status = running.status();
    let live = Live::new(
        Arc::clone(&run.settings),
        Arc::clone(&store),
        running.clock(),
        running.control(),
        Arc::clone(&status),
        rights,
    );
    let live = Arc::new(live.with_history(history));
    let http = listeners.options();
    let servers = listeners.serve(&live, &run.shutdown, &run.runtime)?;
    let (sender, changes) = channel();
    reload::listen(run, running.control(), (reloads, sender), http)?;
    let ended = running.run(&changes);
    if !run.shutdown.asked() {
        summarize::report_left_out(&run.config.model, &store);
        match ended {
            Ok(()) => info!("reached the end of the capture; serving it until Ctrl-C"),
            Err(error) => tracing::error!("{error}; serving the packets read so far until Ctrl-C"),
        }
    }
    servers.wait(&run.runtime);
    if let Some(writer) = writer {
        // First: a minute that ends after this comes through the feed.
        let unended = live.unended();
        store.end_feed();
        writer.finish(unended);
    }
    Ok(exit::OK)
}

/// Returns the options of live capture.
fn live_options(model: &Model) -> LiveOptions {
    let Model { input, process, .. } = model;
    LiveOptions {
        kernel: KernelOptions {
            mode: input.capture,
            workers: process.workers(),
            ring_size: input.ring_size(),
            adaptive: input.adaptive == Switch::On,
        },
        filter: input.tuning.filter.clone(),
        capture_memory: input.capture_memory(),
        workers: workers(model),
    }
}

fn workers(model: &Model) -> usize {
    model.process.workers().min(PARTITIONS)
}

/// Returns the user to switch to. It is resolved here because the sandbox denies `/etc/passwd`
/// later. Root becomes an unprivileged user, unless the options name one.
fn user(process: &ProcessConfig) -> Result<Option<User>, AppError> {
    let Some(user) = &process.user else { return Ok(User::instead_of_root()) };
    let problem = |problem| AppError::User { user: user.clone(), problem };
    user.parse().map(Some).map_err(problem)
}

/// Generates the key of the flow hash, new at each start.
fn new_flow_key() -> FlowKey {
    let random = RandomState::new();
    FlowKey::of([0, 1].map(|number| random.hash_one(number)))
}

fn settings(
    model: &Model,
    hosts: HostSpec,
    databases: GeoDatabases,
    flow_key: FlowKey,
) -> Result<Settings, AppError> {
    Ok(Settings {
        hosts: hosts.into(),
        ports: DnsPorts::new(model.input.tuning.dns_ports()).into(),
        other_ports: OtherPorts::default(),
        databases: databases.into(),
        timeout: model.policy.dns_timeout(),
        anonymizer: anonymizer(&model.policy)?,
        sampling: Sampling::new(model.input.tuning.max_deep_sample),
        tunnels: model.input.tunnels,
        flow_key,
    })
}

/// Returns how names and addresses are anonymized.
fn anonymizer(policy: &PolicyConfig) -> Result<Anonymizer, AppError> {
    Ok(Anonymizer {
        fleet: match &policy.fleet_key {
            Some(path) => fleet_key::read(path)?,
            None => FleetKey::of_seed(policy.sketch_seed),
        },
        public_suffix: policy.public_suffix,
        mask: policy.mask_ip,
        names: policy.hash_names.as_deref().map(NameKey::read).transpose()?,
    })
}
