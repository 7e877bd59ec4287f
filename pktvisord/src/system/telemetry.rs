//! The daemon's own log, on standard error.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, LogFormat};

/// How the level is changed once the log has started.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// What is logged, as the arguments say; `RUST_LOG` refines it.
fn filter(cli: &Cli) -> EnvFilter {
    // What is neither a file nor standard input is an interface, and served like a replay.
    let live = cli.target != "-" && !Path::new(&cli.target).exists();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (_, 0) if !live && cli.replay.is_none() => "warn",
        (_, 0 | 1) => "info",
        // What aya makes of the object is of use to those who work on it.
        _ => "debug,aya=info,aya_obj=info",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}

/// Starts the log as the arguments say.
pub fn start(cli: &Cli) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(cli))
        .with_writer(std::io::stderr)
        .with_target(false)
        // A log that can't be written has nowhere to say so.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // An error of a reload means that there is no log any more.
    let set: Box<dyn Fn(EnvFilter) + Send + Sync> = match cli.log_format {
        LogFormat::Text => {
            let log = log.without_time().with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    };
    // It is started once.
    drop(SET_FILTER.set(set));
}

/// Logs from now on what these arguments say.
pub fn set_level(cli: &Cli) {
    if let Some(set) = SET_FILTER.get() {
        set(filter(cli));
    }
}
