//! Sampling by hash: selects the packets to inspect and their weights.

/// A sampling rate: the share of packets to inspect.
///
/// User space computes the integers, so that the kernel programs only compare and add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Hashes whose upper 32 bits are below this are chosen: 0 to 2^32.
    pub keep: u64,
    /// Minimum weight of a chosen packet.
    pub base: u32,
    /// Chosen hashes whose lower 32 bits are below this have one more weight. So the mean is exact
    /// although all weights are integers.
    pub round: u32,
}

impl Rate {
    /// The rate that chooses every packet.
    pub const ALL: Rate = Rate::of(1, 1);

    /// Creates the rate of `share` in `of` packets. `share` is at most `of`, and `of` is at most
    /// 2^31.
    pub const fn of(share: u32, of: u32) -> Self {
        if share == 0 {
            return Self { keep: 0, base: 0, round: 0 };
        }
        let (share, of) = (share as u64, of as u64);
        let keep = (share << 32).div_ceil(of);
        let round = ((of % share) << 32).div_ceil(share);
        Self { keep, base: (of / share) as u32, round: round as u32 }
    }

    /// Returns true if every packet is chosen.
    #[inline(always)]
    pub const fn takes_all(&self) -> bool {
        self.keep > u32::MAX as u64
    }

    /// Returns true if no packet is chosen.
    #[inline(always)]
    pub const fn takes_none(&self) -> bool {
        self.keep == 0
    }

    /// Returns the weight of a packet with this hash; 0 if it is not chosen.
    #[inline(always)]
    pub const fn weight(&self, hash: u64) -> u32 {
        if hash >> 32 >= self.keep {
            return 0;
        }
        self.base + (((hash as u32) < self.round) as u32)
    }

    /// Returns the mean weight of chosen packets; 0 if none are chosen.
    pub fn mean_weight(&self) -> f64 {
        f64::from(self.base) + f64::from(self.round) / (1u64 << 32) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::mix;

    #[test]
    fn weights_have_the_expected_mean() {
        for (share, of) in [(1, 100), (7, 100), (30, 100), (1, 2), (99, 100), (1, 1), (33, 6400)] {
            let rate = Rate::of(share, of);
            let sum: u64 = (0..400_000).map(|at| u64::from(rate.weight(mix(at)))).sum();
            assert!(sum.abs_diff(400_000) < 30_000, "{share} of {of}: {sum}");
            assert!((rate.mean_weight() - f64::from(of) / f64::from(share)).abs() < 1e-6);
        }
    }

    #[test]
    fn rates_of_0_and_100_percent_are_exact() {
        assert!(Rate::ALL.takes_all());
        assert_eq!(Rate::ALL.weight(u64::MAX), 1);
        assert_eq!(Rate::ALL.weight(0), 1);
        assert_eq!(Rate::of(0, 100).weight(0), 0);
        assert!(!Rate::of(99, 100).takes_all());
        assert_eq!(Rate::of(50, 100).weight(u64::from(u32::MAX)), 2);
        assert_eq!(Rate::of(50, 100).weight(1 << 63), 0);
    }
}
