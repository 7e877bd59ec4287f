//! Entry point of the daemon.

use std::process::ExitCode;

use clap::Parser;
use pktvisord::cli::Cli;
use pktvisord::{app, telemetry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(&cli);
    match app::run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
