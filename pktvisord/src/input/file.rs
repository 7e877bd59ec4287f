//! Reads capture files.
//!
//! The reader takes the file in large blocks and parses them in place. It carries a record that the
//! end of a block cuts over to the next block.

mod compress;
mod error;
mod findings;
mod interface;
mod libpcap;
mod members;
mod pace;
mod pcap;
mod pcapng;
mod progress;
mod run;
mod stream;
mod times;

use std::collections::VecDeque;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::compress::Input;
pub use self::error::{Problem, ReadError, Truncation};
use self::findings::{Findings, plural};
pub use self::interface::Drops;
use self::libpcap::LibpcapReader;
pub use self::pace::Speed;
use self::pcap::{FILE_HEADER_LEN, PcapParser};
use self::pcapng::PcapNgParser;
pub use self::run::{FileInput, RunningFile};
use self::stream::{Next, Parser, Stream};
use self::times::{Patience, Times};
use super::filter::{Filter, Hidden};
use crate::decode::block::{Block, LinkType, Mark};

/// Options for reading a capture.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// Keep only packets that match this expression in libpcap's filter language.
    pub filter: Option<String>,
    /// Treat a truncated capture as an error.
    pub strict: bool,
    /// If this becomes true while a read waits for a pipe, the capture ends there.
    pub interrupt: Option<Arc<AtomicBool>>,
}

/// Progress of reading a capture, in bytes as stored, before decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes_read: u64,
    /// Total bytes; `None` for a pipe.
    pub total: Option<u64>,
}

/// A reader of one capture.
pub struct CaptureReader {
    name: String,
    format: Format,
    strict: bool,
    filter: Option<Filter>,
    filtered_out: u64,
    passed: u64,
    times: Times,
    /// Blocks read ahead to judge the times of earlier packets.
    ahead: VecDeque<Block>,
    /// The end of the capture, if it was met while reading ahead.
    end: Option<Result<Option<Truncation>, Problem>>,
    /// Packet time went back at a packet that the filter dropped, so the next packet gets the mark.
    back: bool,
    truncation: Option<Truncation>,
    findings: Findings,
    drops: Drops,
    unread_taken: u64,
    zero_tail: u64,
    behind: Arc<AtomicU64>,
    stored: Arc<AtomicU64>,
    stored_total: Option<u64>,
}

enum Format {
    Parsed(Stream),
    Libpcap(LibpcapReader),
    /// Read to its end, or to an error.
    Done,
}

impl CaptureReader {
    /// Opens the capture file at `path`.
    pub fn open(path: &Path, options: &FileOptions) -> Result<Self, ReadError> {
        let name = path.display().to_string();
        File::open(path)
            .map_err(|source| Problem::Open { source })
            .and_then(|file| Self::from_file(&name, file, options))
            .map_err(|problem| problem.of(&name))
    }

    /// Opens the capture on standard input, which can be a pipe.
    pub fn stdin(options: &FileOptions) -> Result<Self, ReadError> {
        let name = "standard input";
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Problem::Terminal.of(name));
        }
        stdin
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Problem::Open { source })
            .and_then(|stdin| Self::from_file(name, File::from(stdin), options))
            .map_err(|problem| problem.of(name))
    }

    fn from_file(name: &str, file: File, options: &FileOptions) -> Result<Self, Problem> {
        let mut input = Input::new(file, options.interrupt.clone())?;
        let (stored, stored_total) = input.stored();
        let behind = input.behind();
        let mut start = vec![0; FILE_HEADER_LEN];
        let bytes = input.read_full(&mut start)?;
        start.truncate(bytes);
        let mut filter = options.filter.as_deref().map(Filter::new);
        let format = Format::detect(start, input)?;
        if let (Some(filter), Some(link)) = (&mut filter, format.link()) {
            filter.prepare(link)?;
        }
        Ok(Self {
            name: name.to_owned(),
            format,
            strict: options.strict,
            filter,
            filtered_out: 0,
            passed: 0,
            times: Times::default(),
            ahead: VecDeque::new(),
            end: None,
            back: false,
            truncation: None,
            findings: Findings::default(),
            drops: Drops::default(),
            unread_taken: 0,
            zero_tail: 0,
            behind,
            stored,
            stored_total,
        })
    }

    /// Fills `block` with the next packets, at least one, and reuses its buffers. Returns false at
    /// the end.
    ///
    /// If the capture has an error, the packets before it come first.
    pub fn next_block(&mut self, block: &mut Block) -> Result<bool, ReadError> {
        let more = self.read_block(block);
        if !matches!(more, Ok(true)) {
            self.format = Format::Done;
            self.ahead.clear();
            block.clear();
        }
        more.map_err(|problem| problem.of(&self.name))
    }

    fn read_block(&mut self, block: &mut Block) -> Result<bool, Problem> {
        while self.next_checked(block) {
            self.times.end_block(block);
            if let Some(filter) = &mut self.filter {
                if std::mem::take(&mut self.back) {
                    block.marks.insert(0, (0, Mark::Back));
                }
                self.filtered_out += filter.apply(block)?;
                // A mark after the last packet applies to the next packet that passes the filter.
                let packets = block.packets.len() as u32;
                self.back = block.marks.pop_if(|(place, _)| *place == packets).is_some();
            }
            if !block.packets.is_empty() {
                self.passed += block.packets.len() as u64;
                return Ok(true);
            }
        }
        let Some(end) = self.end.take() else { return Ok(false) };
        self.truncation = end?;
        match self.truncation {
            Some(truncation) if self.strict => Err(Problem::Truncated(truncation)),
            _ => Ok(false),
        }
    }

    /// Fills `block` with the next packets and checks their times. Returns false at the end.
    fn next_checked(&mut self, block: &mut Block) -> bool {
        match self.ahead.pop_front() {
            Some(next) => *block = next,
            None if !self.next_parsed(block) => return false,
            None => {}
        }
        let mut from = 0;
        loop {
            let patience = Patience { ended: self.end.is_some(), prompt: self.format.is_prompt() };
            let Some(at) = self.times.check(block, from, &self.ahead, patience) else {
                return true;
            };
            from = at;
            let mut next = Block::default();
            if self.next_parsed(&mut next) {
                self.ahead.push_back(next);
            }
        }
    }

    /// Fills `block` with the next packets, with their times unchecked. Returns false at the end.
    fn next_parsed(&mut self, block: &mut Block) -> bool {
        if self.end.is_some() {
            return false;
        }
        let next = match &mut self.format {
            Format::Parsed(stream) => stream.next_block(block),
            Format::Libpcap(reader) => reader.next_block(block),
            Format::Done => return false,
        };
        let end = match next {
            Ok(Next::Packets) => return true,
            Ok(Next::End(truncation)) => Ok(truncation),
            Err(problem) => Err(problem),
        };
        match std::mem::replace(&mut self.format, Format::Done) {
            Format::Parsed(stream) => {
                self.drops = stream.drops();
                self.zero_tail = if end.is_ok() { stream.zero_tail() } else { 0 };
                self.findings = stream.into_findings();
            }
            Format::Libpcap(reader) => self.findings = reader.findings,
            Format::Done => {}
        }
        self.end = Some(end);
        false
    }

    /// Returns the packets with an unsupported link type since the last call.
    pub fn take_unread(&mut self) -> u64 {
        let findings = match &self.format {
            Format::Parsed(stream) => stream.findings(),
            Format::Libpcap(reader) => &reader.findings,
            Format::Done => &self.findings,
        };
        let unread = findings.all_unread();
        unread.saturating_sub(std::mem::replace(&mut self.unread_taken, unread))
    }

    /// Returns the drops that the capture records; complete after its end.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Returns true if there were packets and none had a timestamp.
    pub fn lacks_times(&self) -> bool {
        self.times.are_missing()
    }

    /// Returns the warnings about the capture; complete after its end.
    pub fn warnings(&self) -> Vec<String> {
        let behind = self.behind.load(Ordering::Relaxed);
        let mut warnings: Vec<String> = self.findings.warnings().collect();
        warnings.extend(self.times.warning());
        if self.lacks_times() {
            warnings.push(
                "no packet has a timestamp (all are 0 or in simple packet blocks); latencies and rates \
                 are not available"
                    .to_owned(),
            );
        }
        if self.zero_tail > 0 {
            let bytes = plural(self.zero_tail, "zero byte");
            warnings.push(format!("ignored {bytes} at the end"));
        }
        if behind > 0 {
            let bytes = plural(behind, "byte");
            warnings.push(format!("ignored {bytes} after the end of the compressed data"));
        }
        if let Some(filter) = self.filter.as_ref().filter(|_| self.passed == 0) {
            warnings.extend(all_left_out(self.filtered_out, filter.hidden()));
        }
        warnings
    }

    /// Returns how much of the capture has been read.
    pub fn progress(&self) -> Progress {
        Progress { bytes_read: self.stored.load(Ordering::Relaxed), total: self.stored_total }
    }

    /// Returns where the capture is truncated, if it is; known after its end.
    pub fn truncation(&self) -> Option<Truncation> {
        self.truncation
    }

    /// Returns true if the packets are filtered.
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Returns the number of packets that the filter dropped so far.
    pub fn filtered_out(&self) -> u64 {
        self.filtered_out
    }
}

/// Returns a warning if the filter dropped every packet, with a likely reason.
fn all_left_out(packets: u64, hidden: Hidden) -> Option<String> {
    if packets == 0 {
        return None;
    }
    let mut text = format!("the filter rejected all {}", plural(packets, "packet"));
    let tags = [
        (hidden.vlan, "a VLAN tag", "vlan"),
        (hidden.mpls, "an MPLS label", "mpls"),
        (hidden.pppoe, "a PPPoE header", "pppoes"),
    ];
    for (count, tag, keyword) in tags.into_iter().filter(|(count, ..)| *count > 0) {
        let have = if count == 1 { "has" } else { "have" };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "; {count} {have} {tag}, and a filter looks behind it only after the keyword \
             `{keyword}`: `{keyword} and (EXPRESSION)`"
        );
    }
    Some(text)
}

impl Format {
    /// Returns true if another program delivers packets as it captures them.
    fn is_prompt(&self) -> bool {
        matches!(self, Self::Parsed(stream) if stream.is_prompt())
    }

    /// Detects the format of a capture. `start` holds its first bytes, and `input` delivers the
    /// rest.
    fn detect(start: Vec<u8>, input: Input) -> Result<Self, Problem> {
        if start.len() < 4 {
            return Err(match start.len() {
                bytes if input.is_cut() => Problem::HeaderCut { bytes: bytes as u64 },
                0 => Problem::Empty,
                bytes => Problem::NotACapture { reason: format!("only {bytes} bytes") },
            });
        }
        if PcapNgParser::recognizes(&start) {
            let parser = Parser::PcapNg(PcapNgParser::default());
            return Ok(Self::Parsed(Stream::new(parser, start, 0, input)));
        }
        if PcapParser::recognizes(&start) {
            if start.len() < FILE_HEADER_LEN {
                return Err(Problem::HeaderCut { bytes: start.len() as u64 });
            }
            if let Some(parser) = PcapParser::from_header(&start) {
                let position = start.len() as u64;
                let parser = Parser::Pcap(parser);
                return Ok(Self::Parsed(Stream::new(parser, Vec::new(), position, input)));
            }
        }
        LibpcapReader::open(start, input).map(Self::Libpcap)
    }

    /// Returns the link type if all packets share one and it is supported.
    fn link(&self) -> Option<LinkType> {
        match self {
            Self::Parsed(stream) => stream.link(),
            Self::Libpcap(reader) => reader.link(),
            Self::Done => None,
        }
    }
}
