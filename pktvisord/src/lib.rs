//! The daemon of pktvisor: packets in, time-windowed summaries out.

pub mod capture;
pub mod defrag;
pub mod dns;
pub mod geo;
pub mod host;
pub mod pipeline;
pub mod settings;
pub mod shard;
pub mod sketch;
pub mod summary;
pub mod time;
pub mod window;
pub mod workers;
