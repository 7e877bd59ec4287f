//! From packets to summaries: what belongs together is found, and added up until a minute is closed.

pub mod bucket;
pub mod counts;
pub mod dns;
pub mod front;
pub mod geo;
pub mod host;
pub mod lane;
pub mod naming;
pub mod pipeline;
pub mod settings;
pub mod shard;
pub mod transaction;
pub mod workers;
