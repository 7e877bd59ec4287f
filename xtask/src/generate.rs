//! `cargo xtask gen KIND FILE`: captures to measure with, the same octets for the same seed.
//!
//! Every packet is to or from one host, 192.0.2.1 and 2001:db8::1, as a capture on a server has
//! them.

mod dns;
mod pcap;
mod random;
mod tcp;
mod traffic;
mod wire;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

/// Write a capture file to measure with.
#[derive(Args)]
pub struct Generate {
    /// What kind of traffic.
    kind: Kind,
    /// The capture file to write (pcap, microseconds).
    file: PathBuf,
    /// How many packets; by default as many as the kind is meant to have. The rate stays.
    #[arg(long)]
    packets: Option<u64>,
    /// Another seed makes other packets of the same kind.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// 2 million packets in 300 s: 60 % DNS, 30 % TCP, 10 % other.
    Mixed,
    /// 1 million packets in 150 s: DNS queries and replies.
    Dns,
    /// 5 million packets in 60 s: DNS queries for distinct random names from random sources.
    Flood,
}

impl Kind {
    /// How many packets this kind is meant to have.
    pub fn packets(self) -> u64 {
        match self {
            Kind::Mixed => 2_000_000,
            Kind::Dns => 1_000_000,
            Kind::Flood => 5_000_000,
        }
    }

    /// Nanoseconds that many packets take.
    fn span(self) -> u64 {
        let seconds = match self {
            Kind::Mixed => 300,
            Kind::Dns => 150,
            Kind::Flood => 60,
        };
        seconds * 1_000_000_000
    }

    /// The mean time from one packet to the next, in nanoseconds.
    fn gap(self) -> u64 {
        self.span() / self.packets()
    }
}

impl Generate {
    /// Carries the command out.
    pub fn run(self) -> Result<()> {
        let packets = self.packets.unwrap_or(self.kind.packets());
        write_file(self.kind, &self.file, packets, self.seed)
    }
}

/// Writes `packets` packets of `kind` to the file at `path`.
fn write_file(kind: Kind, path: &Path, packets: u64, seed: u64) -> Result<()> {
    let write = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        traffic::write(kind, packets, seed, &mut file)?;
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
