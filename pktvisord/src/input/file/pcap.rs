//! The classic pcap format: a file header, then a record header and its bytes for each packet.
//!
//! Format: draft-ietf-opsawg-pcap. This parser reads both byte orders, micro- and nanoseconds, and
//! Kuznetzov's modified record header. libpcap reads older versions, because it knows their quirks.

use pcap_parser::nom::{Err as NomErr, IResult, Needed};
use pcap_parser::pcap::{
    LegacyPcapBlock, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};
use pcap_parser::{PcapError, PcapHeader};

use super::error::Problem;
use super::findings::Findings;
use super::stream::{MAX_CAPTURED, Parsed, Stop};
use crate::decode::block::{Block, LinkType, PacketRecord};
use crate::decode::link::UnsupportedLink;
use crate::time::{Span, Timestamp};

/// Length of the file header, in bytes.
pub(super) const FILE_HEADER_LEN: usize = 24;

/// Parses records.
pub(super) struct PcapParser {
    header: PcapHeader,
    link: Result<LinkType, UnsupportedLink>,
    packets: u64,
    pub(super) findings: Findings,
}

impl PcapParser {
    /// Returns true if `start`, the first bytes of a file, has a magic number of this format.
    pub(super) fn recognizes(start: &[u8]) -> bool {
        const MAGIC: [u32; 3] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];
        start.first_chunk().is_some_and(|magic| {
            MAGIC.contains(&u32::from_le_bytes(*magic))
                || MAGIC.contains(&u32::from_be_bytes(*magic))
        })
    }

    /// Parses the file header. Returns `None` for a version that libpcap has to read.
    pub(super) fn from_header(start: &[u8]) -> Option<Self> {
        let (_, header) = parse_pcap_header(start).ok()?;
        if (header.version_major, header.version_minor) != (2, 4) {
            return None;
        }
        // The upper bits describe a frame check sequence at the end of each packet.
        let link = LinkType::from_number(header.network.0 as u32 & 0x03ff_ffff);
        Some(Self { header, link, packets: 0, findings: Findings::default() })
    }

    /// Returns the link type of all packets if it is supported.
    pub(super) fn link(&self) -> Option<LinkType> {
        self.link.ok()
    }

    /// Returns the number of packets read so far.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns the length of a record header, in bytes.
    pub(super) fn record_len(&self) -> usize {
        if self.header.is_modified_format() { 24 } else { 16 }
    }

    /// Parses the complete records in the data of `block`, which starts at byte `base` of the
    /// capture.
    pub(super) fn parse(&mut self, block: &mut Block, base: u64) -> Parsed {
        let Block { data, packets, .. } = block;
        let before = packets.len();
        let header_len = self.record_len();
        // `take` drops packets of an unsupported link type below.
        let link = self.link.unwrap_or(LinkType::RawIp);
        let run = if self.header.is_modified_format() {
            read_records(parse_pcap_frame_modified, 24, self.scale(), link, data, packets)
        } else if self.header.is_bigendian() {
            read_records(parse_pcap_frame_be, 16, self.scale(), link, data, packets)
        } else {
            read_records(parse_pcap_frame, 16, self.scale(), link, data, packets)
        };
        let read = (packets.len() - before) as u64;
        let bytes = data.len();
        self.take(block, before, read);
        match run {
            Run::Short { consumed, missing } => {
                let have = bytes - consumed;
                let need = have + missing;
                if have >= header_len && need - header_len > MAX_CAPTURED as usize {
                    self.too_long(consumed, base, need - header_len)
                } else {
                    Parsed { consumed, need, stop: None }
                }
            }
            Run::TooLong { consumed, captured } => self.too_long(consumed, base, captured),
            Run::Zeros { consumed } => Parsed { consumed, need: 0, stop: Some(Stop::Zeros) },
            Run::FileHeader { consumed } => self.corrupt(
                consumed,
                base,
                "another capture starts here; two captures were concatenated, join them with \
                 `mergecap` instead"
                    .to_owned(),
            ),
        }
    }

    /// Appends up to `count` packets of zero length and zero time, at most one block of them.
    /// Returns how many it appended.
    pub(super) fn zero_packets(&mut self, block: &mut Block, count: u64) -> u64 {
        let count = count.min(MAX_ZERO_PACKETS);
        let link = self.link.unwrap_or(LinkType::RawIp);
        let packet =
            PacketRecord { time: Timestamp::EPOCH, offset: 0, captured: 0, wire_len: 0, link };
        let before = block.packets.len();
        block.packets.resize(before + count as usize, packet);
        self.take(block, before, count);
        count
    }

    /// Counts the `read` packets of `block` from `before` on, and drops them if their link type is
    /// not supported.
    fn take(&mut self, block: &mut Block, before: usize, read: u64) {
        if let Err(link) = self.link {
            block.packets.truncate(before);
            block.skip_unread(read as u32);
            self.findings.unread(link, self.packets + 1, read);
        }
        self.packets += read;
    }

    fn scale(&self) -> i64 {
        if self.header.is_nanosecond_precision() { 1 } else { 1000 }
    }

    fn too_long(&self, consumed: usize, base: u64, captured: usize) -> Parsed {
        let what =
            format!("the record claims {captured} captured bytes; the maximum is {MAX_CAPTURED}");
        self.corrupt(consumed, base, what)
    }

    fn corrupt(&self, consumed: usize, base: u64, what: String) -> Parsed {
        let byte = base + consumed as u64;
        let problem = Problem::Corrupt { byte, packet: self.packets + 1, what };
        Parsed { consumed, need: 0, stop: Some(Stop::Problem(problem)) }
    }
}

/// Maximum number of all-zero records appended at once.
const MAX_ZERO_PACKETS: u64 = 16_384;

/// Returns true if a record of zero length is the header of a capture file: magic number, version
/// 2.4, and time zone 0.
fn is_file_header(record: &[u8]) -> bool {
    PcapParser::recognizes(record) && matches!(record[4..8], [2, 0, 4, 0] | [0, 2, 0, 4])
}

/// Where and why parsing of records stopped.
enum Run {
    /// The record at `consumed` needs `missing` more bytes.
    Short { consumed: usize, missing: usize },
    /// The record at `consumed` claims an impossible length.
    TooLong { consumed: usize, captured: usize },
    /// The record at `consumed` has zero length and zero time.
    Zeros { consumed: usize },
    /// A file header starts at `consumed`.
    FileHeader { consumed: usize },
}

type Frame<'a> = IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// Parses records until one is incomplete or unusual. The record parser is a type parameter, so
/// that the loop does not test the format for each packet.
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
                if frame.caplen == 0 {
                    let record = &data[consumed..consumed + header_len];
                    if record.iter().all(|&byte| byte == 0) {
                        return Run::Zeros { consumed };
                    }
                    if is_file_header(record) {
                        return Run::FileHeader { consumed };
                    }
                }
                let offset = consumed + header_len;
                packets.push(PacketRecord {
                    time: Timestamp::from_second(frame.ts_sec.into())
                        + Span::from_nanos(i64::from(frame.ts_usec) * scale),
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
            // Record parsers return no other error.
            Err(_) => return Run::Short { consumed, missing: 1 },
        }
    }
}
