//! Bytes in, blocks of packets out, for the formats that are parsed here.

use super::compress::Input;
use super::error::{Problem, Truncation};
use super::findings::Findings;
use super::interface::Drops;
use super::pcap::PcapParser;
use super::pcapng::PcapNgParser;
use crate::decode::block::{Block, LinkType};

/// Bytes read at once from a file.
pub(super) const BLOCK_SIZE: usize = 256 * 1024;
/// Bytes read at once from a pipe, as many as it holds.
const PIPE_BLOCK_SIZE: usize = 64 * 1024;
/// Most bytes of a record with all that belongs to it.
pub(super) const MAX_BUFFER: usize = 4 * 1024 * 1024;
/// Most bytes captured of a packet, as in libpcap.
pub(super) const MAX_CAPTURED: u32 = 262_144;

/// What comes next.
pub(super) enum Next {
    /// Packets, at least one.
    Packets,
    /// Nothing any more.
    End(Option<Truncation>),
}

/// What a stretch of bytes held.
pub(super) struct Parsed {
    /// Bytes of the records that were complete.
    pub(super) consumed: usize,
    /// Bytes that the record behind them needs.
    pub(super) need: usize,
    /// Why the records end there.
    pub(super) stop: Option<Stop>,
}

/// Why records end before the data does.
pub(super) enum Stop {
    /// Nothing can be read from there on.
    Problem(Problem),
    /// There is a record of zeros, which may be a tail of zeros.
    Zeros,
}

/// What reads the records of a format.
pub(super) enum Parser {
    Pcap(PcapParser),
    PcapNg(PcapNgParser),
}

impl Parser {
    fn parse(&mut self, block: &mut Block, base: u64) -> Parsed {
        match self {
            Self::Pcap(parser) => parser.parse(block, base),
            Self::PcapNg(parser) => parser.parse(block, base),
        }
    }

    fn packets(&self) -> u64 {
        match self {
            Self::Pcap(parser) => parser.packets(),
            Self::PcapNg(parser) => parser.packets(),
        }
    }

    fn findings(&self) -> &Findings {
        match self {
            Self::Pcap(parser) => &parser.findings,
            Self::PcapNg(parser) => &parser.findings,
        }
    }

    /// Whether the file header was read in full.
    fn has_header(&self) -> bool {
        match self {
            Self::Pcap(_) => true,
            Self::PcapNg(parser) => parser.has_section(),
        }
    }
}

/// A capture in one of the formats that are read here.
pub(super) struct Stream {
    parser: Parser,
    input: Input,
    /// Bytes that were read but not parsed.
    carried: Vec<u8>,
    /// Where `carried` starts in the capture.
    position: u64,
    /// Bytes that the next record needs.
    need: usize,
    /// Zeros before `carried` that start where a record does, and of which it is not known yet
    /// whether they are the tail of the capture.
    zeros: u64,
    /// Records of zeros that turned out to be packets.
    zero_packets: u64,
    /// Whether `carried` may hold whole records.
    unparsed: bool,
    ended: bool,
    problem: Option<Problem>,
}

impl Stream {
    /// A capture of which `carried`, which starts at byte `position`, was read but not parsed.
    pub(super) fn new(parser: Parser, carried: Vec<u8>, position: u64, input: Input) -> Self {
        Self {
            parser,
            input,
            carried,
            position,
            need: 0,
            zeros: 0,
            zero_packets: 0,
            unparsed: false,
            ended: false,
            problem: None,
        }
    }

    /// The link type, where it is the same for all packets and is read.
    pub(super) fn link(&self) -> Option<LinkType> {
        match &self.parser {
            Parser::Pcap(parser) => parser.link(),
            Parser::PcapNg(_) => None,
        }
    }

    /// What was found beside packets.
    pub(super) fn findings(&self) -> &Findings {
        self.parser.findings()
    }

    /// What was found beside packets, which are all read.
    pub(super) fn into_findings(self) -> Findings {
        match self.parser {
            Parser::Pcap(parser) => parser.findings,
            Parser::PcapNg(parser) => parser.findings,
        }
    }

    /// Drops that the capture tells of, so far.
    pub(super) fn drops(&self) -> Drops {
        match &self.parser {
            Parser::Pcap(_) => Drops::default(),
            Parser::PcapNg(parser) => parser.drops(),
        }
    }

    /// Whether packets come from another program as it captures them.
    pub(super) fn is_prompt(&self) -> bool {
        self.input.is_prompt()
    }

    /// The tail of zeros that the capture ends with, in bytes.
    pub(super) fn zero_tail(&self) -> u64 {
        let tail = self.zeros + self.carried.len() as u64;
        // Fewer can be the start of a record that is cut.
        let is_tail = tail >= 4 && self.carried.iter().all(|&byte| byte == 0);
        if is_tail { tail } else { 0 }
    }

    /// Fills `block` with the next packets.
    pub(super) fn next_block(&mut self, block: &mut Block) -> Result<Next, Problem> {
        block.clear();
        loop {
            if let Parser::Pcap(parser) = &mut self.parser
                && self.zero_packets > 0
            {
                self.zero_packets -= parser.zero_packets(block, self.zero_packets);
                if !block.packets.is_empty() {
                    return Ok(Next::Packets);
                }
                continue;
            }
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            if self.ended && !std::mem::take(&mut self.unparsed) {
                return match self.truncation() {
                    Some(Truncation { byte, .. }) if !self.parser.has_header() => {
                        Err(Problem::HeaderCut { bytes: byte })
                    }
                    truncation => Ok(Next::End(truncation)),
                };
            }
            self.fill(&mut block.data);
            if self.zeros > 0 && self.skip_zeros(&block.data, 0) {
                continue;
            }
            let parsed = self.parser.parse(block, self.position);
            self.position += parsed.consumed as u64;
            self.need = parsed.need;
            self.carried.clear();
            match parsed.stop {
                Some(Stop::Zeros) => _ = self.skip_zeros(&block.data, parsed.consumed),
                stop => {
                    self.carried.extend_from_slice(&block.data[parsed.consumed..]);
                    if let Some(Stop::Problem(problem)) = stop {
                        self.problem = Some(problem);
                    }
                }
            }
            if !block.packets.is_empty() {
                return Ok(Next::Packets);
            }
        }
    }

    /// Goes past the zeros in `data` from `from` on, where a record starts or where zeros before it
    /// go on. What follows them is carried over. Returns whether `data` is dealt with.
    fn skip_zeros(&mut self, data: &[u8], from: usize) -> bool {
        self.carried.clear();
        let here = data[from..].iter().position(|&byte| byte != 0);
        let Some(here) = here else {
            self.zeros += (data.len() - from) as u64;
            self.position += (data.len() - from) as u64;
            return true;
        };
        let zeros = std::mem::take(&mut self.zeros) + here as u64;
        let start = self.position + here as u64 - zeros;
        // Zeros at the end can belong to the record that follows.
        let record = match &self.parser {
            Parser::Pcap(parser) => parser.record_len() as u64,
            Parser::PcapNg(_) => {
                self.problem = Some(Problem::Corrupt {
                    byte: start,
                    packet: self.parser.packets() + 1,
                    what: format!("{zeros} zeros where a block should start"),
                });
                1
            }
        };
        self.zero_packets = zeros / record;
        self.unparsed = true;
        let rest = zeros % record;
        self.carried.resize(rest as usize, 0);
        self.carried.extend_from_slice(&data[from + here..]);
        self.position += here as u64 - rest;
        true
    }

    /// Fills `data` with what was carried over and what comes next.
    fn fill(&mut self, data: &mut Vec<u8>) {
        let size = if self.input.is_prompt() { PIPE_BLOCK_SIZE } else { BLOCK_SIZE };
        let mut filled = self.carried.len();
        // A full block is not cleared, because all of it is overwritten.
        data.resize(size.max(self.need).max(filled + 1), 0);
        data[..filled].copy_from_slice(&self.carried);
        while filled < data.len() {
            match self.input.read_some(&mut data[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(bytes) => filled += bytes,
                Err(problem) => {
                    self.problem = Some(problem);
                    break;
                }
            }
            if self.input.is_prompt() && filled >= self.need {
                break;
            }
        }
        data.truncate(filled);
    }

    fn truncation(&self) -> Option<Truncation> {
        let inside = !self.carried.is_empty() && self.zero_tail() == 0
            || self.input.is_cut()
            || matches!(&self.parser, Parser::PcapNg(parser) if parser.is_inside_block());
        inside.then(|| Truncation {
            byte: self.position + self.carried.len() as u64,
            packet: self.parser.packets() + 1,
        })
    }
}
