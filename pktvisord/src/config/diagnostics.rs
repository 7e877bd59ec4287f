//! Where options came from that clap finds wrong: it knows of the command line only.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error};

use super::file::{FileError, unknown};
use super::{
    COMMANDS, ConfigError, Entry, PREFIX, TARGET, command, environment, shown, without_target,
};
use crate::cli::Cli;

/// The error of arguments and environment, told of the variable where the arguments alone are right.
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

/// The error of all options together, told of the line of the file where an entry has to do with it.
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

/// The definitions of all options, complete, as an option needs them to be shown.
fn built() -> Command {
    let mut command = command();
    command.build();
    command
}

/// Whether an error is about this option.
fn names(error: &Error, arg: &Arg) -> bool {
    let name = arg.to_string();
    let context = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| error.get(kind));
    context.into_iter().flatten().any(|value| match value {
        ContextValue::String(one) => *one == name,
        ContextValue::Strings(several) => several.contains(&name),
        _ => false,
    })
}

/// What an error of the command line says, without how to call the program.
pub(super) fn brief(error: &Error) -> String {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return format!(
            "there is no target: on the command line, as `{TARGET}` in the file, or in {PREFIX}TARGET"
        );
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default().trim();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// What is said of variables that look like options and are none. Those that Kubernetes sets for a
/// service named pktvisord are passed over.
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
        (!passed_over).then(|| format!("{name} is ignored: {}", unknown(&command, &key)))
    });
    unknown.collect()
}
