//! The bodies of the fuzz targets.
//!
//! The `run` function of each module takes arbitrary bytes and panics if a property does not hold.
//! cargo-fuzz calls it through `fuzz_targets/`. A test of pktvisord includes this file and replays
//! the corpora with a stable compiler.

pub mod capture;
pub mod defrag;
pub mod dns_scan;
pub mod hostspec;
mod input;
pub mod packet;
pub mod state;
pub mod tcp_stream;
