//! Parses bytes: link layers, IP fragments and DNS. Nothing here counts or aggregates.

pub mod block;
pub mod defrag;
pub mod dns;
pub mod link;
