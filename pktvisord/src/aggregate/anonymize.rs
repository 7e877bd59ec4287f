//! How names are cut, and what addresses and names are keyed and shown by: the same for all that is to
//! be merged.
//!
//! For privacy addresses can be masked and names replaced by a keyed hash, before they reach anything
//! that is summed up, logged or served. The hash is keyed because nearly all names can be guessed:
//! without the key nobody can try them.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use pktvisor_common::sketch::key::{FleetKey, distinct_bytes};
use pktvisor_common::summary::mask::Mask;

use crate::decode::dns::name;
use crate::system::secret::{self, FileError};

/// Bytes of a name as it is shown, at most: as many as a printable one has.
const MAX_TEXT: usize = 255;
/// Of a longer one, bytes that are shown of its start and of its end.
const HEAD: usize = 116;
const TAIL: usize = 116;
/// Bytes of an escape (RFC 1035, section 5.1), at most.
const ESCAPE: usize = 4;
/// Bytes that a key file has at least: 128 bits.
const SHORTEST_KEY: usize = 16;
/// Bytes that differ in it, at least.
const LEAST_BYTES: usize = 5;
/// What the key is derived for (BLAKE3's context of use).
const CONTEXT: &str = "pktvisor 2026-11 names in summaries";
/// What the fingerprint of a key is made of: no name has a label of 255 bytes.
const FINGERPRINT: &[u8] = &[255];

/// How names are cut and hashed, and what is kept of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anonymizer {
    /// The key that names and addresses are hashed with in what merges.
    pub fleet: FleetKey,
    /// Whether names are cut above their public suffix instead of to two and three labels.
    pub public_suffix: bool,
    /// What is kept of addresses, if not all.
    pub mask: Option<Mask>,
    /// The key that names are hidden with, if they are.
    pub names: Option<NameKey>,
}

impl Anonymizer {
    /// The key of a lower-cased name in wire form, or of the end of one.
    #[inline]
    pub fn hash(&self, wire: &[u8]) -> u64 {
        match &self.names {
            None => self.fleet.hash(wire),
            Some(key) => self.fleet.hash(&key.hash(wire).to_be_bytes()),
        }
    }

    /// What is shown for a name: at most 255 bytes.
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
        self.mask.map_or((address, prefix), |mask| mask.network(address, prefix))
    }
}

/// A text, without its middle where it is too long: unprintable bytes take four each. The hash in its
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

/// The key that names are hashed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NameKey([u8; 32]);

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key of fingerprint {:016x}", self.fingerprint())
    }
}

impl NameKey {
    /// The key that is derived from all bytes of a file.
    ///
    /// # Errors
    /// Where it can't be read, or the key can be guessed.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = secret::read(path)?;
        if bytes.len() < SHORTEST_KEY || distinct_bytes(&bytes) < LEAST_BYTES {
            let problem = format!(
                "a random key of {SHORTEST_KEY} bytes at least is needed; `head -c 32 /dev/urandom` \
                 makes one"
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

    /// By which two that have the same key know each other, and nothing of the key can be told.
    pub fn fingerprint(&self) -> u64 {
        self.hash(FINGERPRINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle_and_stay_apart() {
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
    fn names_are_told_apart_by_the_key_alone() {
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
