//! Which way a packet goes, seen from HOST, the side that traffic is told apart by.

/// Which way a packet goes, seen from HOST. The numbers are places in arrays by direction.
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
