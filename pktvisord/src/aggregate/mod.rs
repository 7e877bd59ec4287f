//! What workers add packets and messages up in, until a minute becomes a summary.

pub mod bucket;
pub mod counts;
pub mod front;
pub mod naming;
