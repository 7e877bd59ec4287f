//! Interfaces of pcapng: the link type and the clock of their packets.
//!
//! Time options are read here: `pcap-parser` 0.17 does not support resolutions in powers of 2, and
//! reads the offset in little-endian order whatever the byte order of the section.

use pcap_parser::pcapng::{InterfaceDescriptionBlock, OptionCode};

use crate::decode::block::LinkType;
use crate::decode::link::UnsupportedLink;
use crate::time::Timestamp;

/// Properties shared by the packets of an interface.
pub(super) struct Interface {
    /// An error matters only once there is a packet: captures list interfaces that saw none.
    pub(super) link: Result<LinkType, UnsupportedLink>,
    /// Maximum bytes captured of a packet; `u32::MAX` if there is no limit.
    pub(super) snap_len: u32,
    ticks_per_second: u64,
    /// Nanoseconds to add to each time.
    offset: i128,
    /// Packets that the interface dropped, by its latest statistics.
    pub(super) if_dropped: u64,
    /// Packets that the system dropped, by its latest statistics.
    pub(super) os_dropped: u64,
    /// Packets lost before packets of this interface (`epb_dropcount`).
    pub(super) lost_before: u64,
}

/// Range to which times are clamped: minutes around its ends still fit 64 bits.
const TIMES: std::ops::RangeInclusive<i128> = -(1 << 62)..=i64::MAX as i128 - 86_400_000_000_000;

impl Interface {
    /// Reads an interface description. The error describes what is wrong with it.
    pub(super) fn new(
        description: &InterfaceDescriptionBlock<'_>,
        big_endian: bool,
    ) -> Result<Self, String> {
        let exponent = u32::from(description.if_tsresol & 0x7f);
        let ticks_per_second = if description.if_tsresol & 0x80 == 0 {
            10_u64.checked_pow(exponent)
        } else {
            1_u64.checked_shl(exponent)
        };
        let offset = description
            .options
            .iter()
            .find(|option| option.code == OptionCode::IfTsoffset)
            .and_then(|option| option.value.first_chunk::<8>())
            .map_or(0, |seconds| {
                if big_endian { i64::from_be_bytes(*seconds) } else { i64::from_le_bytes(*seconds) }
            });
        Ok(Self {
            link: LinkType::from_number(description.linktype.0 as u32),
            snap_len: if description.snaplen == 0 { u32::MAX } else { description.snaplen },
            ticks_per_second: ticks_per_second.ok_or_else(|| {
                format!(
                    "unsupported time resolution of {}^-{exponent} s, too fine for 64 bits",
                    if description.if_tsresol & 0x80 == 0 { 10 } else { 2 }
                )
            })?,
            offset: i128::from(offset) * 1_000_000_000,
            if_dropped: 0,
            os_dropped: 0,
            lost_before: 0,
        })
    }

    /// Converts ticks to a time, clamped to `TIMES`. The flag is true if the time
    /// fits.
    pub(super) fn time(&self, ticks: u64) -> (Timestamp, bool) {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        let time = nanoseconds as i128 + self.offset;
        let fits = TIMES.contains(&time);
        let time = time.clamp(*TIMES.start(), *TIMES.end());
        (Timestamp::from_nanos(time as i64), fits)
    }

    /// Returns the packets dropped by the interface and by the system. `lost_before` covers both;
    /// where it exceeds the statistics, the system gets the difference.
    pub(super) fn drops(&self) -> Drops {
        let known = self.if_dropped.saturating_add(self.os_dropped);
        let more = self.lost_before.saturating_sub(known);
        Drops { interface: self.if_dropped, system: self.os_dropped.saturating_add(more) }
    }
}

/// Drops that a capture records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Packets dropped by interfaces.
    pub interface: u64,
    /// Packets dropped by the system.
    pub system: u64,
}

impl Drops {
    pub(super) fn add(&mut self, other: Self) {
        self.interface = self.interface.saturating_add(other.interface);
        self.system = self.system.saturating_add(other.system);
    }
}
