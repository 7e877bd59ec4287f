//! Why the daemon ends, and with which exit code.

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

/// Why the daemon ends with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// TARGET is nothing that can be watched.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A replay of what happens anyway.
    #[error("--replay is for capture files, and TARGET is an interface")]
    ReplayOfLive,
    /// Interfaces can't be watched.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The capture can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A database can't be read.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// The filter does not compile.
    #[error(transparent)]
    Filter(FilterError),
    /// A certificate, a key or tokens can't be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A key can't be read, or can be guessed.
    #[error(transparent)]
    Key(#[from] FileError),
    /// There is no such user.
    #[error("--user {user}: {problem}")]
    User {
        /// As it was given.
        user: String,
        /// What is wrong.
        problem: String,
    },
    /// Others could ask without showing who they are.
    #[error(
        "whoever reaches {0} could read the names and addresses that are seen here: say who may, with \
         --token-file FILE or --client-ca FILE, or say --insecure-listen"
    )]
    Unguarded(SocketAddr),
    /// The output can't be written.
    #[error("cannot write to {name}: {source}")]
    Output {
        /// The file, or standard output.
        name: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {address}: {source}; choose another with -l HOST and -p PORT")]
    Listen {
        /// The address as it was given.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Rights can't be given up.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The system refuses something that should work.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl AppError {
    /// The exit code that stands for it.
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

/// Turns the system's refusal of `what` into an error.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> AppError {
    move |source| AppError::System { what, source }
}
