//! The bodies of the fuzz targets.
//!
//! The `run` function of each module takes arbitrary bytes and panics if a property does not hold.
//! cargo-fuzz calls it through `fuzz_targets/`. A test of pktvisord includes this file and replays
//! the corpora with a stable compiler.

pub(crate) mod capture;
pub(crate) mod defrag;
pub(crate) mod dns_scan;
pub(crate) mod hostspec;
mod input;
pub(crate) mod packet;
pub(crate) mod state;
pub(crate) mod tcp_stream;
