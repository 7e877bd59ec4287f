//! Closed minutes, and what is served of them.

pub mod live;
pub mod minutes;
