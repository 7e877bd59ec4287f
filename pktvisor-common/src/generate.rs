//! What packages have beside a program: its manual page and the completions of shells, made of the
//! definitions of its command line.

use std::ffi::OsString;
use std::io;

use clap::{Command, ValueEnum};
use clap_complete::Shell;

/// What to print: `PROGRAM --generate KIND`.
const FLAG: &str = "--generate";

/// What can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The manual page, for man(1).
    Manual,
    /// Completions for a shell.
    Completions(Shell),
}

/// Prints what packages have beside the program, where its arguments ask for that and nothing else.
/// Returns whether they did.
///
/// # Errors
/// Where it can't be written, or there is no such kind.
pub fn generate(command: Command, section: &str, arguments: &[OsString]) -> io::Result<bool> {
    let [_, flag, kind] = arguments else { return Ok(false) };
    if flag != FLAG {
        return Ok(false);
    }
    let unknown = || io::Error::other("expected `man` or a shell: bash, elvish, fish, zsh");
    let kind = match kind.to_str().ok_or_else(unknown)? {
        "man" => Kind::Manual,
        shell => Kind::Completions(Shell::from_str(shell, false).map_err(|_| unknown())?),
    };
    let name = command.get_name().to_owned();
    let mut command = command;
    match kind {
        Kind::Manual => {
            let manual = clap_mangen::Man::new(command).section(section);
            manual.render(&mut io::stdout())?;
        }
        Kind::Completions(shell) => {
            clap_complete::generate(shell, &mut command, name, &mut io::stdout());
        }
    }
    Ok(true)
}
