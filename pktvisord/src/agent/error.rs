//! Reasons why the daemon exits, and their exit codes.

use std::io;
use std::net::SocketAddr;

use crate::aggregate::geo::GeoError;
use crate::cli::exit;
use crate::input::file::ReadError;
use crate::input::filter::FilterError;
use crate::input::libpcap::capture::OpenError;
use crate::input::live::LiveError;
use crate::input::target::TargetError;
use crate::serve::access::AccessError;
use crate::system::privileges::RightsError;
use crate::system::secret::FileError;

/// Reasons why the daemon exits with a code other than 0.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// TARGET names nothing that can be watched or read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// `--replay` with an interface.
    #[error("--replay requires a capture file, but TARGET is an interface")]
    ReplayOfLive,
    /// Interfaces cannot be watched.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The capture cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A GeoIP database cannot be read.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// The filter does not compile.
    #[error(transparent)]
    Filter(FilterError),
    /// A certificate, a key or a token file cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A key file cannot be read, or its key can be guessed.
    #[error(transparent)]
    Key(#[from] FileError),
    /// The user given with `--user` does not exist.
    #[error("--user {user}: {problem}")]
    User {
        /// The value of the option.
        user: String,
        /// The reason.
        problem: String,
    },
    /// The daemon would listen beyond loopback without authentication.
    #[error(
        "refusing to listen on {0} without authentication: set --token-file FILE or --client-ca FILE, \
         or pass --insecure-listen"
    )]
    Unguarded(SocketAddr),
    /// The output cannot be written.
    #[error("cannot write to {name}: {source}")]
    Output {
        /// The file, or standard output.
        name: String,
        /// The system error.
        source: io::Error,
    },
    /// The daemon cannot listen on the address.
    #[error("cannot listen on {address}: {source}; choose another with -l HOST and -p PORT")]
    Listen {
        /// The address from the options.
        address: String,
        /// The system error.
        source: io::Error,
    },
    /// Privileges cannot be dropped.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The system refuses an operation that should succeed.
    #[error("{what}: {source}")]
    System {
        /// The operation that failed.
        what: &'static str,
        /// The system error.
        source: io::Error,
    },
}

impl AppError {
    /// Returns the exit code of this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            AppError::ReplayOfLive
            | AppError::Live(
                LiveError::FilterInKernel | LiveError::Libpcap(OpenError::Filter { .. }),
            )
            | AppError::Filter(_)
            | AppError::Unguarded(_)
            | AppError::User { .. }
            | AppError::Access(AccessError::Incomplete(..)) => exit::USAGE,
            AppError::Read(error) if error.is_usage() => exit::USAGE,
            AppError::Live(LiveError::System { .. })
            | AppError::System { .. }
            | AppError::Rights(_) => exit::FAILURE,
            AppError::Target(_)
            | AppError::Access(_)
            | AppError::Key(_)
            | AppError::Read(_)
            | AppError::Geo(_)
            | AppError::Live(_) => exit::INPUT,
            AppError::Output { .. } | AppError::Listen { .. } => exit::OUTPUT,
        }
    }
}

/// Returns a function that turns a system error into an [`AppError`] naming the failed operation.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> AppError {
    move |source| AppError::System { what, source }
}
