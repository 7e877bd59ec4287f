//! Entry point of the daemon.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use pktvisor_common::generate::generate;
use pktvisord::agent;
use pktvisord::cli::exit;
use pktvisord::config::{Config, ConfigError, command, unknown_variables};
use pktvisord::system::telemetry;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match generate(command(), "8", &arguments) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::OUTPUT);
        }
    }
    match agent::fleet_key::fleet_key(&arguments) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(error.exit_code());
        }
    }
    let config = match Config::load(arguments) {
        Ok(config) => Arc::new(config),
        // clap reports --help and --version as errors too; `exit` picks the exit code.
        Err(ConfigError::Arguments(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    telemetry::start(config.reloadable().log, config.model.log.log_format);
    for ignored in unknown_variables() {
        tracing::warn!("{ignored}");
    }
    match agent::run(&config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
