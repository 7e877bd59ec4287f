//! The direction of a packet relative to HOST, and values by direction.

use core::ops::{Index, IndexMut};

/// The direction of a packet relative to HOST. The discriminants are part of the kernel ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// To HOST. Also from HOST to HOST.
    In = 0,
    /// From HOST.
    Out = 1,
    /// Neither end is HOST, or the packet is not IP.
    Unknown = 2,
}

/// Number of directions.
pub const DIRECTIONS: usize = 3;

impl Direction {
    /// All directions in the order of their numbers.
    pub const ALL: [Self; DIRECTIONS] = [Self::In, Self::Out, Self::Unknown];

    /// Returns the name used in labels and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the direction of a packet, given which of its endpoints are HOST.
    #[inline(always)]
    pub const fn of(from_host: bool, to_host: bool) -> Self {
        match (from_host, to_host) {
            (_, true) => Self::In,
            (true, false) => Self::Out,
            (false, false) => Self::Unknown,
        }
    }

    /// Returns the direction with this number, or [`Direction::Unknown`] if there is none.
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
    /// Creates the values of packets to HOST, of packets from HOST, and of all others.
    pub const fn new(inbound: T, outbound: T, unknown: T) -> Self {
        Self([inbound, outbound, unknown])
    }

    /// Creates a value for each direction.
    pub fn from_fn(make: impl FnMut(Direction) -> T) -> Self {
        Self(Direction::ALL.map(make))
    }

    /// Returns the values in the order of [`Direction::ALL`].
    pub fn as_array(&self) -> &[T; DIRECTIONS] {
        &self.0
    }

    /// Returns the values in the order of [`Direction::ALL`].
    pub fn as_array_mut(&mut self) -> &mut [T; DIRECTIONS] {
        &mut self.0
    }

    /// Returns each direction with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Direction, &T)> {
        Direction::ALL.into_iter().zip(&self.0)
    }

    /// Returns the pairs of each value and the value of `other` for the same direction.
    pub fn zip_mut<'a, U>(
        &'a mut self,
        other: &'a PerDirection<U>,
    ) -> impl Iterator<Item = (&'a mut T, &'a U)> {
        self.0.iter_mut().zip(&other.0)
    }

    /// Converts values by direction of the reply to values by direction of the query: an outbound
    /// reply answers an inbound query.
    pub fn by_query(&self) -> PerDirection<&T> {
        let [inbound, outbound, unknown] = &self.0;
        PerDirection([outbound, inbound, unknown])
    }
}

impl PerDirection<u64> {
    /// Returns the sum over all directions. It saturates.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Adds `other`. Sums saturate.
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
