//! Sampling by a hash: which packets are inspected, and what each of them stands for.

/// The share of packets that are inspected.
///
/// Made of whole numbers by user space, so that the kernel programs compare and add only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Hashes whose upper 32 bits are below this are taken: 0 to 2^32.
    pub keep: u64,
    /// What each stands for at least.
    pub base: u32,
    /// Hashes whose lower 32 bits are below this stand for one more, so that the mean is exact
    /// although all weights are whole numbers.
    pub round: u32,
}

impl Rate {
    /// Every packet.
    pub const ALL: Rate = Rate::of(1, 1);

    /// `share` packets of `of`; `share` is at most `of`, and `of` at most 2^31.
    pub const fn of(share: u32, of: u32) -> Self {
        if share == 0 {
            return Self { keep: 0, base: 0, round: 0 };
        }
        let (share, of) = (share as u64, of as u64);
        let keep = (share << 32).div_ceil(of);
        let round = ((of % share) << 32).div_ceil(share);
        Self { keep, base: (of / share) as u32, round: round as u32 }
    }

    /// Whether every packet is taken.
    #[inline(always)]
    pub const fn takes_all(&self) -> bool {
        self.keep > u32::MAX as u64
    }

    /// Whether no packet is taken.
    #[inline(always)]
    pub const fn takes_none(&self) -> bool {
        self.keep == 0
    }

    /// The weight of what has this hash: 0 where it is left out.
    #[inline(always)]
    pub const fn weight(&self, hash: u64) -> u32 {
        if hash >> 32 >= self.keep {
            return 0;
        }
        self.base + (((hash as u32) < self.round) as u32)
    }

    /// Packets a sample stands for in the mean; 0 where none are taken.
    pub fn mean_weight(&self) -> f64 {
        f64::from(self.base) + f64::from(self.round) / (1u64 << 32) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::mix;

    #[test]
    fn weights_have_the_right_mean() {
        for (share, of) in [(1, 100), (7, 100), (30, 100), (1, 2), (99, 100), (1, 1), (33, 6400)] {
            let rate = Rate::of(share, of);
            let sum: u64 = (0..400_000).map(|at| u64::from(rate.weight(mix(at)))).sum();
            assert!(sum.abs_diff(400_000) < 30_000, "{share} of {of}: {sum}");
            assert!((rate.mean_weight() - f64::from(of) / f64::from(share)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert!(Rate::ALL.takes_all());
        assert_eq!(Rate::ALL.weight(u64::MAX), 1);
        assert_eq!(Rate::ALL.weight(0), 1);
        assert_eq!(Rate::of(0, 100).weight(0), 0);
        assert!(!Rate::of(99, 100).takes_all());
        assert_eq!(Rate::of(50, 100).weight(u64::from(u32::MAX)), 2);
        assert_eq!(Rate::of(50, 100).weight(1 << 63), 0);
    }
}
