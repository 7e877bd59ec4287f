//! The pktvisor daemon: aggregates packets into time-windowed summaries.

pub mod agent;
pub mod aggregate;
pub mod cli;
pub mod config;
pub mod decode;
pub mod export;
pub mod input;
pub mod serve;
pub mod store;
pub mod system;
pub mod time;
