//! What can be wrong with a capture, in words for the one who named it.

use std::fmt;
use std::io;

use crate::input::filter::FilterError;

/// Why a capture cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ReadError {
    /// The file as it was named, or `standard input`.
    pub name: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a capture.
///
/// Bytes are counted in the capture itself, that is after decompression, from 0; packets from 1.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file could not be opened.
    #[error("cannot open: {source}{}", open_hint(source))]
    Open {
        /// The system's answer.
        source: io::Error,
    },
    /// It is a directory.
    #[error("is a directory; name a capture file")]
    Directory,
    /// Standard input is a terminal.
    #[error("is a terminal; pipe or redirect a capture into it")]
    Terminal,
    /// It holds nothing.
    #[error("is empty; even a capture without packets has a file header")]
    Empty,
    /// It is something else than a capture.
    #[error(
        "not a capture file: {reason}; pcap and pcapng are read, plain or compressed with gzip, \
         zstd or xz"
    )]
    NotACapture {
        /// How that shows.
        reason: String,
    },
    /// It ends inside its file header.
    #[error("ends at byte {bytes}, inside the file header; there are no packets to read")]
    HeaderCut {
        /// Bytes there are.
        bytes: u64,
    },
    /// The system could not read on.
    #[error("reading failed at byte {byte}: {source}")]
    Read {
        /// How far it was read.
        byte: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// The compressed data is damaged.
    #[error(
        "the {format} data cannot be decompressed behind byte {byte} of the capture: {source}; \
         `{format} -t` tests the file"
    )]
    Compression {
        /// Name of the format, which is that of its tool.
        format: &'static str,
        /// Bytes of the capture that were decompressed before.
        byte: u64,
        /// The decompressor's answer.
        source: io::Error,
    },
    /// The capture contradicts itself.
    #[error("corrupt at byte {byte}, packet {packet}: {what}")]
    Corrupt {
        /// Where the record starts.
        byte: u64,
        /// The packet it holds, or the next packet.
        packet: u64,
        /// What does not fit.
        what: String,
    },
    /// libpcap, which reads what this program's own reader does not, gave up.
    #[error("libpcap stopped at packet {packet}: {message}")]
    Libpcap {
        /// The packet it could not read.
        packet: u64,
        /// What it said.
        message: String,
    },
    /// The filter does not compile.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The capture is cut short, which was asked to be an error.
    #[error("{0}")]
    Truncated(Truncation),
}

impl ReadError {
    /// Whether the arguments are wrong, not the capture: the filter does not compile.
    pub fn is_usage(&self) -> bool {
        matches!(self.problem, Problem::Filter(_))
    }
}

impl Problem {
    /// Names the capture that has the problem.
    pub(super) fn of(self, name: &str) -> ReadError {
        ReadError { name: name.to_owned(), problem: self }
    }
}

fn open_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; give this user read permission on it",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

/// Where a capture is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Bytes of the capture there are, after decompression.
    pub byte: u64,
    /// The packet, counted from 1, that is not there in full.
    pub packet: u64,
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut short at byte {}, in packet {}", self.byte, self.packet)
    }
}
