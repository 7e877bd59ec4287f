//! The byte form of a summary, by which shards, agents and fleets exchange what they merge.
//!
//! Sixteen octets of header, then the summary in postcard's wire format
//! (<https://postcard.jamesmunns.com/wire-format>), the fields in the order of the Rust types:
//!
//! | octets | meaning |
//! |---|---|
//! | 0–3 | `PKTV` |
//! | 4–5 | version, big-endian: [`VERSION`] |
//! | 6 | hash function: 1, XXH3-64 |
//! | 7 | precision of cardinalities, log2 of the registers |
//! | 8–15 | seed of the hash, big-endian |
//!
//! then the DNS ports, how names are cut and what is kept of addresses and names, and the summary. What
//! does not fit together is refused, since merging it would give wrong numbers without a word.

use serde::{Deserialize, Serialize};

use super::Summary;
use super::naming::Mask;
use crate::sketch::cardinality::PRECISION;
use crate::time::MINUTE;

/// The version of the byte form that is written and read.
pub const VERSION: u16 = 2;
const MAGIC: &[u8; 4] = b"PKTV";
const HASH_XXH3: u8 = 1;
/// Reasons of losses that are taken from outside.
const MAX_REASONS: usize = 64;

/// What two summaries must share to be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// DNS ports, ascending.
    pub ports: Vec<u16>,
    /// Whether names are cut above their public suffix.
    pub public_suffix: bool,
    /// What is kept of addresses, if not all.
    pub mask: Option<Mask>,
    /// The fingerprint of the key that names are hashed with, if they are.
    pub names: Option<u64>,
    /// Seed of the hash; stands in the header.
    #[serde(skip)]
    pub seed: u64,
}

/// Why octets are no summary that can be merged here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// They do not start like one.
    #[error("not the byte form of a summary: it does not start with PKTV")]
    NotAState,
    /// Another version.
    #[error("byte form of version {found}, but this is version {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Sketches of another hash function, precision or seed.
    #[error("sketches do not fit together: {what} is {found} there and {wanted} here")]
    Sketch {
        /// What differs.
        what: &'static str,
        /// Its value in the octets.
        found: u64,
        /// Its value here.
        wanted: u64,
    },
    /// Another set of DNS ports, or names cut otherwise.
    #[error("counted on other terms: {found:?} there and {wanted:?} here")]
    Terms {
        /// The terms in the octets.
        found: Terms,
        /// The terms here.
        wanted: Terms,
    },
    /// Broken behind the header.
    #[error("broken summary: {0}")]
    Broken(String),
}

/// Writes a summary that was made on these terms.
pub fn encode(summary: &Summary, terms: &Terms) -> Vec<u8> {
    let mut octets = Vec::with_capacity(64 * 1024);
    octets.extend_from_slice(MAGIC);
    octets.extend_from_slice(&VERSION.to_be_bytes());
    octets.extend_from_slice(&[HASH_XXH3, PRECISION]);
    octets.extend_from_slice(&terms.seed.to_be_bytes());
    postcard::to_extend(&(terms, summary), octets).expect("plain data serializes into memory")
}

/// Reads the terms that a summary was made on.
///
/// # Errors
/// [`StateError`] where the octets are no summary.
pub fn terms(octets: &[u8]) -> Result<Terms, StateError> {
    open(octets).map(|(terms, _)| terms)
}

/// Reads a summary to be merged on these terms.
///
/// # Errors
/// [`StateError`] where the octets are no summary, or one made on other terms.
pub fn decode(octets: &[u8], terms: &Terms) -> Result<Summary, StateError> {
    let (found, body) = open(octets)?;
    same("seed", found.seed, terms.seed)?;
    if found != *terms {
        return Err(StateError::Terms { found, wanted: terms.clone() });
    }
    let (summary, rest) = postcard::take_from_bytes::<Summary>(body).map_err(broken)?;
    if !rest.is_empty() {
        return Err(StateError::Broken(format!("{} octets behind its end", rest.len())));
    }
    check(&summary).map_err(|what| StateError::Broken(what.into()))?;
    Ok(summary)
}

/// The terms of a summary, and the octets behind them.
fn open(octets: &[u8]) -> Result<(Terms, &[u8]), StateError> {
    let (header, body) = octets.split_first_chunk::<16>().ok_or(StateError::NotAState)?;
    let [m0, m1, m2, m3, v0, v1, function, precision, seed @ ..] = *header;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(StateError::NotAState);
    }
    let found = u16::from_be_bytes([v0, v1]);
    if found != VERSION {
        return Err(StateError::Version { found });
    }
    same("hash function", function.into(), HASH_XXH3.into())?;
    same("precision", precision.into(), PRECISION.into())?;
    let (terms, body) = postcard::take_from_bytes::<Terms>(body).map_err(broken)?;
    Ok((Terms { seed: u64::from_be_bytes(seed), ..terms }, body))
}

fn same(what: &'static str, found: u64, wanted: u64) -> Result<(), StateError> {
    if found == wanted { Ok(()) } else { Err(StateError::Sketch { what, found, wanted }) }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn broken(error: postcard::Error) -> StateError {
    StateError::Broken(error.to_string())
}

/// What deserialization alone does not see.
fn check(summary: &Summary) -> Result<(), &'static str> {
    let length = summary.end.checked_sub(summary.start).ok_or("a span that overflows")?;
    let minutes = summary.rates.minutes() as i64;
    if length < 0 || !summary.rates.is_folded() && length > minutes.saturating_mul(MINUTE) {
        return Err("a span that its minutes do not cover");
    }
    if summary.account.losses.len() > MAX_REASONS {
        return Err("more reasons of losses than there are");
    }
    Ok(())
}
