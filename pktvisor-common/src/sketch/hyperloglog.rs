//! HyperLogLog with 2^14 registers and Ertl's estimator ("New cardinality estimation algorithms for
//! HyperLogLog sketches", 2017, section 4): one formula for every size, which needs no correction tables
//! and can be computed in SQL.

/// log2 of the number of registers.
pub const PRECISION: u8 = 14;
/// Number of registers of a sketch.
pub const REGISTERS: usize = 1 << PRECISION;
/// Standard error in percent: 1.04 / √16384.
pub const ERROR_PCT: f64 = 0.81;
/// Bits of a hash that follow those that select the register; the paper's q.
const RANK_BITS: u8 = 64 - PRECISION;
/// Maximum rank: all these bits are zero.
const MAX_RANK: u8 = RANK_BITS + 1;

/// A register for each value of the first 14 bits of a hash. It holds the maximum rank of its hashes:
/// the number of zeros that follow, plus one. It is 0 without hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct HyperLogLog(Box<[u8; REGISTERS]>);

impl std::fmt::Debug for HyperLogLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HyperLogLog of about {:.0}", self.estimate())
    }
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl HyperLogLog {
    /// Adds a hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        let register = &mut self.0[(hash >> RANK_BITS) as usize];
        // The bit set after the last one bounds the rank.
        let rest = hash << PRECISION | 1 << (PRECISION - 1);
        *register = (*register).max(rest.leading_zeros() as u8 + 1);
    }

    /// Merges `other` into this sketch.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&*other.0).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }

    /// Estimates the number of distinct hashes.
    pub fn estimate(&self) -> f64 {
        let mut registers_of = [0u32; MAX_RANK as usize + 1];
        self.0.iter().for_each(|&rank| registers_of[usize::from(rank)] += 1);
        let [zeros, between @ .., highest] = registers_of;
        let m = REGISTERS as f64;
        // Horner's scheme for the sum of C_k · 2^-k.
        let highest = m * tau(1.0 - f64::from(highest) / m);
        let sum = between.iter().rev().fold(highest, |sum, &count| 0.5 * (sum + f64::from(count)));
        let sum = sum + m * sigma(f64::from(zeros) / m);
        m * m / (2.0 * std::f64::consts::LN_2 * sum)
    }

    /// Returns the registers, one byte each.
    pub fn registers(&self) -> &[u8; REGISTERS] {
        &self.0
    }

    /// Creates a sketch from its registers.
    ///
    /// # Errors
    /// Returns the reason if the number of registers or a value is invalid.
    pub fn of(registers: &[u8]) -> Result<Self, String> {
        let registers: &[u8; REGISTERS] = registers
            .try_into()
            .map_err(|_| format!("{} registers where there are {REGISTERS}", registers.len()))?;
        match registers.iter().find(|&&rank| rank > MAX_RANK) {
            Some(rank) => Err(format!("a register of {rank}, above {MAX_RANK}")),
            None => Ok(Self(Box::new(*registers))),
        }
    }
}

/// Computes the paper's σ: x + Σ x^(2^k) · 2^(k - 1), from k = 1 on; infinite for 1.
fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (x, 1.0, x);
    loop {
        power *= power;
        let next = sum + power * factor;
        if next <= sum {
            return sum;
        }
        (sum, factor) = (next, factor * 2.0);
    }
}

/// Computes the paper's τ: (1 - x - Σ (1 - x^(2^-k))² · 2^-k) / 3, from k = 1 on.
fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut root, mut factor, mut rest) = (x, 1.0, 1.0 - x);
    loop {
        (root, factor) = (root.sqrt(), factor * 0.5);
        let next = rest - (1.0 - root).powi(2) * factor;
        if next >= rest {
            return rest / 3.0;
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, Hasher};

    use hyperloglogplus::{HyperLogLog as _, HyperLogLogPlus};
    use proptest::prelude::*;

    use super::*;
    use crate::flow::mix;

    /// Returns a hash unchanged.
    #[derive(Default)]
    struct Same(u64);

    impl Hasher for Same {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, _: &[u8]) {
            unreachable!("hashes are numbers");
        }
        fn write_u64(&mut self, hash: u64) {
            self.0 = hash;
        }
    }

    impl BuildHasher for Same {
        type Hasher = Same;
        fn build_hasher(&self) -> Same {
            Same(0)
        }
    }

    fn of(hashes: impl Iterator<Item = u64>) -> HyperLogLog {
        let mut sketch = HyperLogLog::default();
        hashes.for_each(|hash| sketch.insert(hash));
        sketch
    }

    #[test]
    fn registers_hold_the_highest_rank() {
        let registers = |hashes: &[u64]| *of(hashes.iter().copied()).registers();
        let all = registers(&[0, u64::MAX, 1 << RANK_BITS, 3 << (RANK_BITS - 1)]);
        assert_eq!((all[0], all[1], all[REGISTERS - 1]), (MAX_RANK, MAX_RANK, 1));
        assert_eq!(all.iter().filter(|&&rank| rank > 0).count(), 3);
    }

    #[test]
    fn every_valid_state_has_an_estimate() {
        let estimate = |rank: u8| HyperLogLog::of(&[rank; REGISTERS]).unwrap().estimate();
        assert_eq!(estimate(0).to_bits(), 0f64.to_bits());
        let estimates: Vec<f64> = (0..=MAX_RANK).map(estimate).collect();
        assert!(estimates.is_sorted_by(|a, b| a < b), "{estimates:?}");
        assert!(HyperLogLog::of(&[MAX_RANK + 1; REGISTERS]).is_err());
        assert!(HyperLogLog::of(&[0; REGISTERS - 1]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Within four standard errors of the true count and near the oracle, for every size.
        #[test]
        fn agrees_with_the_true_count_and_the_oracle(seed in any::<u64>(), power in 0.0..6.0f64) {
            let count = 10f64.powf(power) as u64;
            let mut oracle = HyperLogLogPlus::<u64, _>::new(PRECISION, Same(0)).unwrap();
            let hashes = (0..count).map(|at| mix(seed ^ mix(at)));
            hashes.clone().for_each(|hash| oracle.insert(&hash));
            let estimate = of(hashes).estimate();
            let bound = 4.0 * ERROR_PCT / 100.0 * count as f64 + 1.0;
            prop_assert!((estimate - count as f64).abs() <= bound, "{count}: {estimate}");
            prop_assert!((estimate - oracle.count()).abs() <= 1.5 * bound, "{count}: {estimate}");
        }
    }
}
