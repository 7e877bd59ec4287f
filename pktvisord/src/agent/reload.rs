//! SIGHUP: reads the options again and applies those that can change while the daemon runs. If
//! anything is wrong, none is applied.

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

/// Applies changed options.
struct Reloader {
    /// The options at the start.
    started: Arc<Config>,
    config: Mutex<Arc<Config>>,
    settings: Arc<Settings>,
    workers: WorkerControl,
    reloads: Reloads,
    input: Sender<input::Options>,
    http: Options,
}

/// Ignores SIGHUP until [`listen`] handles it: its default action ends the daemon.
pub(super) fn ignore_for_now() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Reloads the options on each SIGHUP, as long as the runtime lives.
///
/// # Errors
/// [`AppError::System`] if the signal handler cannot be installed.
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
        // A reload reads databases, so it blocks. The panic hook reports a panic.
        service::reloading();
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        service::reloaded();
    }
}

/// Reasons why options are not applied.
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

/// Hint for a file that cannot be opened although it was readable at the start, or that is new.
const OTHER_FOLDER: &str = "; files in folders that were not named at the start need a restart, and without \
                            its capabilities, root needs read permission too";

/// Returns true if a file was not read for lack of permission.
fn is_denied(problem: &ReloadError) -> bool {
    let causes = std::iter::successors(Some(problem as &dyn std::error::Error), |e| e.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// New options that passed all checks.
struct Checked {
    config: Config,
    databases: GeoDatabases,
    /// Read from the files that were named at the start.
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

/// Compiles the filter for these link types.
fn check_filter(
    tuning: &InputTuning,
    links: &[LinkType],
) -> Result<(), crate::input::filter::FilterError> {
    let Some(filter) = &tuning.filter else { return Ok(()) };
    let mut filter = Filter::new(filter);
    links.iter().try_for_each(|&link| filter.prepare(link))
}

/// Opens the GeoIP databases.
pub(super) fn databases(files: &GeoFiles) -> Result<GeoDatabases, crate::aggregate::geo::GeoError> {
    GeoDatabases::open(files.geo_city.as_deref(), files.geo_asn.as_deref())
}

impl Reloader {
    /// Returns true if a change of this option can be applied without a restart.
    fn takes(&self, change: &Change) -> bool {
        change.reloadable && (change.key != "filter" || self.reloads.filter.is_some())
    }

    fn reload(&self) {
        let mut current = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let Checked { config, databases, access } = match check(&self.started, &self.reloads) {
            Ok(checked) => checked,
            Err(problem) => {
                let hint = if is_denied(&problem) { OTHER_FOLDER } else { "" };
                return error!("keeping the previous configuration: {problem}{hint}");
            }
        };
        let config = Arc::new(config);
        self.apply(&config.reloadable(), databases);
        self.http.replace_access(&access);
        self.tell(&current, &config);
        *current = config;
    }

    /// Applies the options that can change. `databases` were read from the files that `now` names.
    fn apply(&self, now: &Reloadable<'_>, databases: GeoDatabases) {
        let Reloadable { tuning, log, .. } = now;
        telemetry::set_level(log);
        self.settings.sampling.set_percent(tuning.max_deep_sample);
        let ports = DnsPorts::new(tuning.dns_ports());
        if ports != *self.settings.ports.now() && self.reloads.is_live {
            // One second, until the kernel programs use the new ports and the workers have seen
            // them.
            self.settings.other_ports.set_until(wall_clock() + SECOND);
        }
        self.settings.ports.set(ports);
        self.settings.databases.set(databases);
        let (hosts, filter) = (tuning.hosts(), tuning.filter.clone());
        // Sending fails if the input has ended: the daemon is stopping, or the capture is complete.
        let _ = self.input.send(input::Options { hosts, filter });
        self.workers.reload();
    }

    fn tell(&self, before: &Config, now: &Config) {
        for Change { key, before, now, .. } in
            now.changes_since(before).iter().filter(|change| self.takes(change))
        {
            info!("{key}: {before} -> {now}");
        }
        // These keep their values from the start until a restart, whatever was read since.
        let cumulative = now.changes_since(&self.started);
        for Change { key, before, now, .. } in cumulative.iter().filter(|c| !self.takes(c)) {
            warn!(
                "{key}: {before} -> {now} needs a restart; check it with `pktvisord --check-config`"
            );
        }
        info!("configuration reloaded");
    }
}

/// Checks the options and the files they name. Returns the confirmation to print.
///
/// # Errors
/// The first problem found.
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
    Ok(format!("configuration OK ({file})\n"))
}
