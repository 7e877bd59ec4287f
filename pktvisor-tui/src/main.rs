//! The terminal dashboard of pktvisord.

mod address;
mod app;
mod cli;
mod client;
mod credentials;
mod event;
mod fleet;
mod guard;
mod history;
mod keys;
mod layout;
mod panel;
mod past;
mod poll;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod travel;
mod update;
mod view;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use address::Address;
use app::App;
use clap::{CommandFactory, Parser};
use cli::{Options, ThemeName, When};
use client::{Client, Fetched};
use credentials::{Credentials, CredentialsError};
use event::{Effect, Event, Millis};
use past::Past;
use pktvisor_common::generate::generate;
use pktvisor_common::report::{self, Style};
use poll::{Poll, Poller};
use terminal::Console;
use theme::Theme;
use thiserror::Error;
use update::update;
use view::Look;

/// Width in columns if standard output is not a terminal.
const DEFAULT_WIDTH: u16 = 80;
/// Maximum time between two updates of the display.
const TICK: Duration = Duration::from_secs(1);

/// Reason why the program fails.
#[derive(Debug, Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("cannot use the terminal: {0}")]
    Terminal(io::Error),
}

fn main() -> ExitCode {
    match generate(Options::command(), "1", &std::env::args_os().collect::<Vec<_>>()) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pktvisor: {error}");
            return ExitCode::FAILURE;
        }
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the pipe has closed it and needs no more.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pktvisor: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let addresses = options.addresses();
    let credentials = Credentials::read(options)?;
    credentials::check(options, &addresses)?;
    if options.once {
        return print(&frame(options, &addresses, &credentials)?);
    }
    if options.report || options.json || !io::stdout().is_terminal() {
        return texts(options, &addresses, &credentials);
    }
    dashboard(options, addresses, &credentials)
}

/// Prints the report or JSON of each daemon. If one fails, the others are still printed.
fn texts(options: &Options, addresses: &[Address], credentials: &Credentials) -> Result<(), Error> {
    let mut failures = Failures::default();
    for address in addresses {
        match text(options, &Client::new(address, credentials), address) {
            Ok(text) => print(&text)?,
            Err(error) => failures.add(error),
        }
    }
    failures.0.map_or(Ok(()), Err)
}

/// The last failure, which sets the exit code. Earlier failures are printed at once.
#[derive(Default)]
struct Failures(Option<Error>);

impl Failures {
    fn add(&mut self, error: impl Into<Error>) {
        if let Some(before) = self.0.replace(error.into()) {
            eprintln!("pktvisor: {before}");
        }
    }
}

/// Returns the report or JSON of a daemon.
fn text(options: &Options, client: &Client<'_>, address: &Address) -> Result<String, Error> {
    let fetched = match options.is_exact() {
        true => client.fetch(options.period())?,
        false => client.fetch_nearest(options.period(), client.app()?.app.kept(), None)?,
    };
    if options.json {
        return Ok(fetched.json + "\n");
    }
    let Fetched { period, view, past, .. } = &fetched;
    let style = Style { color: color(options), width: columns().into() };
    let shown = past.as_ref().map_or_else(|| period.to_string(), Past::limits);
    for missing in past.iter().flat_map(Past::missing) {
        eprintln!("pktvisor: {address}: {missing}");
    }
    Ok(report::render(&format!("pktvisord at {address}, {shown}"), view, style))
}

/// Returns one frame of the dashboard as text.
fn frame(
    options: &Options,
    addresses: &[Address],
    credentials: &Credentials,
) -> Result<String, Error> {
    let mut app = new_app(options, addresses);
    let mut failures = Failures::default();
    for (agent, address) in addresses.iter().enumerate() {
        let client = Client::new(address, credentials);
        let event = match poll::ask(&client, options.period(), None, &mut None) {
            Ok(mut answer) => {
                answer.part = app.is_fleet().then(|| poll::fetch_part(&client, &answer));
                Event::Answered { agent, at: 0, answer: Box::new(answer) }
            }
            Err(error) => {
                let retry = Duration::ZERO;
                let asked = options.period();
                let event = Event::Failed { agent, at: 0, error: error.to_string(), retry, asked };
                failures.add(error);
                event
            }
        };
        update(&mut app, event);
    }
    // A fleet makes a frame even if only some daemons answer.
    if let Some(error) = failures.0.filter(|_| app.answering() == 0) {
        return Err(error);
    }
    update(&mut app, Event::Tick(0));
    let look = if color(options) { Look::Ansi } else { Look::Plain };
    Ok(view::once(&mut app, columns(), look))
}

fn new_app(options: &Options, addresses: &[Address]) -> App {
    let theme = match options.theme {
        _ if !color(options) => Theme::Plain,
        ThemeName::Dark => Theme::Dark,
        ThemeName::Light => Theme::Light,
    };
    let names = addresses.iter().map(Address::to_string).collect();
    App::new(names, options.period(), (options.interval * 1_000.0) as Millis, theme)
}

/// Runs the dashboard until the user quits or a signal arrives.
fn dashboard(
    options: &Options,
    addresses: Vec<Address>,
    credentials: &Credentials,
) -> Result<(), Error> {
    let mut app = new_app(options, &addresses);
    let (sender, events) = channel();
    let start = Instant::now();
    let fleet = app.is_fleet();
    let interval = Duration::from_secs_f64(options.interval);
    let pollers = addresses.into_iter().enumerate().map(|(agent, address)| {
        let credentials = credentials.clone();
        let poll = Poll { agent, address, credentials, interval, fleet, start };
        Poller::start(poll, options.period(), sender.clone())
    });
    let pollers: Vec<Poller> = pollers.collect::<Result<_, _>>().map_err(Error::Terminal)?;
    let mut console = Console::take().map_err(Error::Terminal)?;
    terminal::listen(sender).map_err(Error::Terminal)?;
    loop {
        console.draw(&mut app).map_err(Error::Terminal)?;
        let first = match events.recv_timeout(TICK) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // Handle all events that have arrived before drawing the next frame.
        for event in first.into_iter().chain(events.try_iter()) {
            for effect in update(&mut app, event) {
                match effect {
                    Effect::Ask(period) => pollers.iter().for_each(|poller| poller.ask(period)),
                    Effect::Copy(text) => terminal::copy(&text).map_err(Error::Terminal)?,
                    Effect::Redraw => console.clear().map_err(Error::Terminal)?,
                    Effect::Quit => return Ok(()),
                }
            }
        }
        update(&mut app, Event::Tick(start.elapsed().as_millis() as Millis));
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

/// Returns true if output is coloured.
fn color(options: &Options) -> bool {
    match options.color {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            io::stdout().is_terminal() && !no_color
        }
    }
}

/// Returns the width of the terminal in columns.
fn columns() -> u16 {
    terminal_size::terminal_size_of(io::stdout())
        .map_or(DEFAULT_WIDTH, |(terminal_size::Width(columns), _)| columns)
}

/// Returns the exit code, as documented at the end of `--help`. clap itself also exits with 2.
fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Output(_) | Error::Terminal(_) => 1,
        Error::Credentials(_) => 2,
        Error::Client(client::Error::Refused { .. } | client::Error::Unreachable { .. }) => 3,
        Error::Client(client::Error::Answer { .. } | client::Error::Unintelligible { .. }) => 4,
    }
}
