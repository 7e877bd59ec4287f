//! How names are cut, and what addresses and names are keyed and shown by: the same for all that is to
//! be merged.
//!
//! For privacy addresses can be masked and names replaced by a keyed hash, before they reach anything
//! that is summed up, logged or served. The hash is keyed because nearly all names can be guessed:
//! without the key nobody can try them.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use pktvisor_common::packet::IpVersion;
use serde::{Deserialize, Serialize};

use crate::dns::name;
use crate::secret::{self, FileError};
use crate::sketch::key::FleetKey;

/// Octets of a name as it is shown, at most: as many as a printable one has.
const MAX_TEXT: usize = 255;
/// Of a longer one, octets that are shown of its start and of its end.
const HEAD: usize = 116;
const TAIL: usize = 116;
/// Octets of an escape (RFC 1035, section 5.1), at most.
const ESCAPE: usize = 4;
/// Octets that a key file has at least: 128 bits.
const SHORTEST_KEY: usize = 16;
/// Octets that differ in it, at least.
const LEAST_OCTETS: usize = 5;
/// What the key is derived for (BLAKE3's context of use).
const CONTEXT: &str = "pktvisor 2026-11 names in summaries";
/// What the fingerprint of a key is made of: no name has a label of 255 octets.
const FINGERPRINT: &[u8] = &[255];

/// How names are cut and hashed, and what is kept of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The key that names and addresses are hashed with in what merges.
    pub fleet: FleetKey,
    /// Whether names are cut above their public suffix instead of to two and three labels.
    pub public_suffix: bool,
    /// What is kept of addresses, if not all.
    pub mask: Option<Mask>,
    /// The key that names are hidden with, if they are.
    pub names: Option<NameKey>,
}

impl Naming {
    /// The key of a lower-cased name in wire form, or of the end of one.
    #[inline]
    pub fn hash(&self, wire: &[u8]) -> u64 {
        match &self.names {
            None => self.fleet.hash(wire),
            Some(key) => self.fleet.hash(&key.hash(wire).to_be_bytes()),
        }
    }

    /// What is shown for a name: at most 255 octets.
    pub fn text(&self, wire: &[u8]) -> Box<str> {
        self.cut_text(wire, false)
    }

    /// What is shown for a name of which labels were cut off, where `cut` says so.
    pub fn cut_text(&self, wire: &[u8], cut: bool) -> Box<str> {
        match &self.names {
            None => shortened(name::cut_text(wire, cut), || self.hash(wire)),
            Some(key) => key.text(wire, cut),
        }
    }

    /// What is kept of a network: its address and the length of its prefix.
    pub fn masked_network(&self, address: IpAddr, prefix: u8) -> (IpAddr, u8) {
        let Some(mask) = self.mask else { return (address, prefix) };
        match address {
            IpAddr::V4(v4) => {
                let kept =
                    v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(mask.v4)).unwrap_or(0);
                (IpAddr::V4(kept.into()), prefix.min(mask.v4))
            }
            IpAddr::V6(v6) => {
                let kept = v6.to_bits() & mask.v6_bits();
                (IpAddr::V6(kept.into()), prefix.min(mask.v6))
            }
        }
    }
}

/// A text, without its middle where it is too long: unprintable octets take four each. The hash in its
/// place keeps two texts apart.
fn shortened(text: String, hash: impl FnOnce() -> u64) -> Box<str> {
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    let mut end = HEAD;
    let mut start = text.len() - TAIL;
    // No escape is cut: `\` and up to three digits behind it.
    while text[..end].rfind('\\').is_some_and(|at| at + ESCAPE > end) {
        end -= 1;
    }
    while text[..start].rfind('\\').is_some_and(|at| at + ESCAPE > start) {
        start += 1;
    }
    format!("{}…{:016x}…{}", &text[..end], hash(), &text[start..]).into()
}

/// The lengths of prefixes that are kept of addresses: `24/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    v4: u8,
    v6: u8,
}

impl Mask {
    fn v6_bits(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0)
    }

    /// What is kept of an address, in network order.
    #[inline]
    pub fn apply(self, octets: &[u8; 16], version: IpVersion) -> [u8; 16] {
        // An IPv4 address stands in front, and nothing behind it.
        let length = if version == IpVersion::V4 { self.v4 } else { self.v6 };
        let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        (u128::from_be_bytes(*octets) & bits).to_be_bytes()
    }
}

impl FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = |text: &str, most: u8| {
            let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
            text.parse().ok().filter(|&length: &u8| digits && length <= most)
        };
        text.split_once('/')
            .and_then(|(v4, v6)| Some(Self { v4: length(v4, 32)?, v6: length(v6, 128)? }))
            .ok_or_else(|| {
                "two lengths of prefixes are needed, of IPv4 (0 to 32) and IPv6 (0 to 128), such as 24/48".to_owned()
            })
    }
}

/// The key that names are hashed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NameKey([u8; 32]);

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key of fingerprint {:016x}", self.fingerprint())
    }
}

impl NameKey {
    /// The key that is derived from all octets of a file.
    ///
    /// # Errors
    /// Where it can't be read, or the key can be guessed.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let octets = secret::read(path)?;
        if octets.len() < SHORTEST_KEY || secret::distinct(&octets) < LEAST_OCTETS {
            let problem = format!(
                "a random key of {SHORTEST_KEY} octets at least is needed; `head -c 32 /dev/urandom` \
                 makes one"
            );
            return Err(FileError::unusable(path, problem));
        }
        Ok(Self(blake3::derive_key(CONTEXT, &octets)))
    }

    fn hash(&self, wire: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.0, wire);
        let first = hash.as_bytes().first_chunk().expect("it has 32 octets");
        u64::from_be_bytes(*first)
    }

    fn text(&self, wire: &[u8], cut: bool) -> Box<str> {
        let dot = if cut { "." } else { "" };
        format!("{dot}{:016x}", self.hash(wire)).into()
    }

    /// By which two that have the same key know each other, and nothing of the key can be told.
    pub fn fingerprint(&self) -> u64 {
        self.hash(FINGERPRINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_to_their_prefixes() {
        let mask: Mask = "24/48".parse().unwrap();
        let naming = Naming { mask: Some(mask), ..Naming::default() };
        let mut v4 = [0; 16];
        v4[..4].copy_from_slice(&[192, 0, 2, 77]);
        assert_eq!(mask.apply(&v4, IpVersion::V4)[..4], [192, 0, 2, 0]);
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(mask.apply(&v6("2001:db8:1:2::3"), IpVersion::V6), v6("2001:db8:1::"));
        let network = |text: &str, prefix| naming.masked_network(text.parse().unwrap(), prefix);
        assert_eq!(network("198.51.100.77", 32), ("198.51.100.0".parse().unwrap(), 24));
        assert_eq!(network("198.51.0.0", 16), ("198.51.0.0".parse().unwrap(), 16));
        assert_eq!(network("2001:db8:1:2::", 56), ("2001:db8:1::".parse().unwrap(), 48));
        let none: Mask = "0/0".parse().unwrap();
        let all = Naming { mask: Some(none), ..Naming::default() };
        assert_eq!(none.apply(&v6("2001:db8::1"), IpVersion::V6), [0; 16]);
        assert_eq!(all.masked_network("192.0.2.1".parse().unwrap(), 24).0.to_string(), "0.0.0.0");
        for wrong in ["", "24", "24/", "/48", "33/48", "24/129", "-1/0", "+1/0", "24/48/1"] {
            assert!(wrong.parse::<Mask>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn long_texts_lose_their_middle_and_stay_apart() {
        let naming = Naming::default();
        let unprintable = |last: u8| -> Vec<u8> {
            let label = [&[63][..], &[0x80; 62], &[last]].concat();
            [&label[..], &label, &[3], b"org"].concat()
        };
        let (one, other) = (naming.text(&unprintable(1)), naming.text(&unprintable(2)));
        assert_ne!(one, other);
        for text in [one, other] {
            assert!(text.len() <= MAX_TEXT && text.contains('…'), "{text}");
            assert!(text.starts_with("\\128\\128") && text.ends_with(".org"), "{text}");
            let escapes = text.split('…').flat_map(|part| part.split('\\').skip(1));
            assert!(escapes.clone().count() > 40);
            assert!(
                escapes.filter(|rest| !rest.contains('.')).all(|rest| rest.len() == 3),
                "{text}"
            );
        }
        let printable = [&[63][..], &[b'a'; 63]].concat().repeat(3);
        assert_eq!(naming.text(&printable).len(), 3 * 63 + 2, "a printable one is whole");
    }

    #[test]
    fn names_are_told_apart_by_the_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let key = |octets: &[u8]| {
            let path = folder.path().join("key");
            std::fs::write(&path, octets).unwrap();
            NameKey::read(&path)
        };
        let (one, other) = (key(b"0123456789abcdef").unwrap(), key(b"fedcba9876543210").unwrap());
        let naming = |key| Naming { names: Some(key), ..Naming::default() };
        let wire = b"\x03www\x07example\x03com";
        let text = naming(one).text(wire);
        assert_eq!(text.len(), 16);
        assert!(text.bytes().all(|octet| octet.is_ascii_hexdigit()));
        assert_eq!(naming(one).cut_text(wire, true), format!(".{text}").into());
        assert_eq!(text, format!("{:016x}", one.hash(wire)).into());
        assert_ne!(naming(one).hash(wire), one.hash(wire), "the fleet's key is used too");
        assert_ne!(text, naming(other).text(wire));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert!(!format!("{one:?}").contains("0123"));
        assert!(key(b"0123456789abcde").is_err() && key(&[0; 32]).is_err());
        assert!(NameKey::read(Path::new("/no/such/key")).is_err());
    }
}
