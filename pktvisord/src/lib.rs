//! The daemon of pktvisor: packets in, time-windowed summaries out.

pub mod capture;
pub mod defrag;
pub mod dns;
