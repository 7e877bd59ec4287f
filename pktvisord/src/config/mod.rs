//! Sources of options, in order of precedence: command line, environment, file, defaults.
//!
//! * `model`: the options, in a type for each table of the file. They are defined only there: an
//!   entry of the file is checked and read as if it were an argument of the command line.
//! * `file`: reads the file.
//! * `print`: shows options and the source of each.
//! * `diagnostics`: names the source of a wrong option.

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
    Format, GeoFiles, HistoryConfig, InputConfig, InputTuning, LogConfig, LogLevel, Model,
    PolicyConfig, ProcessConfig, ReportConfig, ServeConfig, Switch,
};
pub use print::{example, table};

use crate::cli::Cli;
use crate::system::needs::Needs;

/// Configuration file that is read if it exists and `--config` names no other.
pub const DEFAULT_FILE: &str = "/etc/pktvisor/pktvisord.toml";
/// Prefix of the environment variables.
const PREFIX: &str = "PKTVISORD_";
/// Options that select an action. They exist only on the command line.
const COMMANDS: [&str; 4] = ["check_config", "print_config", "help", "version"];
/// The positional argument.
const TARGET: &str = "target";

/// Reason why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Invalid arguments or environment, or a request for help.
    #[error("{}", diagnostics::brief(.0))]
    Arguments(#[from] clap::Error),
    /// An environment variable is invalid.
    #[error("{variable}: {message}")]
    Environment {
        /// Name of the variable.
        variable: String,
        /// Description of the problem.
        message: String,
    },
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The action that the command line selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run with the options.
    Run,
    /// Check the options.
    Check,
    /// Print the options.
    Print,
}

/// The options that can change while the daemon runs.
#[derive(Debug)]
pub struct Reloadable<'a> {
    /// Options of the input.
    pub tuning: &'a InputTuning,
    /// Databases of places and autonomous systems.
    pub geo: &'a GeoFiles,
    /// Log filter, in the syntax of `RUST_LOG`.
    pub log: &'static str,
}

/// All options, with the source of each.
#[derive(Debug)]
pub struct Config {
    /// The selected action.
    pub action: Action,
    /// The options.
    pub model: Model,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Options of the command line and the environment.
    given: ArgMatches,
    /// Entries of the file, also those that are overridden.
    entries: Vec<Entry>,
    /// Options from all sources.
    merged: ArgMatches,
    arguments: Vec<OsString>,
}

/// An entry of the file as arguments of the command line.
#[derive(Debug)]
struct Entry {
    /// Identifier of the option: the name of its field.
    id: String,
    /// Line of the entry, from 1.
    line: usize,
    arguments: Vec<OsString>,
}

/// An option whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name in the file.
    pub key: String,
    /// Previous value.
    pub before: String,
    /// New value.
    pub now: String,
    /// True if a reload applies the change without a restart.
    pub reloadable: bool,
}

/// Source of the value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    CommandLine,
    Environment,
    File(usize),
    Default,
    Unset,
}

/// Returns the definitions of all options, with their environment variables.
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
        // Ignore a variable that is empty or turns a flag off; see `is_off`.
        match value.is_empty() || is_flag && value.to_str().is_some_and(is_false) {
            true => arg,
            false => arg.env(name).hide_env(true),
        }
    })
}

/// Returns true if a value turns a flag off, as clap reads it.
fn is_false(value: &str) -> bool {
    ["0", "f", "false", "n", "no", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

/// Returns true if the environment turns a flag off, which overrides the file.
fn is_off(id: &str) -> bool {
    let command = Cli::command();
    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
    arg.is_some_and(|arg| {
        matches!(arg.get_action(), ArgAction::SetTrue)
            && std::env::var(environment(arg)).is_ok_and(|value| is_false(&value))
    })
}

/// Returns the environment variable of an option.
fn environment(arg: &Arg) -> String {
    format!("{PREFIX}{}", arg.get_id().as_str().to_ascii_uppercase())
}

/// Returns the options that the file can have, by their names in it.
fn settings(command: &Command) -> impl Iterator<Item = (String, &Arg)> {
    command.get_arguments().filter_map(|arg| {
        let id = arg.get_id().as_str();
        let outside = COMMANDS.contains(&id) || id == "config";
        let key = arg.get_long().map_or_else(|| id.to_owned(), str::to_owned);
        (!outside).then_some((key, arg))
    })
}

/// Makes TARGET optional, because it may come from another source.
fn without_target(command: Command) -> Command {
    command.mut_arg(TARGET, |arg| arg.required(false).default_value("").hide_default_value(true))
}

impl Config {
    /// Reads the options from `arguments`, from the environment, and from the file that they name
    /// or the default one. The first argument is the program's name.
    ///
    /// # Errors
    /// [`ConfigError`] if anything is invalid, even in an entry that is overridden.
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
    /// The same as [`Config::load`].
    pub fn again(&self) -> Result<Self, ConfigError> {
        Self::load(self.arguments.clone())
    }

    /// Returns the options that can change while the daemon runs.
    pub fn reloadable(&self) -> Reloadable<'_> {
        let Model { input, policy, log, .. } = &self.model;
        // A target that is neither a file nor standard input is an interface. It is served, as is a
        // replay.
        let is_file = input.target == "-" || Path::new(&input.target).exists();
        let level = log.level.directives(!is_file || input.replay.is_some());
        Reloadable { tuning: &input.tuning, geo: &policy.geo, log: level }
    }

    /// Returns the needs of the history, and those for reading the options again: the files that they
    /// name, and the configuration file, which may be created later.
    pub fn needs(&self) -> Needs {
        let Model { policy, serve, history, .. } = &self.model;
        let GeoFiles { geo_city, geo_asn } = &policy.geo;
        let named = [geo_city, geo_asn, &self.file].into_iter().flatten().cloned();
        let reads = named.chain([PathBuf::from(DEFAULT_FILE)]).collect();
        let writes = history.history_dir.iter().cloned().collect();
        serve.access.needs().and(Needs { reads, writes, ..Needs::default() })
    }

    /// Returns the options whose values differ from those in `before`.
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

    /// Returns true if the folder of the history comes from the file, which is that of a service, and not
    /// from the command line or the environment.
    pub fn takes_history_from_file(&self) -> bool {
        matches!(self.source("history_dir"), Source::File(_))
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

/// Returns true if the command line or the environment sets the option or one that conflicts with
/// it. Then its entry of the file does not apply.
fn is_overridden(given: &ArgMatches, id: &str) -> bool {
    let is_given = |id: &str| {
        matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let command = command();
    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
    let conflicts = arg.map(|arg| command.get_arg_conflicts_with(arg)).unwrap_or_default();
    // A conflict is declared by one of the two options only.
    let declared = |other: &&Arg| {
        command.get_arg_conflicts_with(other).iter().any(|conflict| conflict.get_id() == id)
    };
    is_given(id)
        || is_off(id)
        || conflicts.iter().any(|other| is_given(other.get_id().as_str()))
        || command.get_arguments().filter(declared).any(|other| is_given(other.get_id().as_str()))
}

/// Returns true if an option takes no value.
fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count)
}

/// Formats a path for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
