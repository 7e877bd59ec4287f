//! The key of a fleet: all that merges between agents is hashed with it.
//!
//! The hash is SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012), which is a
//! pseudo-random function: those who don't have the key can neither choose names and addresses whose
//! hashes collide, nor such that move an estimate. Without a fleet key the key is a public constant,
//! so that all who have none merge with each other, and nothing of that holds.

use std::collections::BTreeSet;
use std::fmt;

use siphasher::sip::SipHasher24;

/// Bytes of a key.
pub const LENGTH: usize = 16;
/// What fingerprints are derived for (BLAKE3's context of use).
const FINGERPRINT: &str = "pktvisor 2026-11 fingerprint of a fleet key";
/// What keys are derived from seeds for.
const SEED: &str = "pktvisor 2026-11 fleet key of a seed";
/// Different bytes that a key has at least, and differences between neighbours.
const LEAST_BYTES: usize = 9;
const LEAST_STEPS: usize = 6;

/// The key of a fleet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FleetKey {
    bytes: [u8; LENGTH],
    is_public: bool,
}

impl Default for FleetKey {
    /// The public key, of those who have no other.
    fn default() -> Self {
        Self { bytes: [0; LENGTH], is_public: true }
    }
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fleet key of fingerprint {:016x}", self.fingerprint())
    }
}

impl FleetKey {
    /// The key that a file of these bytes has: 32 hexadecimal digits, or 16 bytes.
    ///
    /// # Errors
    /// Why they are no key, or one that can be guessed.
    pub fn of(file: &[u8]) -> Result<Self, &'static str> {
        let bytes = match from_hex(file.trim_ascii()) {
            Some(bytes) => bytes,
            None if file.len() == LENGTH
                && file.iter().all(|byte| (b' '..=b'~').contains(byte)) =>
            {
                return Err("a key of 16 characters of text can be guessed");
            }
            None => file.try_into().map_err(|_| "expected 32 hexadecimal digits or 16 bytes")?,
        };
        let steps: Vec<u8> = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        match distinct_bytes(&bytes) < LEAST_BYTES || distinct_bytes(&steps) < LEAST_STEPS {
            true => Err("the key is not random and can be guessed"),
            false => Ok(Self { bytes, is_public: false }),
        }
    }

    /// The key that a seed stands for: 0 for the public one. A seed is too short to be a secret.
    pub fn of_seed(seed: u64) -> Self {
        let mut bytes = [0; LENGTH];
        if seed != 0 {
            bytes.copy_from_slice(&blake3::derive_key(SEED, &seed.to_be_bytes())[..LENGTH]);
        }
        Self { bytes, is_public: true }
    }

    /// The hash of an item, of an address or a name.
    #[inline]
    pub fn hash(&self, item: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.bytes).hash(item)
    }

    /// Equal for equal keys, and reveals nothing about the key.
    pub fn fingerprint(&self) -> u64 {
        let derived = blake3::derive_key(FINGERPRINT, &self.bytes);
        u64::from_be_bytes(*derived.first_chunk().expect("it has 32 bytes"))
    }

    /// Whether everybody knows it.
    pub fn is_public(&self) -> bool {
        self.is_public
    }
}

/// How many bytes of a key differ: a random one of 16 bytes has 9 at least, but for one in 10^9.
pub fn distinct_bytes(key: &[u8]) -> usize {
    key.iter().collect::<BTreeSet<_>>().len()
}

/// The bytes that 32 hexadecimal digits stand for.
fn from_hex(text: &[u8]) -> Option<[u8; LENGTH]> {
    let digits = text.len() == 2 * LENGTH && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_by_siphash_2_4() {
        // The test vector of the paper, appendix A.
        let bytes = std::array::from_fn(|at| at as u8);
        let message: Vec<u8> = (0..15).collect();
        let key = FleetKey { bytes, is_public: false };
        assert_eq!(key.hash(&message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn keys_are_read_in_both_forms_and_told_by_fingerprint() {
        let text = "c0ffee5eed0123456789abcdef314159";
        let key = FleetKey::of(format!("{}\n", text.to_uppercase()).as_bytes()).unwrap();
        assert_eq!(FleetKey::of(&key.bytes).unwrap(), key);
        let other = FleetKey::of(b"f39a1b7c5d2e8046a1b2c3d4e5f60718").unwrap();
        let keys = [key, other, FleetKey::default(), FleetKey::of_seed(7)];
        let prints: std::collections::BTreeSet<u64> =
            keys.iter().map(FleetKey::fingerprint).collect();
        assert_eq!(prints.len(), keys.len());
        assert_eq!(FleetKey::of_seed(0), FleetKey::default());
        assert!(!key.is_public() && FleetKey::of_seed(7).is_public());
        assert!(!format!("{key:?}").contains(text));
    }

    #[test]
    fn keys_that_can_be_guessed_are_refused() {
        let refused: [&[u8]; 9] = [
            b"",
            b"\n",
            &[0; LENGTH],
            b"00000000000000000000000000000000",
            b"000102030405060708090a0b0c0d0e0f",
            b"0123456789abcdef0123456789abcdef",
            b"correct horse ba",
            b"0123456789abcdef0123456789abcde",
            &[1; 17],
        ];
        for file in refused {
            let problem = FleetKey::of(file).unwrap_err();
            assert!(!problem.is_empty(), "{file:?}");
        }
    }
}
