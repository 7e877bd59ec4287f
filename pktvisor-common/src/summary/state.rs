//! The byte form of a summary, by which workers, agents and fleets exchange what they merge.
//!
//! Sixteen bytes of header, then sections: `[tag u16][version u16][length u32][payload]`, all
//! big-endian. A payload is in postcard's wire format
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
//! Agents of two releases merge what both know. A section or a counter that this release does not
//! know is left out, and [`Decoded::left_out`] names it. Summaries made on other terms (DNS ports,
//! masks, keys that hide names) are refused, since merging them would give wrong numbers without a
//! word. Summaries of other fleet keys merge too, see [`crate::summary::across`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Summary;
use super::counters::Counters;
use super::mask::Mask;
use crate::sketch::hyperloglog::PRECISION;
use crate::sketch::key::FleetKey;
use crate::time::MINUTE;

/// The version of the framing that is written and read.
pub const VERSION: u16 = 3;
const MAGIC: &[u8; 4] = b"PKTV";
const SIPHASH_2_4: u8 = 2;
/// Minutes that are kept second by second, at most: twice as many as this release keeps.
const MAX_MINUTES: i64 = 512;
/// Bytes of a state that is read, at most: twice as many as an agent writes, whatever was sent to it.
pub const MAX_BYTES: usize = 16 << 20;
/// Reasons of losses that are taken from outside, at most.
const MAX_REASONS: usize = 64;
/// Counters that are taken from outside, at most.
const MAX_COUNTERS: usize = 1_024;
/// Names of what is left out, at most; characters of each.
const MAX_LEFT_OUT: usize = 32;
const MAX_NAME: usize = 64;

/// A section: its tag and the version that this release writes and reads.
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

    /// The version of the section's payload.
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

/// What two summaries must share to be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// DNS ports, ascending.
    pub ports: Vec<u16>,
    /// Whether names are cut above their public suffix.
    pub public_suffix: bool,
    /// What is kept of addresses, if not all.
    pub mask: Option<Mask>,
    /// The fingerprint of the key that names are hidden with, if they are.
    pub names: Option<u64>,
}

/// What the keys in a summary's sketches were made with: they fit together where this is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keyed {
    /// The number of the hash function.
    function: u8,
    /// The fingerprint of its key.
    fingerprint: u64,
}

impl From<FleetKey> for Keyed {
    fn from(key: FleetKey) -> Self {
        Self { function: SIPHASH_2_4, fingerprint: key.fingerprint() }
    }
}

/// The span of a summary.
#[derive(Serialize, Deserialize)]
struct Period {
    minute: i64,
    start: i64,
    end: i64,
}

/// A summary that was read.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// All of it that this release knows.
    pub summary: Summary,
    /// What its keys were made with.
    pub keyed: Keyed,
    /// Sections and counters that this release does not know, or that the other one did not
    /// write; at most 32 of them.
    pub left_out: Vec<String>,
}

/// Why bytes are no summary that can be merged here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// They do not start like one.
    #[error("not the byte form of a summary: it does not start with PKTV")]
    NotAState,
    /// Another framing.
    #[error("byte form of version {found}, but this release reads version {VERSION}")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Distinct counts of another precision.
    #[error(
        "incompatible distinct counts: their precision is {found}, but this release uses {PRECISION}"
    )]
    Precision {
        /// The precision in the bytes.
        found: u8,
    },
    /// Another set of DNS ports, or names cut otherwise.
    #[error("counted with other options: {found:?} instead of {wanted:?}")]
    Terms {
        /// The terms in the bytes.
        found: Terms,
        /// The terms here.
        wanted: Terms,
    },
    /// Terms that this release does not know, so that it cannot tell whether it may merge.
    #[error("counted with options of version {found}, which this release does not support")]
    UnknownTerms {
        /// The version found.
        found: u16,
    },
    /// Broken behind the header.
    #[error("broken summary: {0}")]
    Broken(String),
}

/// Writes a summary that was made on these terms, with keys made so.
pub fn encode(summary: &Summary, terms: &Terms, keyed: Keyed) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[keyed.function, PRECISION]);
    bytes.extend_from_slice(&keyed.fingerprint.to_be_bytes());
    let Summary { turn: _, minute, start, end, totals: _, rates, packets, dns, account } = summary;
    let period = Period { minute: *minute, start: *start, end: *end };
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

/// Reads the terms that a summary was made on.
///
/// # Errors
/// [`StateError`] where the bytes are no summary.
pub fn terms(bytes: &[u8]) -> Result<Terms, StateError> {
    let (_, sections) = open(bytes)?;
    read_terms(&sections)
}

/// Reads a summary to be merged on these terms.
///
/// # Errors
/// [`StateError`] where the bytes are no summary, or one made on other terms.
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
    (summary.minute, summary.start, summary.end) = (minute, start, end);
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

/// Sets the counters that this release knows, and notes those that only one of the two knows.
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
    /// A summary that has the counters of this one, and nothing else.
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

/// What is left out of a merge.
struct LeftOut(Vec<String>);

impl LeftOut {
    /// Notes a name, of which nothing but plain text is kept: it came from outside.
    fn note(&mut self, name: std::fmt::Arguments<'_>) {
        if self.0.len() < MAX_LEFT_OUT {
            let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
            self.0.push(name.to_string().chars().filter(plain).take(MAX_NAME).collect());
        }
    }
}

/// The sections of a summary.
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

    /// Reads a section; `None` where it is not there, or of a version that this release does not
    /// know, which is noted.
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

/// What a summary's keys were made with, and its sections.
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

/// Checks what deserialization alone does not see.
fn check(summary: &Summary, has_rates: bool) -> Result<(), &'static str> {
    let length = summary.end.checked_sub(summary.start).ok_or("time span overflows")?;
    let minutes = summary.rates.minutes() as i64;
    let covered = summary.rates.is_folded() || length <= minutes.saturating_mul(MINUTE);
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
