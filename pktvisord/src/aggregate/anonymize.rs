//! Cutting, hashing and display of names, and masking and hashing of addresses. All summaries to be
//! merged must use the same settings.
//!
//! For privacy, addresses can be masked and names can be replaced by a keyed hash, before they reach a
//! summary, the log or a response. The hash is keyed because nearly all names can be guessed: without
//! the key nobody can test a guess.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use pktvisor_common::sketch::key::{FleetKey, distinct_bytes};
use pktvisor_common::summary::mask::Mask;

use crate::decode::dns::name;
use crate::system::secret::{self, FileError};

/// Maximum bytes of a displayed name. A name without escapes always fits.
const MAX_TEXT: usize = 255;
/// Bytes kept at the start and at the end of a longer one.
const HEAD: usize = 116;
const TAIL: usize = 116;
/// Maximum bytes of an escape (RFC 1035, section 5.1).
const ESCAPE: usize = 4;
/// Minimum bytes of a key file: 128 bits.
const SHORTEST_KEY: usize = 16;
/// Minimum number of distinct bytes in a key file.
const LEAST_BYTES: usize = 5;
/// BLAKE3's context string for deriving the key.
const CONTEXT: &str = "pktvisor 2026-11 names in summaries";
/// Input of the key's fingerprint. It cannot be a name, because no name has a label of 255 bytes.
const FINGERPRINT: &[u8] = &[255];

/// Settings for the cutting and hashing of names and the masking of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anonymizer {
    /// Key of the hashes of names and addresses in mergeable state.
    pub fleet: FleetKey,
    /// True if names are cut above their public suffix instead of to two and three labels.
    pub public_suffix: bool,
    /// Mask for addresses; `None` keeps them whole.
    pub mask: Option<Mask>,
    /// Key that replaces names by hashes; `None` keeps names readable.
    pub names: Option<NameKey>,
}

impl Anonymizer {
    /// Returns the key in sketches of a lower-cased name in wire form, or of the end of one.
    #[inline]
    pub fn hash(&self, wire: &[u8]) -> u64 {
        match &self.names {
            None => self.fleet.hash(wire),
            Some(key) => self.fleet.hash(&key.hash(wire).to_be_bytes()),
        }
    }

    /// Returns the displayed form of a name, at most 255 bytes.
    pub fn text(&self, wire: &[u8]) -> Box<str> {
        self.cut_text(wire, false)
    }

    /// Returns the displayed form of a name. `cut` says that leading labels were removed.
    pub fn cut_text(&self, wire: &[u8], cut: bool) -> Box<str> {
        match &self.names {
            None => shortened(name::cut_text(wire, cut), || self.hash(wire)),
            Some(key) => key.text(wire, cut),
        }
    }

    /// Returns a network, address and prefix length, with the mask applied.
    pub fn masked_network(&self, address: IpAddr, prefix: u8) -> (IpAddr, u8) {
        self.mask.map_or((address, prefix), |mask| mask.network(address, prefix))
    }
}

/// Replaces the middle of a text that is too long, since each unprintable byte takes four. The hash in
/// its place keeps texts distinct.
fn shortened(text: String, hash: impl FnOnce() -> u64) -> Box<str> {
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    let mut end = HEAD;
    let mut start = text.len() - TAIL;
    // Do not split an escape: `\` and up to three digits.
    while text[..end].rfind('\\').is_some_and(|at| at + ESCAPE > end) {
        end -= 1;
    }
    while text[..start].rfind('\\').is_some_and(|at| at + ESCAPE > start) {
        start += 1;
    }
    format!("{}…{:016x}…{}", &text[..end], hash(), &text[start..]).into()
}

/// The key of the hash that replaces names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NameKey([u8; 32]);

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key of fingerprint {:016x}", self.fingerprint())
    }
}

impl NameKey {
    /// Derives the key from all bytes of a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if the key could be guessed.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = secret::read(path)?;
        if bytes.len() < SHORTEST_KEY || distinct_bytes(&bytes) < LEAST_BYTES {
            let problem = format!(
                "the key must be random and have at least {SHORTEST_KEY} bytes; generate one with `head \
                 -c 32 /dev/urandom`"
            );
            return Err(FileError::unusable(path, problem));
        }
        Ok(Self(blake3::derive_key(CONTEXT, &bytes)))
    }

    fn hash(&self, wire: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.0, wire);
        let first = hash.as_bytes().first_chunk().expect("it has 32 bytes");
        u64::from_be_bytes(*first)
    }

    fn text(&self, wire: &[u8], cut: bool) -> Box<str> {
        let dot = if cut { "." } else { "" };
        format!("{dot}{:016x}", self.hash(wire)).into()
    }

    /// Returns a fingerprint: equal for equal keys, and it reveals nothing about the key.
    pub fn fingerprint(&self) -> u64 {
        self.hash(FINGERPRINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle_and_stay_distinct() {
        let anonymizer = Anonymizer::default();
        let unprintable = |last: u8| -> Vec<u8> {
            let label = [&[63][..], &[0x80; 62], &[last]].concat();
            [&label[..], &label, &[3], b"org"].concat()
        };
        let (one, other) = (anonymizer.text(&unprintable(1)), anonymizer.text(&unprintable(2)));
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
        assert_eq!(anonymizer.text(&printable).len(), 3 * 63 + 2, "a printable one is whole");
    }

    #[test]
    fn hidden_names_depend_on_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let key = |bytes: &[u8]| {
            let path = folder.path().join("key");
            std::fs::write(&path, bytes).unwrap();
            NameKey::read(&path)
        };
        let (one, other) = (key(b"0123456789abcdef").unwrap(), key(b"fedcba9876543210").unwrap());
        let anonymizer = |key| Anonymizer { names: Some(key), ..Anonymizer::default() };
        let wire = b"\x03www\x07example\x03com";
        let text = anonymizer(one).text(wire);
        assert_eq!(text.len(), 16);
        assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(anonymizer(one).cut_text(wire, true), format!(".{text}").into());
        assert_eq!(text, format!("{:016x}", one.hash(wire)).into());
        assert_ne!(anonymizer(one).hash(wire), one.hash(wire), "the fleet's key is used too");
        assert_ne!(text, anonymizer(other).text(wire));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert!(!format!("{one:?}").contains("0123"));
        assert!(key(b"0123456789abcde").is_err() && key(&[0; 32]).is_err());
        assert!(NameKey::read(Path::new("/no/such/key")).is_err());
    }
}
