//! The key of a fleet, which hashes everything that agents merge.
//!
//! The hash is SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012), a
//! pseudo-random function. Without the key, nobody can choose names and addresses whose hashes
//! collide, or that move an estimate. The default key is a public constant, so that all agents
//! without a fleet key merge with each other. It gives none of this protection.

use std::collections::BTreeSet;
use std::fmt;

use siphasher::sip::SipHasher24;

/// Length of a key in bytes.
pub const LENGTH: usize = 16;
/// BLAKE3 derivation context of fingerprints.
const FINGERPRINT: &str = "pktvisor 2026-11 fingerprint of a fleet key";
/// BLAKE3 derivation context of keys made from seeds.
const SEED: &str = "pktvisor 2026-11 fleet key of a seed";
/// Minimum distinct bytes of a key, and minimum distinct differences between neighbouring bytes.
const LEAST_BYTES: usize = 9;
const LEAST_STEPS: usize = 6;

/// The key of a fleet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FleetKey {
    bytes: [u8; LENGTH],
    is_public: bool,
}

impl Default for FleetKey {
    /// Returns the public key of agents without a fleet key.
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
    /// Parses the contents of a key file: 32 hexadecimal digits, or 16 bytes.
    ///
    /// # Errors
    /// Returns the reason if this is not a key, or one that can be guessed.
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

    /// Derives the key of a seed. Seed 0 gives the public key. A seed is too short to be a secret.
    pub fn of_seed(seed: u64) -> Self {
        let mut bytes = [0; LENGTH];
        if seed != 0 {
            bytes.copy_from_slice(&blake3::derive_key(SEED, &seed.to_be_bytes())[..LENGTH]);
        }
        Self { bytes, is_public: true }
    }

    /// Returns the hash of an item, such as an address or a name.
    #[inline]
    pub fn hash(&self, item: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.bytes).hash(item)
    }

    /// Returns a fingerprint: equal for equal keys, reveals nothing about the key.
    pub fn fingerprint(&self) -> u64 {
        let derived = blake3::derive_key(FINGERPRINT, &self.bytes);
        u64::from_be_bytes(*derived.first_chunk().expect("it has 32 bytes"))
    }

    /// Returns true if the key is no secret.
    pub fn is_public(&self) -> bool {
        self.is_public
    }
}

/// Returns the number of distinct bytes of a key. Of random keys of 16 bytes, all but one in 10^9 have
/// at least 9.
pub fn distinct_bytes(key: &[u8]) -> usize {
    key.iter().collect::<BTreeSet<_>>().len()
}

/// Decodes 32 hexadecimal digits.
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
    fn parses_both_key_formats_and_distinguishes_keys_by_fingerprint() {
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
    fn rejects_guessable_keys() {
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
