//! The names of the live bucket, counted exactly before they reach the sketches.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use super::anonymize::Anonymizer;
use crate::aggregate::front::Entry;

/// The counts of a query name within one minute, until it reaches the sketches. 32 bits are enough for
/// 70 million messages a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NameCounts {
    /// Key of the name in the sketches.
    pub(super) key: u64,
    text: u32,
    text_len: u8,
    pub(super) messages: u32,
    pub(super) noerror: u32,
    pub(super) nodata: u32,
    pub(super) nxdomain: u32,
    pub(super) servfail: u32,
    pub(super) refused: u32,
    pub(super) reply_bytes: u64,
}

/// The texts of names, and the keys of the hash by which names are found.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    keys: RandomState,
}

impl Texts {
    /// Returns the hash of a name in the map.
    #[inline]
    pub(super) fn hash_of(&self, wire: &[u8]) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write(wire);
        hasher.finish()
    }

    /// Returns the total bytes of all texts.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the text of a name.
    #[inline]
    pub(super) fn of(&self, counts: &NameCounts) -> &[u8] {
        let start = counts.text as usize;
        &self.bytes[start..start + usize::from(counts.text_len)]
    }

    /// Removes all texts and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl NameCounts {
    /// Creates the entry of a new name. Not inlined, so that the path of known names stays short.
    #[inline(never)]
    pub(super) fn new(texts: &mut Texts, wire: &[u8], anonymizer: &Anonymizer) -> Self {
        let text = texts.bytes.len() as u32;
        texts.bytes.extend_from_slice(wire);
        let key = anonymizer.hash(wire);
        Self { key, text, text_len: wire.len() as u8, ..Self::default() }
    }
}

impl Entry for NameCounts {
    type Beside = Texts;

    fn hash(&self, texts: &Texts) -> u64 {
        texts.hash_of(texts.of(self))
    }
}

/// The contribution of one message to the counts of its name.
#[derive(Clone, Copy, Debug)]
pub enum NameUse {
    /// A query.
    Query,
    /// A reply.
    Reply {
        /// Response code.
        rcode: u16,
        /// True for NODATA: NOERROR without an answer of the requested type.
        nodata: bool,
        /// Bytes of the message, already weighted.
        bytes: u64,
    },
}
