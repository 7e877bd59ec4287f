//! The daemon of pktvisor: packets in, time-windowed summaries out.

pub mod app;
pub mod capture;
pub mod cli;
pub mod config;
pub mod defrag;
pub mod dns;
pub mod geo;
pub mod host;
pub mod http;
pub mod lane;
pub mod live;
pub mod output;
pub mod pipeline;
pub mod privileges;
pub mod progress;
pub mod prometheus;
pub mod replay;
pub mod settings;
pub mod shard;
pub mod shutdown;
pub mod sketch;
pub mod summary;
pub mod telemetry;
pub mod time;
pub mod window;
pub mod workers;
