//! Starts other programs and locates the project's files.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Returns the top folder of the project, from the variable that cargo sets when it starts this
/// program. The folder at compile time may be another clone that shares the target folder.
pub(crate) fn root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir.parent().expect("xtask lies in the project's top folder").to_owned()
}

/// Returns cargo's target folder: `CARGO_TARGET_DIR`, or `target` in the top folder.
pub(crate) fn target_dir() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).with_context(|| {
            format!("CARGO_TARGET_DIR is {}, which is not a valid path", dir.display())
        }),
        None => Ok(root().join("target")),
    }
}

/// Returns a command for the cargo that started this program, in the top folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Returns true if the cargo subcommand `name` is installed.
pub(crate) fn has_cargo_command(name: &str) -> Result<bool> {
    Ok(find_program(&format!("cargo-{name}"))?.is_some())
}

/// Returns the path of a tool that cargo can install. Compiles a missing tool into the target
/// folder, once.
pub(crate) fn cargo_tool(name: &str) -> Result<PathBuf> {
    if let Some(found) = find_program(name)? {
        return Ok(found);
    }
    let tools = target_dir()?.join("tools");
    let program = tools.join("bin").join(name);
    if !program.exists() {
        eprintln!("compiling {name}; this happens once and takes some minutes");
        exec(cargo().args(["install", name, "--locked", "--root"]).arg(&tools))?;
    }
    Ok(program)
}

/// Finds the program `name` in `PATH` or in cargo's `bin` folder.
pub(crate) fn find_program(name: &str) -> Result<Option<PathBuf>> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let candidates = std::env::split_paths(&path).chain([cargo_bin()?]);
    Ok(candidates.map(|dir| dir.join(name)).find(|file| file.is_file()))
}

/// Returns the folder that `cargo install` puts programs in.
fn cargo_bin() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    Ok(home.context("neither CARGO_HOME nor HOME is set")?.join("bin"))
}

/// Echoes `command` to standard error and runs it. Any exit status but success is an error.
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Returns the standard output of `command`, or `None` if it cannot be started or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Formats `command` as a shell command line, with the variables that it sets.
pub(crate) fn command_line(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// Puts `word` in single quotes if a shell would interpret it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns true if this process runs as root.
pub(crate) fn is_root() -> bool {
    output_of(Command::new("id").arg("-u")).as_deref() == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_valid_shell() {
        let mut command = Command::new("cargo");
        command.env("RUSTFLAGS", "-C linker=bpf-linker").args(["build", "it's", ""]);
        assert_eq!(
            command_line(&command),
            r"RUSTFLAGS='-C linker=bpf-linker' cargo build 'it'\''s' ''"
        );
    }
}
