//! What is read from DNS messages.

pub mod detail;
pub mod iana;
pub mod name;
pub mod scan;
// pub mod stream;
pub mod transaction;
