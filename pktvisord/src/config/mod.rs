//! Where options come from: the command line, the environment, a file, their defaults, in this order.
//!
//! * `model`: the options, in a type for each table of the file. They are defined there alone: an entry of
//!   the file is checked and read as if it had been given on the command line.
//! * `file`: reads the file.
//! * `print`: shows options, and where each came from.
//! * `diagnostics`: says where a wrong option came from.

mod diagnostics;
mod file;
mod model;
mod print;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
pub use diagnostics::unknown_variables;
pub use file::FileError;
pub use model::{
    Format, GeoFiles, InputConfig, InputTuning, LogConfig, LogLevel, Model, PolicyConfig,
    ProcessConfig, ReportConfig, ServeConfig, Switch,
};
pub use print::{example, table};

use crate::cli::Cli;
use crate::system::needs::Needs;

/// The file that is read where there is one and no other is named.
pub const DEFAULT_FILE: &str = "/etc/pktvisor/pktvisord.toml";
/// What the names of environment variables start with.
const PREFIX: &str = "PKTVISORD_";
/// Options that say what to do now: they stand on the command line alone.
const COMMANDS: [&str; 4] = ["check_config", "print_config", "help", "version"];
/// The argument that has no name on the command line.
const TARGET: &str = "target";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Wrong arguments or environment, or a call for help.
    #[error("{}", diagnostics::brief(.0))]
    Arguments(#[from] clap::Error),
    /// A variable of the environment that is wrong.
    #[error("{variable}: {message}")]
    Environment {
        /// Its name.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// A file that can't be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// What the options say.
    Run,
    /// The options are checked.
    Check,
    /// The options are printed.
    Print,
}

/// The options that can change while the daemon runs.
#[derive(Debug)]
pub struct Reloadable<'a> {
    /// Of the input.
    pub tuning: &'a InputTuning,
    /// Databases of addresses.
    pub geo: &'a GeoFiles,
    /// What is logged, in the language of `RUST_LOG`.
    pub log: &'static str,
}

/// Options, and where each came from.
#[derive(Debug)]
pub struct Config {
    /// What is to be done.
    pub action: Action,
    /// The options.
    pub model: Model,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What the command line and the environment say.
    given: ArgMatches,
    /// What the file says besides.
    entries: Vec<Entry>,
    /// All of it.
    merged: ArgMatches,
    arguments: Vec<OsString>,
}

/// An entry of the file, as it would stand on the command line.
#[derive(Debug)]
struct Entry {
    /// Which option, by the name of its field.
    id: String,
    /// The line it stands on, from 1.
    line: usize,
    arguments: Vec<OsString>,
}

/// An option that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name in the file.
    pub key: String,
    /// How it was.
    pub before: String,
    /// How it is now.
    pub now: String,
    /// Whether that can be taken over without a restart.
    pub reloadable: bool,
}

/// Where the value of an option comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    CommandLine,
    Environment,
    File(usize),
    Default,
    Unset,
}

/// The definitions of all options, with the names of their environment variables.
pub fn command() -> Command {
    Cli::command().mut_args(|arg| {
        if COMMANDS.contains(&arg.get_id().as_str()) {
            return arg;
        }
        let name = environment(&arg);
        let value = std::env::var_os(&name).unwrap_or_default();
        let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
        // In the environment a flag has a value: yes, on, 1 …
        let arg = if is_flag { arg.value_parser(BoolishValueParser::new()) } else { arg };
        // One that is off, or a variable that is empty, is not there; see `is_off`.
        match value.is_empty() || is_flag && value.to_str().is_some_and(is_false) {
            true => arg,
            false => arg.env(name).hide_env(true),
        }
    })
}

/// Whether a value stands for a flag that is off, as clap reads it.
fn is_false(value: &str) -> bool {
    ["0", "f", "false", "n", "no", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

/// Whether the environment says that a flag is off, whatever a file says.
fn is_off(id: &str) -> bool {
    let command = Cli::command();
    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
    arg.is_some_and(|arg| {
        matches!(arg.get_action(), ArgAction::SetTrue)
            && std::env::var(environment(arg)).is_ok_and(|value| is_false(&value))
    })
}

/// The environment variable of an option.
fn environment(arg: &Arg) -> String {
    format!("{PREFIX}{}", arg.get_id().as_str().to_ascii_uppercase())
}

/// The options that a file can have, by their names there.
fn settings(command: &Command) -> impl Iterator<Item = (String, &Arg)> {
    command.get_arguments().filter_map(|arg| {
        let id = arg.get_id().as_str();
        let outside = COMMANDS.contains(&id) || id == "config";
        let key = arg.get_long().map_or_else(|| id.to_owned(), str::to_owned);
        (!outside).then_some((key, arg))
    })
}

/// A command whose TARGET may still come from elsewhere.
fn without_target(command: Command) -> Command {
    command.mut_arg(TARGET, |arg| arg.required(false).default_value("").hide_default_value(true))
}

impl Config {
    /// Reads the options from these arguments, the first of which is the program's name, from the
    /// environment, and from the file that they name or the default one.
    ///
    /// # Errors
    /// [`ConfigError`] where anything is wrong, also in an entry that would not be used.
    pub fn load(arguments: Vec<OsString>) -> Result<Self, ConfigError> {
        let given = without_target(command())
            .try_get_matches_from(&arguments)
            .map_err(|error| diagnostics::variable(error, &arguments))?;
        let file = match given.get_one::<PathBuf>("config") {
            Some(path) => Some(path.clone()),
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
        };
        let entries = file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let used = entries.iter().filter(|entry| !is_overridden(&given, &entry.id));
        let from_file = used.flat_map(|entry| entry.arguments.iter().cloned());
        let (program, rest) =
            arguments.split_first().map_or((None, &[][..]), |(p, r)| (Some(p), r));
        let program = program.cloned().unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
        let all = [program].into_iter().chain(from_file).chain(rest.iter().cloned());
        let only_asked = given.get_flag("check_config") || given.get_flag("print_config");
        let command = if only_asked { without_target(command()) } else { command() };
        let merged = command
            .try_get_matches_from(all)
            .map_err(|error| diagnostics::line(error, file.as_deref(), &entries))?;
        let Cli { check_config, print_config, model, .. } = Cli::from_arg_matches(&merged)?;
        let action = match (check_config, print_config) {
            (false, false) => Action::Run,
            (true, _) => Action::Check,
            (_, true) => Action::Print,
        };
        Ok(Self { action, model, file, given, entries, merged, arguments })
    }

    /// Reads the options again.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn again(&self) -> Result<Self, ConfigError> {
        Self::load(self.arguments.clone())
    }

    /// Returns what can change while the daemon runs.
    pub fn reloadable(&self) -> Reloadable<'_> {
        let Model { input, policy, log, .. } = &self.model;
        // What is neither a file nor standard input is an interface, and served like a replay.
        let is_file = input.target == "-" || Path::new(&input.target).exists();
        let level = log.level.directives(!is_file || input.replay.is_some());
        Reloadable { tuning: &input.tuning, geo: &policy.geo, log: level }
    }

    /// Returns what reading the options again needs: the files that are named, and the configuration,
    /// which may come later.
    pub fn needs(&self) -> Needs {
        let Model { policy, serve, .. } = &self.model;
        let GeoFiles { geo_city, geo_asn } = &policy.geo;
        let named = [geo_city, geo_asn, &self.file].into_iter().flatten().cloned();
        let reads = named.chain([PathBuf::from(DEFAULT_FILE)]).collect();
        serve.access.needs().and(Needs { reads, ..Needs::default() })
    }

    /// What is not as it was `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let (command, reloadable) = (command(), model::reloadable());
        settings(&command)
            .map(|(key, arg)| Change {
                key,
                before: print::value(arg, &before.merged).unwrap_or_else(|| "not set".to_owned()),
                now: print::value(arg, &self.merged).unwrap_or_else(|| "not set".to_owned()),
                reloadable: reloadable.iter().any(|id| *id == *arg.get_id()),
            })
            .filter(|change| change.before != change.now)
            .collect()
    }

    fn source(&self, id: &str) -> Source {
        match self.given.value_source(id) {
            Some(ValueSource::CommandLine) => Source::CommandLine,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ if is_off(id) => Source::Environment,
            _ => match self.entries.iter().find(|entry| entry.id == id) {
                Some(entry) if !is_overridden(&self.given, id) => Source::File(entry.line),
                _ if id == TARGET || self.merged.value_source(id).is_none() => Source::Unset,
                _ => Source::Default,
            },
        }
    }
}

/// Whether the command line or the environment say something else than a file can about an option.
fn is_overridden(given: &ArgMatches, id: &str) -> bool {
    let is_given = |id: &str| {
        matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let command = command();
    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
    let conflicts = arg.map(|arg| command.get_arg_conflicts_with(arg)).unwrap_or_default();
    // A conflict is declared on one of the two.
    let declared = |other: &&Arg| {
        command.get_arg_conflicts_with(other).iter().any(|conflict| conflict.get_id() == id)
    };
    is_given(id)
        || is_off(id)
        || conflicts.iter().any(|other| is_given(other.get_id().as_str()))
        || command.get_arguments().filter(declared).any(|other| is_given(other.get_id().as_str()))
}

/// Whether an option is given without a value.
fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count)
}

/// A path as it is shown.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
