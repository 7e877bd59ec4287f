//! Distinct counts: exact while small, then `HyperLogLog++`.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use ahash::RandomState;
use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};
use serde::{Deserialize, Serialize};

/// Up to so many distinct hashes are kept themselves and counted exactly.
pub const EXACT: usize = 8192;
/// 2^14 registers: a standard error of 1.04 / √16384.
pub const PRECISION: u8 = 14;
const REGISTERS: usize = 1 << PRECISION;
const ERROR_PCT: f64 = 0.81;

/// Hands a hash through as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassHasher(u64);

impl Hasher for PassHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.0 = self.0 << 8 | u64::from(octet);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Makes [`PassHasher`]s: for keys that are hashes already.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct PassState;

impl BuildHasher for PassState {
    type Hasher = PassHasher;
    fn build_hasher(&self) -> PassHasher {
        PassHasher::default()
    }
}

/// A count of distinct hashes.
///
/// Its state depends on the set of hashes alone, not on their order, so that it merges exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Cardinality(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Exact(HashSet<u64, RandomState>),
    // Kept in its dense form from the start: the crate's sparse form costs 150 to 500 ns a hash.
    Sketch(Box<HyperLogLogPlus<u64, PassState>>),
}

impl Default for Cardinality {
    fn default() -> Self {
        Self(Inner::Exact(HashSet::default()))
    }
}

impl Cardinality {
    /// Takes in a hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        match &mut self.0 {
            Inner::Sketch(sketch) => sketch.insert(&hash),
            Inner::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT {
                    self.0 = Inner::Sketch(Box::new(dense(hashes)));
                }
            }
        }
    }

    /// Takes in all that `other` took in.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Inner::Sketch(sketch), Inner::Sketch(other)) => {
                sketch.merge(other).expect("all sketches have one precision");
            }
            (Inner::Exact(hashes), Inner::Sketch(other)) => {
                let mut sketch = other.clone();
                hashes.iter().for_each(|hash| sketch.insert(hash));
                self.0 = Inner::Sketch(sketch);
            }
            (_, Inner::Exact(hashes)) => hashes.iter().for_each(|&hash| self.insert(hash)),
        }
    }

    /// The number of distinct hashes.
    pub fn count(&self) -> u64 {
        match &self.0 {
            Inner::Exact(hashes) => hashes.len() as u64,
            // The crate counts through a mutable reference.
            Inner::Sketch(sketch) => sketch.clone().count().round() as u64,
        }
    }

    /// The standard error of [`Self::count`] in percent; 0 while it is exact.
    pub fn error_pct(&self) -> f64 {
        match &self.0 {
            Inner::Exact(_) => 0.0,
            Inner::Sketch(_) => ERROR_PCT,
        }
    }
}

/// The fields of the crate's sketch in the order in which it serializes them: the one way to make
/// one that is dense and empty, and to read and set its registers.
#[derive(Serialize, Deserialize)]
struct Mirror {
    builder: (),
    precision: u8,
    counts: (usize, usize, usize),
    tmpset: Vec<u32>,
    sparse: (Vec<u8>, u32, usize),
    registers: Option<MirrorRegisters>,
    phantom: (),
}

#[derive(Serialize, Deserialize)]
struct MirrorRegisters {
    words: Vec<u32>,
    count: usize,
    zeros: usize,
}

const REGISTERS_IN_WORD: usize = 5;
const REGISTER_BITS: usize = 6;
/// The most zeros that the 50 hash bits behind the register's index can start with, and one.
const MAX_REGISTER: u8 = 64 - PRECISION + 1;

fn dense(hashes: &HashSet<u64, RandomState>) -> HyperLogLogPlus<u64, PassState> {
    static EMPTY: OnceLock<HyperLogLogPlus<u64, PassState>> = OnceLock::new();
    let mut sketch = EMPTY.get_or_init(|| with_registers(&[0; REGISTERS])).clone();
    hashes.iter().for_each(|hash| sketch.insert(hash));
    sketch
}

fn with_registers(registers: &[u8; REGISTERS]) -> HyperLogLogPlus<u64, PassState> {
    let words = registers
        .chunks(REGISTERS_IN_WORD)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |word, (at, &register)| word | u32::from(register) << (at * REGISTER_BITS))
        })
        .collect();
    let mirror = Mirror {
        builder: (),
        precision: PRECISION,
        counts: (REGISTERS, 1 << 24, 4 * REGISTERS / REGISTERS_IN_WORD),
        tmpset: Vec::new(),
        sparse: (Vec::new(), 0, 0),
        registers: Some(MirrorRegisters {
            words,
            count: REGISTERS,
            zeros: registers.iter().filter(|&&register| register == 0).count(),
        }),
        phantom: (),
    };
    let octets = postcard::to_stdvec(&mirror).expect("plain data serializes");
    postcard::from_bytes(&octets).expect("the mirror has the crate's layout")
}

/// What is stored of a [`Cardinality`].
#[derive(Serialize, Deserialize)]
enum State {
    /// The hashes, ascending.
    Exact(Vec<u64>),
    /// One octet a register.
    Registers(Vec<u8>),
}

impl From<Cardinality> for State {
    fn from(cardinality: Cardinality) -> Self {
        match cardinality.0 {
            Inner::Exact(hashes) => {
                let mut hashes: Vec<u64> = hashes.into_iter().collect();
                hashes.sort_unstable();
                State::Exact(hashes)
            }
            Inner::Sketch(sketch) => {
                let octets = postcard::to_stdvec(&*sketch).expect("plain data serializes");
                let mirror: Mirror =
                    postcard::from_bytes(&octets).expect("the mirror has the crate's layout");
                let registers = mirror.registers.expect("sketches are dense from the start");
                let mask = (1 << REGISTER_BITS) - 1;
                State::Registers(
                    (0..REGISTERS)
                        .map(|at| {
                            let word = registers.words[at / REGISTERS_IN_WORD];
                            (word >> (at % REGISTERS_IN_WORD * REGISTER_BITS) & mask) as u8
                        })
                        .collect(),
                )
            }
        }
    }
}

impl TryFrom<State> for Cardinality {
    type Error = String;

    fn try_from(state: State) -> Result<Self, String> {
        match state {
            State::Exact(hashes) if hashes.len() <= EXACT => {
                Ok(Self(Inner::Exact(hashes.into_iter().collect())))
            }
            State::Exact(hashes) => {
                Err(format!("{} hashes where at most {EXACT} are kept", hashes.len()))
            }
            State::Registers(registers) => {
                let registers: &[u8; REGISTERS] =
                    registers.as_slice().try_into().map_err(|_| {
                        format!("{} registers where there are {REGISTERS}", registers.len())
                    })?;
                if let Some(register) = registers.iter().find(|&&r| r > MAX_REGISTER) {
                    return Err(format!("a register of {register}, above {MAX_REGISTER}"));
                }
                Ok(Self(Inner::Sketch(Box::new(with_registers(registers)))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pktvisor_common::flow::mix;
    use proptest::prelude::*;

    use super::*;

    fn of(range: std::ops::Range<u64>) -> Cardinality {
        let mut cardinality = Cardinality::default();
        range.for_each(|value| cardinality.insert(mix(value + 1)));
        cardinality
    }

    fn octets(cardinality: &Cardinality) -> Vec<u8> {
        postcard::to_stdvec(cardinality).unwrap()
    }

    #[test]
    fn counts_exactly_while_small() {
        assert_eq!(of(0..EXACT as u64).count(), EXACT as u64);
        assert_eq!(of(0..EXACT as u64).error_pct().to_bits(), 0f64.to_bits());
    }

    #[test]
    fn stays_within_three_standard_errors_when_large() {
        for count in [EXACT as u64 + 1, 20_000, 100_000, 1_000_000] {
            let cardinality = of(0..count);
            let error = (cardinality.count() as f64 - count as f64).abs() / count as f64 * 100.0;
            assert!(error <= 3.0 * cardinality.error_pct(), "{count}: {error} %");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Merging equals taking in all, to the octet, in either order.
        #[test]
        fn merges_exactly(a in 0..20_000u64, b in 0..20_000u64, from in 0..20_000u64) {
            let (left, right) = (of(0..a), of(from..from + b));
            let mut all = left.clone();
            (from..from + b).for_each(|value| all.insert(mix(value + 1)));
            let mut merged = left.clone();
            merged.merge(&right);
            let mut turned = right.clone();
            turned.merge(&left);
            prop_assert_eq!(octets(&merged), octets(&all));
            prop_assert_eq!(octets(&turned), octets(&all));
        }

        /// The byte form brings back the same, and goes on the same.
        #[test]
        fn survives_its_byte_form(count in 0..30_000u64) {
            let cardinality = of(0..count);
            let mut back: Cardinality = postcard::from_bytes(&octets(&cardinality)).unwrap();
            prop_assert_eq!(back.count(), cardinality.count());
            back.merge(&of(count..count + 10));
            prop_assert_eq!(octets(&back), octets(&of(0..count + 10)));
        }
    }
}
