//! Parses DNS messages.

pub mod detail;
pub mod name;
pub mod scan;
pub mod stream;
pub mod unreachable;
