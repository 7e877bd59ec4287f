//! Problems of a capture, as messages for the user.

use std::fmt;
use std::io;

use crate::input::filter::FilterError;

/// Error of reading a capture.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ReadError {
    /// The file as named, or `standard input`.
    pub name: String,
    /// The problem.
    pub problem: Problem,
}

/// A problem of a capture.
///
/// Byte positions refer to the capture after decompression and start at 0. Packet numbers start at
/// 1.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be opened.
    #[error("cannot open: {source}{}", open_hint(source))]
    Open {
        /// The system error.
        source: io::Error,
    },
    /// The path is a directory.
    #[error("is a directory; name a capture file")]
    Directory,
    /// Standard input is a terminal.
    #[error("is a terminal; pipe or redirect a capture into it")]
    Terminal,
    /// The file is empty.
    #[error("is empty; even a capture without packets has a file header")]
    Empty,
    /// The file is not a capture.
    #[error(
        "not a capture file: {reason}; supported formats are pcap and pcapng, plain or compressed \
         with gzip, zstd or xz"
    )]
    NotACapture {
        /// The reason.
        reason: String,
    },
    /// The file ends inside its header.
    #[error("truncated at byte {bytes}, inside the file header; the file has no packets")]
    HeaderCut {
        /// Size of the file, in bytes.
        bytes: u64,
    },
    /// Reading failed.
    #[error("cannot read at byte {byte}: {source}")]
    Read {
        /// Position of the failure.
        byte: u64,
        /// The system error.
        source: io::Error,
    },
    /// The compressed data is damaged.
    #[error(
        "cannot decompress the {format} data after byte {byte} of the capture: {source}; test the \
         file with `{format} -t`"
    )]
    Compression {
        /// Name of the format, which is also that of its tool.
        format: &'static str,
        /// Bytes of the capture that were decompressed before.
        byte: u64,
        /// The error of the decompressor.
        source: io::Error,
    },
    /// The capture contradicts itself.
    #[error("corrupt at byte {byte}, packet {packet}: {what}")]
    Corrupt {
        /// Start of the record.
        byte: u64,
        /// The packet in the record, or the next packet.
        packet: u64,
        /// The contradiction.
        what: String,
    },
    /// libpcap, which reads further formats, gave up.
    #[error("libpcap stopped at packet {packet}: {message}")]
    Libpcap {
        /// The packet that could not be read.
        packet: u64,
        /// The message of libpcap.
        message: String,
    },
    /// The filter does not compile.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The capture is truncated, and the options make that an error.
    #[error("{0}")]
    Truncated(Truncation),
}

impl ReadError {
    /// Returns true if the arguments are at fault and not the capture: the filter does not compile.
    pub fn is_usage(&self) -> bool {
        matches!(self.problem, Problem::Filter(_))
    }
}

impl Problem {
    /// Adds the name of the capture.
    pub(super) fn of(self, name: &str) -> ReadError {
        ReadError { name: name.to_owned(), problem: self }
    }
}

fn open_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; grant this user read permission",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

/// The point at which a capture is truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Size of the capture after decompression, in bytes.
    pub byte: u64,
    /// The incomplete packet, counted from 1.
    pub packet: u64,
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "truncated at byte {}, in packet {}", self.byte, self.packet)
    }
}
