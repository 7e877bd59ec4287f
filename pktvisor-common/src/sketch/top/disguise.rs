//! Disguises keys in a sketch whose table uses a public hash function. Keys are mixed with random
//! numbers of this process, so that nobody else can predict which ones collide.

use std::sync::LazyLock;

use ahash::RandomState;

/// Maps keys to their disguised form in a sketch, and back.
pub(super) struct Disguise {
    mask: u64,
    /// An odd number. `inverse` is its inverse modulo 2^64.
    factor: u64,
    inverse: u64,
}

/// The disguise of this process.
pub(super) static DISGUISE: LazyLock<Disguise> = LazyLock::new(|| {
    let random = RandomState::new();
    let factor = random.hash_one(1) | 1;
    // Newton's iteration: each step doubles the number of correct bits, 3 at the start.
    let inverse = (0..5).fold(factor, |inverse, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(inverse)))
    });
    Disguise { mask: random.hash_one(0), factor, inverse }
});

impl Disguise {
    #[inline]
    pub(super) fn put_on(&self, key: u64) -> u64 {
        (key ^ self.mask).wrapping_mul(self.factor)
    }

    #[inline]
    pub(super) fn take_off(&self, item: u64) -> u64 {
        item.wrapping_mul(self.inverse) ^ self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_the_disguise_of_a_key() {
        for key in [0, 1, u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0] {
            assert_eq!(DISGUISE.take_off(DISGUISE.put_on(key)), key);
        }
    }
}
