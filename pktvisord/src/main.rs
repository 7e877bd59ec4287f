//! Entry point of the daemon.

use std::process::ExitCode;
use std::sync::Arc;

use pktvisord::cli::exit;
use pktvisord::config::{Config, ConfigError};
use pktvisord::{app, telemetry};

fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os().collect()) {
        Ok(config) => Arc::new(config),
        // Help and version are such errors too, with an exit code of their own.
        Err(ConfigError::Arguments(error)) => error.exit(),
        Err(ConfigError::File(error)) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    telemetry::start(&config.cli);
    match app::run(&config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
