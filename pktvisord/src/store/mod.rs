//! Closed minutes.

pub mod minutes;
