//! Files with secrets: keys and tokens.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tracing::warn;

/// Bytes of such a file, at most.
const MAX: u64 = 1 << 20;
/// The permission of others to read a file (chmod(2)).
const READ_BY_OTHERS: u32 = 0o004;

/// Why a file does not give what it is to give.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where that helps what to do.
        problem: String,
    },
}

impl FileError {
    /// The file can't be read.
    pub fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    /// The file is not what it should be.
    pub fn unusable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), problem: problem.into() }
    }
}

/// Reads a secret. The log says so where every user of the machine can read it too.
///
/// # Errors
/// Where the file can't be read, or is larger than any secret.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    bytes_of(path).map_err(|source| FileError::unreadable(path, source))
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & READ_BY_OTHERS != 0 {
        let path = path.display();
        warn!("every user can read {path}, which is secret; `chmod o= {path}` ends that");
    }
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        length if length > MAX => Err(io::Error::other("it is larger than 1 MiB")),
        _ => Ok(bytes),
    }
}
