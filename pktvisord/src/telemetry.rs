//! The daemon's own log, on standard error.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, LogFormat};

/// Starts the log as the arguments say; `RUST_LOG` refines it.
pub fn start(cli: &Cli) {
    // What is neither a file nor standard input is an interface, and served like a replay.
    let live = cli.target != "-" && !Path::new(&cli.target).exists();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (_, 0) if !live && cli.replay.is_none() => "warn",
        (_, 0 | 1) => "info",
        // What aya makes of the object is of use to those who work on it.
        _ => "debug,aya=info,aya_obj=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A log that can't be written has nowhere to say so.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.log_format {
        LogFormat::Text => log.without_time().init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
