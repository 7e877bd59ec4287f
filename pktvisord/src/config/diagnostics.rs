//! Names the source of an option that clap rejects: clap itself knows only the command line.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error};

use super::file::{FileError, unknown};
use super::{
    COMMANDS, ConfigError, Entry, PREFIX, TARGET, command, environment, shown, without_target,
};
use crate::cli::Cli;

/// Converts an error of arguments and environment. Names the variable if the arguments alone are
/// valid.
pub(super) fn variable(error: Error, arguments: &[OsString]) -> ConfigError {
    let alone = without_target(Cli::command()).try_get_matches_from(arguments);
    if alone.is_err() {
        return error.into();
    }
    let message = brief(&error);
    let command = built();
    let is_set = |arg: &&Arg| std::env::var_os(environment(arg)).is_some_and(|v| !v.is_empty());
    let arg = command.get_arguments().filter(is_set).find(|arg| names(&error, arg));
    let variable = arg.map_or_else(|| "the environment".to_owned(), environment);
    ConfigError::Environment { variable, message }
}

/// Converts an error of all options together. Names the line of the file if an entry is involved.
pub(super) fn line(error: Error, file: Option<&Path>, entries: &[Entry]) -> ConfigError {
    let command = built();
    let named = |entry: &&Entry| {
        command.get_arguments().any(|arg| *arg.get_id() == *entry.id && names(&error, arg))
    };
    match (entries.iter().rfind(named), file) {
        (Some(entry), Some(file)) => {
            let (path, message) = (shown(file), brief(&error));
            FileError::Wrong { path, line: entry.line, message }.into()
        }
        _ => error.into(),
    }
}

/// Returns the definitions of all options, built, so that an option can be formatted.
fn built() -> Command {
    let mut command = command();
    command.build();
    command
}

/// Returns true if an error is about this option.
fn names(error: &Error, arg: &Arg) -> bool {
    let name = arg.to_string();
    let context = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| error.get(kind));
    context.into_iter().flatten().any(|value| match value {
        ContextValue::String(one) => *one == name,
        ContextValue::Strings(several) => several.contains(&name),
        _ => false,
    })
}

/// Returns the message of a command line error without the usage text.
pub(super) fn brief(error: &Error) -> String {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return format!(
            "missing TARGET: name it on the command line, as `{TARGET}` in the file, or in {PREFIX}TARGET"
        );
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default().trim();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// Returns a message for each variable that has the prefix but is no option. Skips those that
/// Kubernetes sets for a service named pktvisord.
pub fn unknown_variables() -> Vec<String> {
    let command = command();
    let options = command.get_arguments().filter(|arg| !COMMANDS.contains(&arg.get_id().as_str()));
    let known: Vec<String> = options.map(environment).collect();
    let of_kubernetes = |rest: &str| rest.starts_with("SERVICE_") || rest.starts_with("PORT_");
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter_map(|name| {
        let rest = name.strip_prefix(PREFIX)?;
        let passed_over = known.contains(&name) || of_kubernetes(rest);
        let key = rest.to_ascii_lowercase().replace('_', "-");
        (!passed_over).then(|| format!("ignoring {name}: {}", unknown(&command, &key)))
    });
    unknown.collect()
}
