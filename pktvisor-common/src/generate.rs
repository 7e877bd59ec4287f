//! Generates the manual page and shell completions of a program from the definition of its command
//! line, for packages.

use std::ffi::OsString;
use std::io;

use clap::{Command, ValueEnum};
use clap_complete::Shell;

/// The flag that requests a file: `PROGRAM --generate KIND`.
const FLAG: &str = "--generate";

/// The file to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A manual page for man(1).
    Manual,
    /// Completions for a shell.
    Completions(Shell),
}

/// Prints the requested file if the arguments are `--generate KIND` and nothing else. Returns true
/// if they are.
///
/// # Errors
/// Fails if the output cannot be written or the kind is unknown.
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
