//! Captures made for a test, and the daemon as its user runs it.
#![allow(dead_code, reason = "each test takes the parts it needs")]

pub mod capture;
pub mod daemon;
pub mod dns;
pub mod frame;
pub mod random;
