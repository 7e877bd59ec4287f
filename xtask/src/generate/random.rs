//! Pseudo-random numbers by integer arithmetic, the same on every machine for the same seed.

/// The output function of SplitMix64: a bijection that scatters neighbouring numbers.
pub(super) fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(u64);

impl Random {
    /// Creates the generator of a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(scatter(seed))
    }

    /// Returns the next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0)
    }

    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Returns a number from `start` to below `end`.
    pub(super) fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    /// Returns true with a probability of `share` percent.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// Returns one of `choices`, with probabilities in proportion to their weights.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(T, u64)]) -> T {
        let mut left = self.below(choices.iter().map(|(_, weight)| weight).sum());
        for &(choice, weight) in choices {
            if left < weight {
                return choice;
            }
            left -= weight;
        }
        unreachable!("the weights sum to more than was drawn")
    }

    /// Returns a time from 0.1 to 200 ms in nanoseconds. Every doubling is equally likely.
    pub(super) fn reply_time(&mut self) -> u64 {
        const SHORTEST: u64 = 100_000;
        const LONGEST: u64 = 200_000_000;
        let octave = SHORTEST << self.below(11);
        (octave + self.below(octave)).min(LONGEST)
    }
}

/// Draws ranks by Zipf's law with exponent 1: the k-th rank has 1/k of the probability of the first.
pub(super) struct Zipf {
    /// Cumulative weights by rank.
    sums: Vec<u64>,
}

impl Zipf {
    /// Creates the distribution of ranks below `count`.
    pub(super) fn new(count: u64) -> Self {
        let mut sum = 0;
        let sums = (1..=count).map(|rank| {
            sum += (1 << 40) / rank;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// Draws a rank, from 0.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let drawn = random.below(*self.sums.last().expect("there are ranks"));
        self.sums.partition_point(|&sum| sum <= drawn) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_rank_is_half_as_frequent() {
        let zipf = Zipf::new(1000);
        let mut random = Random::new(7);
        let mut counts = [0u64; 1000];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut random) as usize] += 1;
        }
        let ratio = counts[0] as f64 / counts[1] as f64;
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(counts[900..].iter().any(|&count| count > 0));
    }

    #[test]
    fn reply_times_cover_their_range() {
        let mut random = Random::new(7);
        let times: Vec<_> = (0..10_000).map(|_| random.reply_time()).collect();
        assert!(times.iter().all(|time| (100_000..=200_000_000).contains(time)));
        let short = times.iter().filter(|&&time| time < 3_200_000).count();
        assert!((4200..4900).contains(&short), "five of eleven doublings, but {short} of 10000");
    }
}
