//! Which way a packet goes, seen from HOST, and values for each of the ways.

use core::ops::{Index, IndexMut};

/// Which way a packet goes, seen from HOST. The numbers are those of the kernel ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// To HOST, also where both ends are HOST.
    In = 0,
    /// From HOST.
    Out = 1,
    /// Neither end is HOST, or the packet is not IP.
    Unknown = 2,
}

/// How many directions there are.
pub const DIRECTIONS: usize = 3;

impl Direction {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; DIRECTIONS] = [Self::In, Self::Out, Self::Unknown];

    /// The name in labels and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Unknown => "unknown",
        }
    }

    /// The direction of a packet by which of its ends are HOST.
    #[inline(always)]
    pub const fn of(from_host: bool, to_host: bool) -> Self {
        match (from_host, to_host) {
            (_, true) => Self::In,
            (true, false) => Self::Out,
            (false, false) => Self::Unknown,
        }
    }

    /// The direction of a number, [`Direction::Unknown`] for one that is none.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::In,
            1 => Self::Out,
            _ => Self::Unknown,
        }
    }
}

/// One value for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "summary", derive(serde::Serialize, serde::Deserialize))]
pub struct PerDirection<T>([T; DIRECTIONS]);

impl<T> PerDirection<T> {
    /// The values of packets to HOST, of packets from HOST, and of all others.
    pub const fn new(inbound: T, outbound: T, unknown: T) -> Self {
        Self([inbound, outbound, unknown])
    }

    /// Makes a value for each direction.
    pub fn from_fn(make: impl FnMut(Direction) -> T) -> Self {
        Self(Direction::ALL.map(make))
    }

    /// The values in the order of [`Direction::ALL`].
    pub fn as_array(&self) -> &[T; DIRECTIONS] {
        &self.0
    }

    /// The values in the order of [`Direction::ALL`].
    pub fn as_array_mut(&mut self) -> &mut [T; DIRECTIONS] {
        &mut self.0
    }

    /// Each direction with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Direction, &T)> {
        Direction::ALL.into_iter().zip(&self.0)
    }

    /// Each pair of values with the values of `other`.
    pub fn zip_mut<'a, U>(
        &'a mut self,
        other: &'a PerDirection<U>,
    ) -> impl Iterator<Item = (&'a mut T, &'a U)> {
        self.0.iter_mut().zip(&other.0)
    }

    /// The same values by the direction of what they answer: a reply that goes out answers a query
    /// that came in.
    pub fn by_query(&self) -> PerDirection<&T> {
        let [inbound, outbound, unknown] = &self.0;
        PerDirection([outbound, inbound, unknown])
    }
}

impl PerDirection<u64> {
    /// The sum over all directions; one that does not fit is the largest number.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Adds `other`; a sum that does not fit stays at the largest number.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.zip_mut(other) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

impl<T> From<[T; DIRECTIONS]> for PerDirection<T> {
    /// Takes the values in the order of [`Direction::ALL`].
    fn from(values: [T; DIRECTIONS]) -> Self {
        Self(values)
    }
}

impl<T> Index<Direction> for PerDirection<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, direction: Direction) -> &T {
        &self.0[direction as usize]
    }
}

impl<T> IndexMut<Direction> for PerDirection<T> {
    #[inline(always)]
    fn index_mut(&mut self, direction: Direction) -> &mut T {
        &mut self.0[direction as usize]
    }
}
