//! The classic capture format: a file header, then for each packet a record header and its octets.
//!
//! Format: draft-ietf-opsawg-pcap. Read here are both byte orders, with micro- and nanoseconds,
//! and Kuznetzov's modified record header; older versions are left to libpcap, which knows
//! their oddities.

use pcap_parser::nom::{Err as NomErr, IResult, Needed};
use pcap_parser::pcap::{
    LegacyPcapBlock, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};
use pcap_parser::{PcapError, PcapHeader};

use super::error::Problem;
use super::stream::{MAX_CAPTURED, Parsed};
use crate::capture::link::UnsupportedLink;
use crate::capture::{LinkType, PacketRecord};

/// Length of the file header.
pub(super) const FILE_HEADER_LEN: usize = 24;

/// Reads records.
pub(super) struct PcapParser {
    header: PcapHeader,
    link: LinkType,
    packets: u64,
}

impl PcapParser {
    /// Whether `start`, the first octets of a file, are those of this format.
    pub(super) fn recognizes(start: &[u8]) -> bool {
        const MAGIC: [u32; 3] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];
        start.first_chunk().is_some_and(|magic| {
            MAGIC.contains(&u32::from_le_bytes(*magic))
                || MAGIC.contains(&u32::from_be_bytes(*magic))
        })
    }

    /// Reads the file header; `None` if the file is of a kind that is left to libpcap.
    pub(super) fn from_header(start: &[u8]) -> Result<Option<Self>, UnsupportedLink> {
        let Ok((_, header)) = parse_pcap_header(start) else {
            return Ok(None);
        };
        if (header.version_major, header.version_minor) != (2, 4) {
            return Ok(None);
        }
        // The upper bits tell of a frame check sequence at the end of each packet.
        let link = LinkType::from_number(header.network.0 as u32 & 0x03ff_ffff)?;
        Ok(Some(Self { header, link, packets: 0 }))
    }

    /// The link type of all packets.
    pub(super) fn link(&self) -> LinkType {
        self.link
    }

    /// Packets read so far.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Reads the records that `data`, which starts at byte `base` of the capture, holds in full.
    pub(super) fn parse(
        &mut self,
        data: &[u8],
        base: u64,
        packets: &mut Vec<PacketRecord>,
    ) -> Parsed {
        let before = packets.len();
        let header_len = if self.header.is_modified_format() { 24 } else { 16 };
        let run = if self.header.is_modified_format() {
            read_records(parse_pcap_frame_modified, 24, self.scale(), self.link, data, packets)
        } else if self.header.is_bigendian() {
            read_records(parse_pcap_frame_be, 16, self.scale(), self.link, data, packets)
        } else {
            read_records(parse_pcap_frame, 16, self.scale(), self.link, data, packets)
        };
        self.packets += (packets.len() - before) as u64;
        match run {
            Run::Short { consumed, missing } => {
                let have = data.len() - consumed;
                let need = have + missing;
                if have >= header_len && need - header_len > MAX_CAPTURED as usize {
                    self.too_long(consumed, base, need - header_len)
                } else {
                    Parsed { consumed, need, problem: None }
                }
            }
            Run::TooLong { consumed, captured } => self.too_long(consumed, base, captured),
        }
    }

    fn scale(&self) -> i64 {
        if self.header.is_nanosecond_precision() { 1 } else { 1000 }
    }

    fn too_long(&self, consumed: usize, base: u64, captured: usize) -> Parsed {
        let problem = Problem::Corrupt {
            byte: base + consumed as u64,
            packet: self.packets + 1,
            what: format!(
                "its record claims {captured} captured octets, and {MAX_CAPTURED} are the most"
            ),
        };
        Parsed { consumed, need: 0, problem: Some(problem) }
    }
}

/// Where reading records stopped.
enum Run {
    /// `missing` more octets are needed for the record at `consumed`.
    Short { consumed: usize, missing: usize },
    /// The record at `consumed` has a length that no record has.
    TooLong { consumed: usize, captured: usize },
}

type Frame<'a> = IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// The loop over records: one for each form, so that the form is not asked for at each packet.
fn read_records(
    parse: impl for<'a> Fn(&'a [u8]) -> Frame<'a>,
    header_len: usize,
    scale: i64,
    link: LinkType,
    data: &[u8],
    packets: &mut Vec<PacketRecord>,
) -> Run {
    let mut consumed = 0;
    loop {
        match parse(&data[consumed..]) {
            Ok((_, frame)) => {
                if frame.caplen > MAX_CAPTURED {
                    return Run::TooLong { consumed, captured: frame.caplen as usize };
                }
                let offset = consumed + header_len;
                packets.push(PacketRecord {
                    time: i64::from(frame.ts_sec) * 1_000_000_000
                        + i64::from(frame.ts_usec) * scale,
                    offset: offset as u32,
                    captured: frame.caplen,
                    wire_len: frame.origlen.max(frame.caplen),
                    link,
                });
                consumed = offset + frame.caplen as usize;
            }
            Err(NomErr::Incomplete(Needed::Size(missing))) => {
                return Run::Short { consumed, missing: missing.get() };
            }
            // The parsers of a record know no other answer.
            Err(_) => return Run::Short { consumed, missing: 1 },
        }
    }
}
