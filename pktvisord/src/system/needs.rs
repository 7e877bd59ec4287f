//! What a part of the daemon still needs once it is open: rights and sandbox leave the union of it.
//!
//! Sockets that are listened on are not among it: they are bound before rights are given up.

use std::path::PathBuf;

use rustix::thread::CapabilitySet;

/// A capability (capabilities(7)) and who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its bit.
    pub set: CapabilitySet,
    /// Its name, as `setcap` has it in upper case.
    pub name: &'static str,
    /// What uses it, for the log.
    pub used_by: &'static str,
}

/// What a part of the daemon still needs once it is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Capabilities that are kept; all others are given up.
    pub capabilities: Vec<Capability>,
    /// Files that are read again. The folder of each stays readable, because a file can be replaced.
    pub reads: Vec<PathBuf>,
    /// Folders in which files are made, written, renamed and removed.
    pub writes: Vec<PathBuf>,
    /// Ports of TCP that are connected to, at any address.
    pub connects: Vec<u16>,
    /// Whether packet sockets (packet(7)) are opened.
    pub packet_sockets: bool,
}

impl Needs {
    /// What both need.
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
