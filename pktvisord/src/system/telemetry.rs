//! The log of the daemon, on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Replaces the filter of the running log.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines
    Text,
    /// One JSON object per line
    Json,
}

/// Builds the log filter: `RUST_LOG` if it is set and valid, otherwise `directives`, in the same
/// syntax.
fn filter(directives: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives))
}

/// Starts the log.
pub fn start(directives: &str, format: LogFormat) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(directives))
        .with_writer(std::io::stderr)
        .with_target(false)
        // A log that cannot be written has nowhere to report that.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // Replacing the filter fails only if the log is gone.
    let set: Box<dyn Fn(EnvFilter) + Send + Sync> = match format {
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
    // `start` is called once.
    drop(SET_FILTER.set(set));
}

/// Replaces the log filter with these directives, unless `RUST_LOG` is set.
pub fn set_level(directives: &str) {
    if let Some(set) = SET_FILTER.get() {
        set(filter(directives));
    }
}
