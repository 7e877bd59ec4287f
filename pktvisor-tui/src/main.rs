//! The terminal client of pktvisord: fetches a summary and prints it.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use pktvisor_common::report::{self, Style};
use thiserror::Error;

mod address;
mod cli;
mod client;

use cli::Options;
use client::{Client, Fetched};

/// Columns where standard output is no terminal.
const DEFAULT_WIDTH: usize = 80;

/// What ends the program early.
#[derive(Debug, Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read this has read enough.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pktvisor: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let address = options.address();
    let client = Client::new(&address);
    let fetched = match options.period() {
        Some(period) => client.fetch(period)?,
        None => client.fetch_widest(cli::DEFAULT_WINDOW)?,
    };
    let text = if options.json {
        fetched.json + "\n"
    } else {
        let Fetched { period, view, .. } = &fetched;
        report::render(&format!("pktvisord at {address}, {period}"), view, style())
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// As the terminal is: its width, and colour unless `NO_COLOR` asks for none.
fn style() -> Style {
    let out = io::stdout();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = terminal_size::terminal_size_of(&out)
        .map_or(DEFAULT_WIDTH, |(terminal_size::Width(columns), _)| columns.into());
    Style { color: out.is_terminal() && !no_color, width }
}

/// See the end of `--help`; 2 is clap's.
fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Output(_) => 1,
        Error::Client(client::Error::Refused { .. } | client::Error::Unreachable { .. }) => 3,
        Error::Client(client::Error::Answer { .. } | client::Error::Unintelligible { .. }) => 4,
    }
}
