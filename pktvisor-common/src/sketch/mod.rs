//! Bounded, mergeable summaries of unbounded streams: thin wrappers of well-kept libraries.
//!
//! Whatever is merged between workers, minutes and agents is hashed with the fleet's key
//! ([`key::FleetKey`]), never with a process's random state.

pub mod cardinality;
pub mod hyperloglog;
pub mod key;
pub mod latency;
pub mod quantiles;
pub mod tally;
pub mod top;
