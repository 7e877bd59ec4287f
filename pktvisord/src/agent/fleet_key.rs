//! The fleet key: reads it from a file, and generates one for `pktvisord fleet-key --new`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use pktvisor_common::sketch::key::{self, FleetKey};
use rustix::rand::{GetRandomFlags, getrandom};

use super::AppError;
use crate::system::secret::{self, FileError};

/// First argument that selects the subcommand.
const COMMAND: &str = "fleet-key";
/// Permissions of the key file: only its owner can read and write it.
const OWNER_ALONE: u32 = 0o600;

/// Generate a random key for the agents of a fleet
///
/// Give all agents the same key, with --fleet-key FILE. Then their distinct counts merge, and nobody
/// without the key can forge distinct counts or top lists. Keep the key as secret as a password.
#[derive(Debug, Parser)]
#[command(name = "pktvisord fleet-key", bin_name = "pktvisord fleet-key")]
struct Arguments {
    /// Generate a key
    #[arg(long, required = true)]
    new: bool,

    /// Write the key to this new file, readable only by its owner [default: standard output]
    file: Option<PathBuf>,
}

/// Generates a key if the arguments ask for one. Returns true if they did.
///
/// # Errors
/// [`AppError`] if random numbers are not available or the key cannot be written.
pub fn fleet_key(arguments: &[OsString]) -> Result<bool, AppError> {
    if arguments.get(1).is_none_or(|first| first != COMMAND) {
        return Ok(false);
    }
    let Arguments { new: _, file } = Arguments::parse_from(&arguments[1..]);
    let key = random()
        .map_err(|source| AppError::System { what: "cannot generate random numbers", source })?;
    let name =
        file.as_ref().map_or("standard output".to_owned(), |file| file.display().to_string());
    let written = match &file {
        Some(file) => write_new(file, &key),
        None => writeln!(io::stdout(), "{key}"),
    };
    written.map_err(|source| AppError::Output { name, source })?;
    if let Some(file) = file {
        let file = file.display();
        eprintln!(
            "{file}: created, readable only by its owner; copy it to all agents of the fleet and pass it \
             with --fleet-key"
        );
    }
    Ok(true)
}

/// Reads the fleet key from a file.
///
/// # Errors
/// `FileError` if the file cannot be read, holds no key, or holds a key that can be guessed.
pub fn read(path: &Path) -> Result<FleetKey, FileError> {
    FleetKey::of(&secret::read(path)?).map_err(|problem| {
        let advice = "generate a fleet key with `pktvisord fleet-key --new`";
        FileError::unusable(path, format!("{problem}; {advice}"))
    })
}

/// Returns a random key from the kernel, as 32 hexadecimal digits.
fn random() -> io::Result<String> {
    let mut bytes = [0; key::LENGTH];
    match getrandom(&mut bytes, GetRandomFlags::empty())? {
        key::LENGTH => Ok(format!("{:032x}", u128::from_be_bytes(bytes))),
        _ => Err(io::Error::other("the kernel returned too few random bytes")),
    }
}

fn write_new(path: &Path, key: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ALONE).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}
