//! Reads the configuration file.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};
use toml::de::{DeTable, DeValue};

use super::diagnostics::brief;
use super::model::{TABLES, Table};
use super::{Entry, TARGET, command, is_flag, settings, shown, without_target};
use crate::cli::Cli;

/// Reason why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// Path of the file.
        path: String,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an invalid entry.
    #[error("{path}:{line}: {message}")]
    Wrong {
        /// Path of the file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Description of the problem.
        message: String,
    },
}

/// Reads the entries of a file and checks each of them.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Unreadable { path: shown(path), source })?;
    parse(&text).map_err(|(line, message)| FileError::Wrong { path: shown(path), line, message })
}

/// Parses a text. An error has the line and a message.
fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let line_of = |byte: usize| 1 + text[..byte.min(text.len())].matches('\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        (error.span().map_or(1, |span| line_of(span.start)), error.message().to_owned())
    })?;
    let reader = Reader { command: command(), line_of: &line_of };
    let mut entries = reader.table(table.get_ref())?;
    // Errors name the first wrong line, and options apply in the order of the file.
    entries.sort_by_key(|entry| entry.line);
    let twice = entries.iter().enumerate().find_map(|(at, entry)| {
        let before = entries[..at].iter().find(|before| before.id == entry.id)?;
        let name = entry.id.replace('_', "-");
        Some((entry.line, format!("`{name}` is already set on line {}", before.line)))
    });
    twice.map_or(Ok(entries), Err)
}

/// Reads tables into entries.
struct Reader<'a> {
    command: Command,
    /// Converts an offset in the text to a line, from 1.
    line_of: &'a dyn Fn(usize) -> usize,
}

/// A line, from 1, and a description of the problem.
type Wrong = (usize, String);

impl Reader<'_> {
    /// Reads the top-level table: options outside of tables, and tables of options.
    fn table(&self, table: &DeTable<'_>) -> Result<Vec<Entry>, Wrong> {
        let mut entries = Vec::new();
        for (key, value) in table {
            let line = (self.line_of)(key.span().start);
            let name = key.get_ref().as_ref();
            let found = match name {
                "input" => self.options_in(&TABLES[0], only(value.get_ref()), line)?,
                "policy" => self.policies(value.get_ref(), line)?,
                _ => match TABLES.iter().find(|table| table.name == name) {
                    Some(table) => self.options_in(table, value.get_ref().as_table(), line)?,
                    None => self.option(name, value.get_ref(), line)?.into_iter().collect(),
                },
            };
            entries.extend(found);
        }
        Ok(entries)
    }

    /// Reads `[policy.default]`.
    fn policies(&self, value: &DeValue<'_>, line: usize) -> Result<Vec<Entry>, Wrong> {
        let policies = value.as_table().ok_or_else(|| (line, not_a_table("[policy.default]")))?;
        let mut entries = Vec::new();
        for (key, value) in policies {
            let line = (self.line_of)(key.span().start);
            let table = TABLES.iter().find(|table| {
                table.name.strip_prefix("policy.").is_some_and(|name| name == key.get_ref())
            });
            let Some(table) = table else {
                let name = key.get_ref();
                return Err((line, format!("unknown policy `{name}`: `default` is the only one")));
            };
            entries.extend(self.options_in(table, value.get_ref().as_table(), line)?);
        }
        Ok(entries)
    }

    /// Reads the options of a table that starts on this line.
    fn options_in(
        &self,
        table: &Table,
        options: Option<&DeTable<'_>>,
        line: usize,
    ) -> Result<Vec<Entry>, Wrong> {
        let options = options.ok_or_else(|| (line, not_a_table(table.header)))?;
        let ids = table.options();
        let known: Vec<String> = settings(&self.command)
            .filter(|(_, arg)| ids.iter().any(|id| *id == *arg.get_id()))
            .map(|(name, _)| name)
            .collect();
        let keys = || known.iter().map(|name| table.key(name).to_owned());
        let mut entries = Vec::new();
        for (key, value) in options {
            let line = (self.line_of)(key.span().start);
            let name = key.get_ref();
            let Some(option) = known.iter().find(|known| table.key(known) == name) else {
                let why = unknown_among(keys(), name);
                return Err((line, format!("{}: {why}", table.header)));
            };
            entries.extend(self.option(option, value.get_ref(), line)?);
        }
        Ok(entries)
    }

    fn option(&self, key: &str, value: &DeValue<'_>, line: usize) -> Result<Option<Entry>, Wrong> {
        entry(&self.command, key, value, line).map_err(|message| (line, message))
    }
}

/// Returns the only table of an array of tables.
fn only<'a, 'i>(value: &'a DeValue<'i>) -> Option<&'a DeTable<'i>> {
    match value.as_array() {
        Some(tables) if tables.len() == 1 => tables.iter().next()?.get_ref().as_table(),
        _ => None,
    }
}

fn not_a_table(header: &str) -> String {
    format!("expected exactly one table of options, {header}")
}

fn entry(
    command: &Command,
    key: &str,
    value: &DeValue<'_>,
    line: usize,
) -> Result<Option<Entry>, String> {
    let found = settings(command).find(|(name, _)| name == key);
    let Some((_, arg)) = found else { return Err(unknown(command, key)) };
    let arguments = arguments(key, arg, value)?;
    let alone = [OsString::from(env!("CARGO_PKG_NAME"))].into_iter().chain(arguments.clone());
    // Check the entry without the environment.
    let definitions = without_target(Cli::command());
    definitions.try_get_matches_from(alone).map_err(|error| brief(&error))?;
    let id = arg.get_id().to_string();
    Ok((!arguments.is_empty()).then_some(Entry { id, line, arguments }))
}

/// Minimum Jaro-Winkler similarity of a name to suggest; 1 is equal.
const ALIKE: f64 = 0.8;

/// Returns the message for an unknown option, with the most similar name.
pub(super) fn unknown(command: &Command, key: &str) -> String {
    unknown_among(settings(command).map(|(name, _)| name), key)
}

fn unknown_among(names: impl Iterator<Item = String>, key: &str) -> String {
    let likeness = |name: &str| strsim::jaro_winkler(name, &key.replace('_', "-"));
    let closest = names
        .map(|name| (likeness(&name), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|&(likeness, _)| likeness >= ALIKE);
    match closest {
        Some((_, name)) => format!("unknown option `{key}`: did you mean `{name}`?"),
        None => format!("unknown option `{key}`: `pktvisord --print-config` lists all options"),
    }
}

/// Converts an entry to arguments of the command line. A flag that is off has none.
fn arguments(key: &str, arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let with = |value: String| OsString::from(format!("--{key}={value}"));
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    Ok(match (value, arg.get_action()) {
        (DeValue::Boolean(on), _) if is_flag(arg) || optional => {
            on.then(|| OsString::from(format!("--{key}"))).into_iter().collect()
        }
        (DeValue::Integer(times), ArgAction::Count) => {
            let times = times
                .to_string()
                .parse::<u8>()
                .map_err(|_| format!("`{key}` must be from 0 to 255"))?;
            std::iter::repeat_n(OsString::from(format!("--{key}")), times.into()).collect()
        }
        _ if is_flag(arg) => return Err(format!("`{key}` must be true or false")),
        (DeValue::Array(values), action) => {
            let values = values.iter().map(|value| scalar(key, value.get_ref()));
            let values: Vec<String> = values.collect::<Result<_, _>>()?;
            match action {
                ArgAction::Append => values.into_iter().map(with).collect(),
                _ if arg.get_id() == TARGET => vec![target(values.join(","))?],
                _ => vec![with(values.join(","))],
            }
        }
        (value, _) if arg.get_id() == TARGET => vec![target(scalar(key, value)?)?],
        (value, _) => vec![with(scalar(key, value)?)],
    })
}

/// Checks TARGET, which has no name on the command line and so must not look like an option.
fn target(text: String) -> Result<OsString, String> {
    match text.as_str() {
        "" => Err("`target` is empty".to_owned()),
        "-" => Ok(text.into()),
        option if option.starts_with('-') => {
            Err(format!("invalid target `{option}`: it starts with `-`"))
        }
        _ => Ok(text.into()),
    }
}

fn scalar(key: &str, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(format!("`{key}` must be a string, a number or a list of these"))
        }
    }
}
