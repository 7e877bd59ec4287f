//! What is read from DNS messages.

pub mod detail;
pub mod message;
pub mod name;
pub mod scan;
pub mod stream;
pub mod transaction;
pub mod unreachable;
