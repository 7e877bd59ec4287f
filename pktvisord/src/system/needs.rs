//! Rights that a part of the daemon still needs after it is open. The process keeps the union of
//! them.
//!
//! Listening sockets are not among them: they are bound before the daemon drops its rights.

use std::path::PathBuf;

use rustix::thread::CapabilitySet;

/// A capability (capabilities(7)) and the feature that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its bit.
    pub set: CapabilitySet,
    /// Its name in upper case, as in capabilities(7).
    pub name: &'static str,
    /// Name of the feature, for the log.
    pub used_by: &'static str,
}

/// Rights that a part of the daemon still needs after it is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Capabilities to keep; the daemon drops all others.
    pub capabilities: Vec<Capability>,
    /// Files that are read again. Their folders stay readable, because a file can be replaced.
    pub reads: Vec<PathBuf>,
    /// Folders in which files are created, written, renamed and removed.
    pub writes: Vec<PathBuf>,
    /// TCP ports that the daemon connects to, at any address.
    pub connects: Vec<u16>,
    /// True if packet sockets (packet(7)) are opened.
    pub packet_sockets: bool,
}

impl Needs {
    /// Returns the union of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { capabilities, reads, writes, connects, packet_sockets } = other;
        self.capabilities.extend(capabilities);
        self.reads.extend(reads);
        self.writes.extend(writes);
        self.connects.extend(connects);
        self.packet_sockets |= packet_sockets;
        self
    }
}
