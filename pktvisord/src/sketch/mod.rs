//! Bounded, mergeable summaries of unbounded streams: thin wrappers of well-kept libraries.
//!
//! Whatever is merged between shards, minutes and agents is keyed by [`hash`], one function with
//! one seed, never by a process's random state.

pub mod cardinality;
pub mod front;
pub mod hyperloglog;
pub mod latency;
pub mod quantiles;
pub mod tally;
pub mod top;

/// The seed of [`hash`] unless another is configured.
pub const DEFAULT_SEED: u64 = 0;

/// XXH3-64 with a seed: the key of all sketches.
#[inline]
pub fn hash(octets: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(octets, seed)
}
