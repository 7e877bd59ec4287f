//! What the fuzz targets do with their input.
//!
//! Each module's `run` takes any octets and panics where a property does not hold. cargo-fuzz
//! calls it through `fuzz_targets/`, and a test of pktvisord includes this file and replays the
//! corpora with a stable compiler.

pub mod capture;
pub mod defrag;
pub mod dns_scan;
pub mod hostspec;
mod input;
pub mod packet;
pub mod state;
pub mod tcp_stream;
