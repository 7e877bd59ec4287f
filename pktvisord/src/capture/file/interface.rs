//! Interfaces of the newer capture format: the link type and the clock of their packets.
//!
//! The clock is read here: `pcap-parser` 0.17 knows no resolution in powers of 2 and reads the
//! offset in little-endian order whatever the section is in.

use pcap_parser::pcapng::{InterfaceDescriptionBlock, OptionCode};

use crate::capture::LinkType;
use crate::capture::link::UnsupportedLink;

/// What packets of an interface have in common.
pub(super) struct Interface {
    /// An error only once there is a packet: captures list interfaces that saw none.
    pub(super) link: Result<LinkType, UnsupportedLink>,
    /// Most octets captured of a packet; without a limit, the largest number.
    pub(super) snap_len: u32,
    ticks_per_second: u64,
    /// Nanoseconds to add to a time.
    offset: i128,
}

impl Interface {
    /// Reads a description; the error says what is wrong with it.
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
                    "a time resolution of {}^-{exponent} s, which is finer than 64 bits hold",
                    if description.if_tsresol & 0x80 == 0 { 10 } else { 2 }
                )
            })?,
            offset: i128::from(offset) * 1_000_000_000,
        })
    }

    /// Nanoseconds of unix time; the nearest there is where 64 bits do not hold them.
    pub(super) fn nanoseconds(&self, ticks: u64) -> i64 {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        let time = nanoseconds as i128 + self.offset;
        time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}
