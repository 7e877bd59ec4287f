//! Files that hold secrets: keys and tokens.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tracing::warn;

/// Maximum size of a secret file, in bytes.
const MAX: u64 = 1 << 20;
/// Permission bit that lets others read a file (chmod(2)).
const READ_BY_OTHERS: u32 = 0o004;

/// Reasons why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// The content of the file is not valid.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The problem and, if useful, a remedy.
        problem: String,
    },
}

impl FileError {
    /// Creates an error for a file that cannot be read.
    pub fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    /// Creates an error for a file with invalid content.
    pub fn unusable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), problem: problem.into() }
    }
}

/// Reads a secret. Logs a warning if every user of the host can read the file.
///
/// # Errors
/// [`FileError::Unreadable`] if the file cannot be read or is larger than 1 MiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    bytes_of(path).map_err(|source| FileError::unreadable(path, source))
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & READ_BY_OTHERS != 0 {
        let path = path.display();
        warn!("every user can read the secret in {path}; restrict it with `chmod o= {path}`");
    }
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        length if length > MAX => Err(io::Error::other("the file is larger than 1 MiB")),
        _ => Ok(bytes),
    }
}
