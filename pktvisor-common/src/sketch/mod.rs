//! Bounded, mergeable summaries of unbounded streams: thin wrappers of well-maintained libraries.
//!
//! Items that are merged between workers, minutes and agents are hashed with the fleet key
//! ([`key::FleetKey`]), never with the random state of a process.

pub mod cardinality;
pub mod hyperloglog;
pub mod key;
pub mod latency;
pub mod quantiles;
pub mod tally;
pub mod top;
