//! Turns bytes into blocks of packets, for pcap and pcapng.

use super::compress::Input;
use super::error::{Problem, Truncation};
use super::findings::Findings;
use super::interface::Drops;
use super::pcap::PcapParser;
use super::pcapng::PcapNgParser;
use crate::decode::block::{Block, LinkType};

/// Bytes read at once from a file.
pub(super) const BLOCK_SIZE: usize = 256 * 1024;
/// Bytes read at once from a pipe: the default capacity of a pipe.
const PIPE_BLOCK_SIZE: usize = 64 * 1024;
/// Maximum size of a record in bytes, with header and options.
pub(super) const MAX_BUFFER: usize = 4 * 1024 * 1024;
/// Maximum bytes captured of a packet, as in libpcap.
pub(super) const MAX_CAPTURED: u32 = 262_144;

/// The next item of a capture.
pub(super) enum Next {
    /// Packets, at least one.
    Packets,
    /// The end of the capture.
    End(Option<Truncation>),
}

/// Result of parsing a stretch of bytes.
pub(super) struct Parsed {
    /// Bytes of the complete records.
    pub(super) consumed: usize,
    /// Bytes that the next record needs.
    pub(super) need: usize,
    /// Why parsing stopped there.
    pub(super) stop: Option<Stop>,
}

/// Why parsing stopped before the end of the data.
pub(super) enum Stop {
    /// Nothing can be read from there on.
    Problem(Problem),
    /// A record of zeros, which may be padding at the end.
    Zeros,
}

/// The parser of a format.
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

    /// Returns true if the file header has been read.
    fn has_header(&self) -> bool {
        match self {
            Self::Pcap(_) => true,
            Self::PcapNg(parser) => parser.has_section(),
        }
    }
}

/// A capture in pcap or pcapng format.
pub(super) struct Stream {
    parser: Parser,
    input: Input,
    /// Bytes read but not parsed.
    carried: Vec<u8>,
    /// Position of `carried` in the capture.
    position: u64,
    /// Bytes that the next record needs.
    need: usize,
    /// Zeros before `carried` at the start of a record. They may turn out to be padding at the end.
    zeros: u64,
    /// Records of zeros that turned out to be packets.
    zero_packets: u64,
    /// True if `carried` may hold complete records.
    unparsed: bool,
    ended: bool,
    problem: Option<Problem>,
}

impl Stream {
    /// Creates a stream. `carried`, at byte `position` of the capture, was read but not parsed.
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

    /// Returns the link type if all packets share one and it is supported.
    pub(super) fn link(&self) -> Option<LinkType> {
        match &self.parser {
            Parser::Pcap(parser) => parser.link(),
            Parser::PcapNg(_) => None,
        }
    }

    /// Returns the findings other than packets.
    pub(super) fn findings(&self) -> &Findings {
        self.parser.findings()
    }

    /// Returns the findings other than packets, after all packets were read.
    pub(super) fn into_findings(self) -> Findings {
        match self.parser {
            Parser::Pcap(parser) => parser.findings,
            Parser::PcapNg(parser) => parser.findings,
        }
    }

    /// Returns the drops that the capture has recorded so far.
    pub(super) fn drops(&self) -> Drops {
        match &self.parser {
            Parser::Pcap(_) => Drops::default(),
            Parser::PcapNg(parser) => parser.drops(),
        }
    }

    /// Returns true if another program delivers packets as it captures them.
    pub(super) fn is_prompt(&self) -> bool {
        self.input.is_prompt()
    }

    /// Returns the length of the zero padding at the end of the capture, in bytes.
    pub(super) fn zero_tail(&self) -> u64 {
        let tail = self.zeros + self.carried.len() as u64;
        // Fewer than four zeros can be the start of a truncated record.
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
            if self.zeros > 0 {
                self.skip_zeros(&block.data, 0);
                continue;
            }
            let parsed = self.parser.parse(block, self.position);
            self.position += parsed.consumed as u64;
            self.need = parsed.need;
            self.carried.clear();
            match parsed.stop {
                Some(Stop::Zeros) => self.skip_zeros(&block.data, parsed.consumed),
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

    /// Skips the zeros in `data` from `from` on, where a record starts or earlier zeros continue.
    /// The bytes after them are carried over, so `data` needs no further parsing.
    fn skip_zeros(&mut self, data: &[u8], from: usize) {
        self.carried.clear();
        let here = data[from..].iter().position(|&byte| byte != 0);
        let Some(here) = here else {
            self.zeros += (data.len() - from) as u64;
            self.position += (data.len() - from) as u64;
            return;
        };
        let zeros = std::mem::take(&mut self.zeros) + here as u64;
        let start = self.position + here as u64 - zeros;
        // The last zeros can belong to the record that follows.
        let record = match &self.parser {
            Parser::Pcap(parser) => parser.record_len() as u64,
            Parser::PcapNg(_) => {
                self.problem = Some(Problem::Corrupt {
                    byte: start,
                    packet: self.parser.packets() + 1,
                    what: format!("{zeros} zero bytes where a block should start"),
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
    }

    /// Fills `data` with the carried bytes and the next ones of the input.
    fn fill(&mut self, data: &mut Vec<u8>) {
        let size = if self.input.is_prompt() { PIPE_BLOCK_SIZE } else { BLOCK_SIZE };
        let mut filled = self.carried.len();
        // The bytes of a reused block need no clearing, because all of them are overwritten.
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
