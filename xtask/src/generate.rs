//! `cargo xtask gen KIND FILE`: generates captures for benchmarks. Equal seeds give equal bytes.
//!
//! Every packet is to or from one host, 192.0.2.1 and 2001:db8::1, as in a capture on a server.

pub(crate) mod attacks;
mod dns;
mod pcap;
mod random;
mod tcp;
mod traffic;
mod wire;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use self::attacks::Attack;

/// Generate a capture file for benchmarks
#[derive(Args)]
pub(crate) struct Generate {
    /// Kind of traffic
    kind: Kind,
    /// Capture file to write (pcap, microseconds)
    file: PathBuf,
    /// Number of packets, by default that of KIND; the packet rate stays the same
    #[arg(long)]
    packets: Option<u64>,
    /// Seed of the random numbers: other seeds give other packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Generate a capture file of hostile packets, made with knowledge of the source code
#[derive(Args)]
pub(crate) struct GenerateAttack {
    /// Kind of attack
    attack: Attack,
    /// Capture file to write (pcap, microseconds)
    file: PathBuf,
    /// Number of packets, at 20,000 per second
    #[arg(long, default_value_t = 200_000)]
    packets: u64,
    /// Seed of the random numbers: other seeds give other packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl GenerateAttack {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let Self { attack, file, packets, seed } = self;
        write_file(&file, |out| attacks::write(attack, packets, seed, out))
    }
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// 2 million packets in 300 s: 60 % DNS, 30 % TCP, 10 % other
    Mixed,
    /// 1 million packets in 150 s: DNS queries and replies
    Dns,
    /// 5 million packets in 60 s: DNS queries for distinct random names from random sources
    Flood,
}

impl Kind {
    /// Returns the default number of packets.
    pub(crate) fn packets(self) -> u64 {
        match self {
            Kind::Mixed => 2_000_000,
            Kind::Dns => 1_000_000,
            Kind::Flood => 5_000_000,
        }
    }

    /// Returns the time that the default number of packets takes, in nanoseconds.
    fn span(self) -> u64 {
        let seconds = match self {
            Kind::Mixed => 300,
            Kind::Dns => 150,
            Kind::Flood => 60,
        };
        seconds * 1_000_000_000
    }

    /// Returns the mean time between packets in nanoseconds.
    fn gap(self) -> u64 {
        self.span() / self.packets()
    }
}

impl Generate {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let packets = self.packets.unwrap_or(self.kind.packets());
        write_file(&self.file, |out| traffic::write(self.kind, packets, self.seed, out))
    }
}

/// Creates the file at `path` and lets `packets` write to it.
fn write_file(
    path: &Path,
    packets: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let write = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        packets(&mut file)?;
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
