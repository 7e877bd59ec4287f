//! SIGHUP: options are read again, and what can change while the daemon runs is taken over; all of it,
//! or nothing where anything is wrong.

use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::error::{AppError, system};
use super::run::Run;
use super::service;
use crate::aggregate::geo::GeoDatabases;
use crate::aggregate::settings::{DnsPorts, Settings};
use crate::aggregate::workers::WorkerControl;
use crate::config::{Change, Config, GeoFiles, InputTuning, Model, Reloadable};
use crate::decode::block::LinkType;
use crate::input::filter::Filter;
use crate::input::{self, Reloads};
use crate::serve::Options;
use crate::serve::access::{Access, AccessError};
use crate::system::telemetry;
use crate::time::{SECOND, wall_clock};

/// What takes changes over.
struct Reloader {
    /// What the daemon was started with.
    started: Arc<Config>,
    config: Mutex<Arc<Config>>,
    settings: Arc<Settings>,
    workers: WorkerControl,
    reloads: Reloads,
    input: Sender<input::Options>,
    http: Options,
}

/// Lets SIGHUP pass until [`listen`] takes care of it: by itself it would end the daemon.
pub(super) fn ignore_for_now() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Reads the options again on each SIGHUP, as long as the runtime lives.
///
/// # Errors
/// Where the system refuses a handler.
pub(super) fn listen(
    run: &Run<'_>,
    workers: WorkerControl,
    (reloads, input): (Reloads, Sender<input::Options>),
    http: Options,
) -> Result<(), AppError> {
    let _guard = run.runtime.enter();
    let hangups = signal(SignalKind::hangup()).map_err(system("cannot listen for signals"))?;
    let reloader = Arc::new(Reloader {
        started: Arc::clone(run.config),
        config: Mutex::new(Arc::clone(run.config)),
        settings: Arc::clone(&run.settings),
        workers,
        reloads,
        input,
        http,
    });
    run.runtime.spawn(reload_on(hangups, reloader));
    Ok(())
}

async fn reload_on(mut hangups: Signal, reloader: Arc<Reloader>) {
    while hangups.recv().await.is_some() {
        let reloader = Arc::clone(&reloader);
        // Databases are read. A panic is reported where it happens.
        service::reloading();
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        service::reloaded();
    }
}

/// Why options are not taken over.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Geo(#[from] crate::aggregate::geo::GeoError),
    #[error(transparent)]
    Filter(#[from] crate::input::filter::FilterError),
}

/// What helps where a file is not let read that was there at the start, or is new.
const OTHER_FOLDER: &str = "; files in other folders than those of the start need a restart, and file modes \
                            hold for root too, once it has given up its capabilities";

/// Whether a file may not be read.
fn is_denied(problem: &ReloadError) -> bool {
    let causes = std::iter::successors(Some(problem as &dyn std::error::Error), |e| e.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// New options, all of which are right.
struct Checked {
    config: Config,
    databases: GeoDatabases,
    /// Of the files that were named at the start.
    access: Access,
}

fn check(started: &Config, reloads: &Reloads) -> Result<Checked, ReloadError> {
    let config = started.again()?;
    check_filter(
        &config.model.input.tuning,
        reloads.filter.as_deref().unwrap_or(&[LinkType::Ethernet]),
    )?;
    let databases = databases(&config.model.policy.geo)?;
    let access = Access::open(&started.model.serve.access)?;
    Ok(Checked { config, databases, access })
}

/// Compiles the filter for these.
fn check_filter(
    tuning: &InputTuning,
    links: &[LinkType],
) -> Result<(), crate::input::filter::FilterError> {
    let Some(filter) = &tuning.filter else { return Ok(()) };
    let mut filter = Filter::new(filter);
    links.iter().try_for_each(|&link| filter.prepare(link))
}

/// Reads these databases.
pub(super) fn databases(files: &GeoFiles) -> Result<GeoDatabases, crate::aggregate::geo::GeoError> {
    GeoDatabases::open(files.geo_city.as_deref(), files.geo_asn.as_deref())
}

impl Reloader {
    /// Whether a change of this option is taken over.
    fn takes(&self, change: &Change) -> bool {
        change.reloadable && (change.key != "filter" || self.reloads.filter.is_some())
    }

    fn reload(&self) {
        let mut current = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let Checked { config, databases, access } = match check(&self.started, &self.reloads) {
            Ok(checked) => checked,
            Err(problem) => {
                let hint = if is_denied(&problem) { OTHER_FOLDER } else { "" };
                return error!("all options stay as they were: {problem}{hint}");
            }
        };
        let config = Arc::new(config);
        self.apply(&config.reloadable(), databases);
        self.http.replace_access(&access);
        self.tell(&current, &config);
        *current = config;
    }

    /// Takes over what can change. The databases were read from the files that are named there.
    fn apply(&self, now: &Reloadable<'_>, databases: GeoDatabases) {
        let Reloadable { tuning, log, .. } = now;
        telemetry::set_level(log);
        self.settings.sampling.set_percent(tuning.max_deep_sample);
        let ports = DnsPorts::new(tuning.dns_ports());
        if ports != *self.settings.ports.now() && self.reloads.is_live {
            // Until programs in the kernel go by them, and workers have heard of it.
            self.settings.other_ports.set_until(wall_clock().saturating_add(SECOND));
        }
        self.settings.ports.set(ports);
        self.settings.databases.set(databases);
        let (hosts, filter) = (tuning.hosts(), tuning.filter.clone());
        // If the input is gone, the daemon ends, or the capture has.
        let _ = self.input.send(input::Options { hosts, filter });
        self.workers.reload();
    }

    fn tell(&self, before: &Config, now: &Config) {
        for Change { key, before, now, .. } in
            now.changes_since(before).iter().filter(|change| self.takes(change))
        {
            info!("{key}: {before} -> {now}");
        }
        // These are still as they were at the start, whatever was read since.
        let cumulative = now.changes_since(&self.started);
        for Change { key, before, now, .. } in cumulative.iter().filter(|c| !self.takes(c)) {
            warn!("{key}: {before} -> {now} needs a restart; `pktvisord --check-config` checks it");
        }
        info!("options were read again, and the files that they name");
    }
}

/// Checks what options name too, and says that all is right.
///
/// # Errors
/// What is wrong.
pub(super) fn check_all(config: &Config) -> Result<String, AppError> {
    let Model { input, policy, process, serve, .. } = &config.model;
    databases(&policy.geo)?;
    let access = Access::open(&serve.access)?;
    super::anonymizer(policy)?;
    check_filter(&input.tuning, &[LinkType::Ethernet]).map_err(AppError::Filter)?;
    super::user(process)?;
    super::listen::addresses(serve, &access)?;
    super::live_options(&config.model).check()?;
    let file = match &config.file {
        Some(file) => file.display().to_string(),
        None => "no file".to_owned(),
    };
    Ok(format!("the configuration is right ({file})\n"))
}
