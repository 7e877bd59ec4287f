//! Octets in, blocks of packets out, for the formats that are parsed here.

use super::compress::Input;
use super::error::{Problem, Truncation};
use super::pcap::PcapParser;
use super::pcapng::PcapNgParser;
use crate::capture::{Block, LinkType, PacketRecord};

/// Octets read at once from a file.
pub(super) const BLOCK_SIZE: usize = 256 * 1024;
/// Octets read at once from a pipe, as many as it holds.
const PIPE_BLOCK_SIZE: usize = 64 * 1024;
/// Most octets of a record with all that belongs to it.
pub(super) const MAX_BUFFER: usize = 4 * 1024 * 1024;
/// Most octets captured of a packet, as in libpcap.
pub(super) const MAX_CAPTURED: u32 = 262_144;

/// What comes next.
pub(super) enum Next {
    /// Packets, at least one.
    Packets,
    /// Nothing any more.
    End(Option<Truncation>),
}

/// What a stretch of octets held.
pub(super) struct Parsed {
    /// Octets of the records that were complete.
    pub(super) consumed: usize,
    /// Octets that the record behind them needs.
    pub(super) need: usize,
    /// Why nothing can be read from there on.
    pub(super) problem: Option<Problem>,
}

/// What reads the records of a format.
pub(super) enum Parser {
    Pcap(PcapParser),
    PcapNg(PcapNgParser),
}

impl Parser {
    fn parse(&mut self, data: &[u8], base: u64, packets: &mut Vec<PacketRecord>) -> Parsed {
        match self {
            Self::Pcap(parser) => parser.parse(data, base, packets),
            Self::PcapNg(parser) => parser.parse(data, base, packets),
        }
    }

    fn packets(&self) -> u64 {
        match self {
            Self::Pcap(parser) => parser.packets(),
            Self::PcapNg(parser) => parser.packets(),
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
    /// Octets that were read but not parsed.
    carried: Vec<u8>,
    /// Where `carried` starts in the capture.
    position: u64,
    /// Octets that the next record needs.
    need: usize,
    ended: bool,
    problem: Option<Problem>,
}

impl Stream {
    /// A capture of which `carried`, which starts at byte `position`, was read but not parsed.
    pub(super) fn new(parser: Parser, carried: Vec<u8>, position: u64, input: Input) -> Self {
        Self { parser, input, carried, position, need: 0, ended: false, problem: None }
    }

    /// The link type, where it is the same for all packets.
    pub(super) fn link(&self) -> Option<LinkType> {
        match &self.parser {
            Parser::Pcap(parser) => Some(parser.link()),
            Parser::PcapNg(_) => None,
        }
    }

    /// Fills `block` with the next packets.
    pub(super) fn next_block(&mut self, block: &mut Block) -> Result<Next, Problem> {
        block.packets.clear();
        loop {
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            if self.ended {
                return match self.truncation() {
                    Some(Truncation { byte, .. }) if !self.parser.has_header() => {
                        Err(Problem::HeaderCut { octets: byte })
                    }
                    truncation => Ok(Next::End(truncation)),
                };
            }
            self.fill(&mut block.data);
            let parsed = self.parser.parse(&block.data, self.position, &mut block.packets);
            self.position += parsed.consumed as u64;
            self.need = parsed.need;
            self.problem = parsed.problem.or(self.problem.take());
            self.carried.clear();
            self.carried.extend_from_slice(&block.data[parsed.consumed..]);
            if !block.packets.is_empty() {
                return Ok(Next::Packets);
            }
        }
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
                Ok(octets) => filled += octets,
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
        let inside = !self.carried.is_empty()
            || self.input.is_cut()
            || matches!(&self.parser, Parser::PcapNg(parser) if parser.is_inside_block());
        inside.then(|| Truncation {
            byte: self.position + self.carried.len() as u64,
            packet: self.parser.packets() + 1,
        })
    }
}
