//! The byte form of a summary. Agents serve it, so that their summaries can be merged elsewhere.
//!
//! A header of 16 bytes, then sections: `[tag u16][version u16][length u32][payload]`, all
//! big-endian. Payloads are in postcard's wire format
//! (<https://postcard.jamesmunns.com/wire-format>). `docs/STATE.md` describes every section.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0–3 | `PKTV` |
//! | 4–5 | version of this framing, big-endian: [`VERSION`] |
//! | 6 | hash function: 2, SipHash-2-4 |
//! | 7 | precision of cardinalities, log2 of the registers |
//! | 8–15 | fingerprint of the fleet's key, big-endian |
//!
//! Agents of two releases merge what both know. The reader skips unknown sections and counters and
//! names them in [`Decoded::left_out`]. It refuses summaries counted on other terms (DNS ports,
//! masks, keys that hide names): merging them would silently give wrong numbers. Summaries of other
//! fleet keys do merge, see [`crate::summary::across`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Summary;
use super::counters::Counters;
use super::mask::Mask;
use crate::sketch::hyperloglog::PRECISION;
use crate::sketch::key::FleetKey;
use crate::time::{MINUTE, Timestamp};

/// The framing version that this release writes and reads.
pub const VERSION: u16 = 3;
const MAGIC: &[u8; 4] = b"PKTV";
const SIPHASH_2_4: u8 = 2;
/// Maximum minutes kept second by second in a state: twice as many as this release keeps.
const MAX_MINUTES: i64 = 512;
/// Maximum bytes of a state: more than twice what an agent writes, whatever traffic it saw.
pub const MAX_BYTES: usize = 16 << 20;
/// Maximum loss reasons read from a state.
const MAX_REASONS: usize = 64;
/// Maximum counters read from a state.
const MAX_COUNTERS: usize = 1_024;
/// Maximum names of what is left out, and maximum characters of each.
const MAX_LEFT_OUT: usize = 32;
const MAX_NAME: usize = 64;

/// The sections by tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Terms = 1,
    Period = 2,
    Counters = 3,
    Losses = 4,
    Rates = 5,
    Packets = 6,
    Dns = 7,
    Transactions = 8,
}

impl Section {
    const ALL: [Self; 8] = [
        Self::Terms,
        Self::Period,
        Self::Counters,
        Self::Losses,
        Self::Rates,
        Self::Packets,
        Self::Dns,
        Self::Transactions,
    ];

    fn of_tag(tag: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|section| *section as u16 == tag)
    }

    /// Returns the payload version that this release writes and reads.
    const fn version(self) -> u16 {
        match self {
            Self::Terms
            | Self::Period
            | Self::Counters
            | Self::Losses
            | Self::Rates
            | Self::Packets
            | Self::Dns
            | Self::Transactions => 1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Terms => "terms",
            Self::Period => "period",
            Self::Counters => "counters",
            Self::Losses => "losses",
            Self::Rates => "rates",
            Self::Packets => "packets",
            Self::Dns => "dns",
            Self::Transactions => "transactions",
        }
    }
}

/// Settings that two summaries must share to be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// DNS ports, ascending.
    pub ports: Vec<u16>,
    /// True if names are cut above their public suffix.
    pub public_suffix: bool,
    /// The mask of addresses; `None` if they are kept whole.
    pub mask: Option<Mask>,
    /// Fingerprint of the key that hides names; `None` if they are not hidden.
    pub names: Option<u64>,
}

/// The hash function and key of a summary's sketches. Keys of sketches are comparable only if these
/// are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keyed {
    /// Number of the hash function.
    function: u8,
    /// Fingerprint of its key.
    fingerprint: u64,
}

impl From<FleetKey> for Keyed {
    fn from(key: FleetKey) -> Self {
        Self { function: SIPHASH_2_4, fingerprint: key.fingerprint() }
    }
}

/// The time span of a summary, see [`Summary`].
#[derive(Serialize, Deserialize)]
struct Period {
    minute: i64,
    start: i64,
    end: i64,
}

/// A decoded summary.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The part that this release knows.
    pub summary: Summary,
    /// The hash function and key of its sketches.
    pub keyed: Keyed,
    /// Sections and counters that this release does not know or that the other one did not write; at
    /// most 32.
    pub left_out: Vec<String>,
}

/// Reasons why bytes cannot be merged as a summary.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes do not start with the magic.
    #[error("not the byte form of a summary: it does not start with PKTV")]
    NotAState,
    /// The framing has another version.
    #[error("byte form of version {found}, but this release reads version {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Distinct counts have another precision.
    #[error(
        "incompatible distinct counts: their precision is {found}, but this release uses {PRECISION}"
    )]
    Precision {
        /// The precision found.
        found: u8,
    },
    /// The summary was counted on other terms, such as other DNS ports.
    #[error("counted with other options: {found:?} instead of {wanted:?}")]
    Terms {
        /// The terms found.
        found: Terms,
        /// The expected terms.
        wanted: Terms,
    },
    /// The terms have a version that this release does not know, so it cannot tell whether merging is
    /// right.
    #[error("counted with options of version {found}, which this release does not support")]
    UnknownTerms {
        /// The version found.
        found: u16,
    },
    /// The part after the header is corrupt.
    #[error("broken summary: {0}")]
    Broken(String),
}

/// Encodes a summary that was counted on `terms`. `keyed` identifies the key of its sketches.
pub fn encode(summary: &Summary, terms: &Terms, keyed: Keyed) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[keyed.function, PRECISION]);
    bytes.extend_from_slice(&keyed.fingerprint.to_be_bytes());
    let Summary { turn: _, minute, start, end, totals: _, rates, packets, dns, account } = summary;
    let period = Period { minute: *minute, start: start.as_nanos(), end: end.as_nanos() };
    let mut counted = summary.clone_counters();
    let counters: Vec<(&str, u64)> =
        counted.counters().into_iter().map(|(name, count)| (name, *count)).collect();
    write(&mut bytes, Section::Terms, terms);
    write(&mut bytes, Section::Period, &period);
    write(&mut bytes, Section::Counters, &counters);
    write(&mut bytes, Section::Losses, &account.losses);
    write(&mut bytes, Section::Rates, rates);
    write(&mut bytes, Section::Packets, packets);
    write(&mut bytes, Section::Dns, dns);
    write(&mut bytes, Section::Transactions, &dns.xact);
    bytes
}

fn write(bytes: &mut Vec<u8>, section: Section, payload: &impl Serialize) {
    bytes.extend_from_slice(&(section as u16).to_be_bytes());
    bytes.extend_from_slice(&section.version().to_be_bytes());
    let length_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    *bytes = postcard::to_extend(payload, std::mem::take(bytes))
        .expect("plain data serializes into memory");
    let length = (bytes.len() - length_at - 4) as u32;
    bytes[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Reads the terms that a summary was counted on.
///
/// # Errors
/// Returns [`StateError`] if the bytes are not a summary.
pub fn terms(bytes: &[u8]) -> Result<Terms, StateError> {
    let (_, sections) = open(bytes)?;
    read_terms(&sections)
}

/// Decodes a summary to be merged with summaries of the same `terms`.
///
/// # Errors
/// Returns [`StateError`] if the bytes are not a summary or were counted on other terms.
pub fn decode(bytes: &[u8], terms: &Terms) -> Result<Decoded, StateError> {
    let (keyed, sections) = open(bytes)?;
    let found = read_terms(&sections)?;
    if found != *terms {
        return Err(StateError::Terms { found, wanted: terms.clone() });
    }
    let mut left_out = LeftOut(sections.unknown.clone());
    let mut summary = Summary::default();
    let Some(Period { minute, start, end }) = sections.read(Section::Period, &mut left_out)? else {
        return Err(StateError::Broken("missing period".into()));
    };
    summary.minute = minute;
    (summary.start, summary.end) = (Timestamp::from_nanos(start), Timestamp::from_nanos(end));
    let read = &mut left_out;
    if let Some(counters) = sections.read::<Vec<(&str, u64)>>(Section::Counters, read)? {
        set_counters(&mut summary, counters, read)?;
    }
    summary.account.losses = sections.read(Section::Losses, read)?.unwrap_or_default();
    let rates = sections.read(Section::Rates, read)?;
    let has_rates = rates.is_some();
    summary.rates = rates.unwrap_or_default();
    if let Some(packets) = sections.read(Section::Packets, read)? {
        summary.packets = packets;
    }
    let wire = std::mem::take(&mut summary.dns.wire);
    let unpaired = std::mem::take(&mut summary.dns.xact.unpaired);
    summary.dns = sections.read(Section::Dns, read)?.unwrap_or_default();
    summary.dns.xact = sections.read(Section::Transactions, read)?.unwrap_or_default();
    (summary.dns.wire, summary.dns.xact.unpaired) = (wire, unpaired);
    check(&summary, has_rates).map_err(|what| StateError::Broken(what.into()))?;
    Ok(Decoded { summary, keyed, left_out: left_out.0 })
}

/// Sets the counters that this release knows, and notes the names of counters that only one release
/// knows.
fn set_counters(
    summary: &mut Summary,
    named: Vec<(&str, u64)>,
    left_out: &mut LeftOut,
) -> Result<(), StateError> {
    if named.len() > MAX_COUNTERS {
        return Err(StateError::Broken("more counters than any release has".into()));
    }
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in named {
        if found.insert(name, count).is_some() {
            return Err(StateError::Broken("duplicate counter".into()));
        }
    }
    for (name, counter) in summary.counters() {
        match found.remove(name) {
            Some(count) => *counter = count,
            None => left_out.note(format_args!("counter {name}")),
        }
    }
    found.keys().for_each(|name| left_out.note(format_args!("counter {name}")));
    Ok(())
}

impl Summary {
    /// Returns a summary with the counters of this one and nothing else.
    fn clone_counters(&self) -> Self {
        let mut counters =
            Self { totals: self.totals.clone(), account: self.account.clone(), ..Self::default() };
        counters.dns.wire = self.dns.wire.clone();
        counters.dns.xact.unpaired = self.dns.xact.unpaired.clone();
        counters
    }
}

impl Counters for Summary {
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        let Self { totals, dns, account, .. } = self;
        let mut counters = totals.counters();
        counters.extend(dns.wire.counters());
        counters.extend(dns.xact.unpaired.counters());
        counters.extend(account.counters());
        counters
    }
}

/// Names of the sections and counters left out of a merge.
struct LeftOut(Vec<String>);

impl LeftOut {
    /// Notes a name, reduced to printable ASCII: it comes from outside.
    fn note(&mut self, name: std::fmt::Arguments<'_>) {
        if self.0.len() < MAX_LEFT_OUT {
            let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
            self.0.push(name.to_string().chars().filter(plain).take(MAX_NAME).collect());
        }
    }
}

/// The sections of a state.
struct Sections<'a> {
    known: BTreeMap<u16, (u16, &'a [u8])>,
    unknown: Vec<String>,
}

impl<'a> Sections<'a> {
    fn split(mut bytes: &'a [u8]) -> Result<Self, StateError> {
        let mut sections = Self { known: BTreeMap::new(), unknown: Vec::new() };
        let mut unknown = LeftOut(Vec::new());
        while !bytes.is_empty() {
            let Some((&[t0, t1, v0, v1, l0, l1, l2, l3], rest)) = bytes.split_first_chunk() else {
                return Err(StateError::Broken("truncated inside the head of a section".into()));
            };
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let Some((payload, behind)) = rest.split_at_checked(length) else {
                return Err(StateError::Broken("truncated inside a section".into()));
            };
            let (tag, version) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([v0, v1]));
            if Section::of_tag(tag).is_none() {
                unknown.note(format_args!("section {tag} of version {version}"));
            } else if sections.known.insert(tag, (version, payload)).is_some() {
                return Err(StateError::Broken(format!("duplicate section {tag}")));
            }
            bytes = behind;
        }
        sections.unknown = unknown.0;
        Ok(sections)
    }

    /// Reads a section. Returns `None`, and notes the section, if it is missing or its version is
    /// unknown.
    fn read<T: Deserialize<'a>>(
        &self,
        section: Section,
        left_out: &mut LeftOut,
    ) -> Result<Option<T>, StateError> {
        let name = section.name();
        match self.known.get(&(section as u16)) {
            None => left_out.note(format_args!("{name}")),
            Some((version, _)) if *version != section.version() => {
                left_out.note(format_args!("{name} of version {version}"));
            }
            Some((_, payload)) => {
                let (value, rest) = postcard::take_from_bytes(payload)
                    .map_err(|error| StateError::Broken(format!("{name}: {error}")))?;
                if !rest.is_empty() {
                    let what = format!("{name}: {} extra bytes at the end", rest.len());
                    return Err(StateError::Broken(what));
                }
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn read_terms(sections: &Sections<'_>) -> Result<Terms, StateError> {
    match sections.known.get(&(Section::Terms as u16)) {
        None => Err(StateError::Broken("missing options".into())),
        Some((found, _)) if *found != Section::Terms.version() => {
            Err(StateError::UnknownTerms { found: *found })
        }
        Some(_) => {
            let terms: Option<Terms> = sections.read(Section::Terms, &mut LeftOut(Vec::new()))?;
            terms.ok_or_else(|| StateError::Broken("invalid options".into()))
        }
    }
}

/// Checks the header; returns the hash function and key of the sketches, and the sections.
fn open(bytes: &[u8]) -> Result<(Keyed, Sections<'_>), StateError> {
    if bytes.len() > MAX_BYTES {
        return Err(StateError::Broken(format!("larger than {MAX_BYTES} bytes")));
    }
    let (header, body) = bytes.split_first_chunk::<16>().ok_or(StateError::NotAState)?;
    let [m0, m1, m2, m3, v0, v1, function, precision, fingerprint @ ..] = *header;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(StateError::NotAState);
    }
    let found = u16::from_be_bytes([v0, v1]);
    if found != VERSION {
        return Err(StateError::Version { found });
    }
    if precision != PRECISION {
        return Err(StateError::Precision { found: precision });
    }
    let keyed = Keyed { function, fingerprint: u64::from_be_bytes(fingerprint) };
    Ok((keyed, Sections::split(body)?))
}

/// Checks what deserialization alone does not.
fn check(summary: &Summary, has_rates: bool) -> Result<(), &'static str> {
    let length = summary
        .end
        .as_nanos()
        .checked_sub(summary.start.as_nanos())
        .ok_or("time span overflows")?;
    let minutes = summary.rates.minutes() as i64;
    let covered = summary.rates.is_folded() || length <= (minutes * MINUTE).as_nanos();
    if length < 0 || has_rates && !covered {
        return Err("time span not covered by its minutes");
    }
    if minutes > MAX_MINUTES {
        return Err("more minutes with rates per second than a summary keeps");
    }
    if summary.account.losses.len() > MAX_REASONS {
        return Err("more reasons for loss than exist");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
