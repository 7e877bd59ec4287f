//! Reading capture files.
//!
//! Octets are read in large blocks and parsed where they lie. What a block holds of its last
//! record is carried over to the next one.

mod compress;
mod error;
mod interface;
mod libpcap;
mod pcap;
mod pcapng;
mod stream;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::compress::Input;
pub use self::error::{Problem, ReadError, Truncation};
use self::libpcap::LibpcapReader;
use self::pcap::{FILE_HEADER_LEN, PcapParser};
use self::pcapng::PcapNgParser;
use self::stream::{Next, Parser, Stream};
use super::filter::Filter;
use super::{Block, LinkType};

/// How a capture is to be read.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// Only packets that match this expression in libpcap's filter language.
    pub filter: Option<String>,
    /// A capture that is cut short is an error.
    pub strict: bool,
    /// Where this becomes true while a pipe is waited for, the capture ends there.
    pub interrupt: Option<Arc<AtomicBool>>,
}

/// How far a capture is read, in octets as they are stored, that is before decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets read.
    pub bytes_read: u64,
    /// Octets there are; `None` for a pipe.
    pub total: Option<u64>,
}

/// A capture that is being read.
pub struct CaptureReader {
    name: String,
    format: Format,
    strict: bool,
    filter: Option<Filter>,
    filtered_out: u64,
    truncation: Option<Truncation>,
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
        let mut start = vec![0; FILE_HEADER_LEN];
        let octets = input.read_full(&mut start)?;
        start.truncate(octets);
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
            truncation: None,
            stored,
            stored_total,
        })
    }

    /// Fills `block`, whose buffers are used again, with the next packets, at least one; `false`
    /// at the end. Before an error of the capture all packets up to it are handed over.
    pub fn next_block(&mut self, block: &mut Block) -> Result<bool, ReadError> {
        let more = self.read_block(block);
        if !matches!(more, Ok(true)) {
            self.format = Format::Done;
            block.packets.clear();
        }
        more.map_err(|problem| problem.of(&self.name))
    }

    fn read_block(&mut self, block: &mut Block) -> Result<bool, Problem> {
        loop {
            let next = match &mut self.format {
                Format::Parsed(stream) => stream.next_block(block)?,
                Format::Libpcap(reader) => reader.next_block(block)?,
                Format::Done => return Ok(false),
            };
            if let Next::End(truncation) = next {
                self.truncation = truncation;
                return match truncation {
                    Some(truncation) if self.strict => Err(Problem::Truncated(truncation)),
                    _ => Ok(false),
                };
            }
            if let Some(filter) = &mut self.filter {
                self.filtered_out += filter.apply(block)?;
            }
            if !block.packets.is_empty() {
                return Ok(true);
            }
        }
    }

    /// How far the capture is read.
    pub fn progress(&self) -> Progress {
        Progress { bytes_read: self.stored.load(Ordering::Relaxed), total: self.stored_total }
    }

    /// Where the capture is cut short; known after its end.
    pub fn truncation(&self) -> Option<Truncation> {
        self.truncation
    }

    /// Packets that the filter left out so far.
    pub fn filtered_out(&self) -> u64 {
        self.filtered_out
    }
}

impl Format {
    /// Tells the format of the capture of which `start` was read and `input` is the rest.
    fn detect(start: Vec<u8>, input: Input) -> Result<Self, Problem> {
        if start.len() < 4 {
            return Err(match start.len() {
                octets if input.is_cut() => Problem::HeaderCut { octets: octets as u64 },
                0 => Problem::Empty,
                octets => Problem::NotACapture { reason: format!("it has only {octets} octets") },
            });
        }
        if PcapNgParser::recognizes(&start) {
            let parser = Parser::PcapNg(PcapNgParser::default());
            return Ok(Self::Parsed(Stream::new(parser, start, 0, input)));
        }
        if PcapParser::recognizes(&start) {
            if start.len() < FILE_HEADER_LEN {
                return Err(Problem::HeaderCut { octets: start.len() as u64 });
            }
            let parser = PcapParser::from_header(&start)
                .map_err(|link| Problem::LinkType { packet: 1, link })?;
            if let Some(parser) = parser {
                let position = start.len() as u64;
                let parser = Parser::Pcap(parser);
                return Ok(Self::Parsed(Stream::new(parser, Vec::new(), position, input)));
            }
        }
        LibpcapReader::open(start, input).map(Self::Libpcap)
    }

    /// The link type, where it is the same for all packets.
    fn link(&self) -> Option<LinkType> {
        match self {
            Self::Parsed(stream) => stream.link(),
            Self::Libpcap(reader) => Some(reader.link()),
            Self::Done => None,
        }
    }
}
