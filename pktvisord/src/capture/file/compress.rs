//! The octets of a capture, whatever they are stored as.
//!
//! gzip and zstd are told by their magic numbers and decompressed while reading, all members and
//! frames of a file one behind the other.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::Problem;

/// Compressed octets read at once.
const COMPRESSED_CHUNK: usize = 128 * 1024;
/// Largest zstd window that is decompressed, as a power of 2: 64 MiB. `zstd` writes no larger one
/// unless told to with `--long` or `--ultra -22`.
const ZSTD_WINDOW_LOG: u32 = 26;

/// The decompressed octets of a file or pipe.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    compression: Option<&'static str>,
    stored: Arc<AtomicU64>,
    stored_total: Option<u64>,
    prompt: bool,
    position: u64,
    cut: bool,
}

impl Input {
    /// Looks at what `file` is and whether it is compressed.
    ///
    /// A read that waits for another program ends like a file where `interrupt` becomes true.
    pub(super) fn new(mut file: File, interrupt: Option<Arc<AtomicBool>>) -> Result<Self, Problem> {
        let metadata = file.metadata().map_err(|source| Problem::Open { source })?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(Problem::Directory);
        }
        let stored_total = match file.stream_position() {
            Ok(start) if kind.is_file() => Some(metadata.len().saturating_sub(start)),
            _ => None,
        };
        let stored = Arc::new(AtomicU64::new(0));
        let prompt = kind.is_fifo() || kind.is_socket() || kind.is_char_device();
        let interrupt = interrupt.filter(|_| prompt);
        let mut raw = Source { file, octets: Arc::clone(&stored), interrupt };
        let mut magic = Vec::with_capacity(4);
        (&mut raw)
            .take(4)
            .read_to_end(&mut magic)
            .map_err(|source| Problem::Read { byte: 0, source })?;
        let compression = match *magic.as_slice() {
            [0x1f, 0x8b, ..] => Some("gzip"),
            // A frame, or a skippable frame, which parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Some("zstd"),
            _ => None,
        };
        let whole = Cursor::new(magic).chain(raw);
        let reader: Box<dyn Read + Send> = match compression {
            Some("gzip") => Box::new(flate2::bufread::MultiGzDecoder::new(
                BufReader::with_capacity(COMPRESSED_CHUNK, whole),
            )),
            Some(_) => {
                let buffered = BufReader::with_capacity(COMPRESSED_CHUNK, whole);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)
                    .map_err(|source| Problem::Read { byte: 0, source })?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG)
                    .map_err(|source| Problem::Read { byte: 0, source })?;
                Box::new(decoder)
            }
            None => Box::new(whole),
        };
        Ok(Self { reader, compression, stored, stored_total, prompt, position: 0, cut: false })
    }

    /// Whether the octets come from another program as it writes them, so that what is there has
    /// to be handed on before more is waited for.
    pub(super) fn is_prompt(&self) -> bool {
        self.prompt
    }

    /// Octets read so far, after decompression.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the compressed data ended before its end mark.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Octets read so far as they are stored, and how many there are if that is known.
    pub(super) fn stored(&self) -> (Arc<AtomicU64>, Option<u64>) {
        (Arc::clone(&self.stored), self.stored_total)
    }

    /// Reads until `buffer` is full or the input ends and says how many octets that were.
    pub(super) fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                octets => filled += octets,
            }
        }
        Ok(filled)
    }

    /// Reads what there is, at least one octet, into `buffer`; 0 at the end.
    pub(super) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        loop {
            match self.reader.read(buffer) {
                Ok(octets) => {
                    self.position += octets as u64;
                    return Ok(octets);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return self.failed(source),
            }
        }
    }

    fn failed(&mut self, source: io::Error) -> Result<usize, Problem> {
        let byte = self.position;
        match self.compression {
            Some(_) if source.kind() == io::ErrorKind::UnexpectedEof => {
                self.cut = true;
                Ok(0)
            }
            Some(format) if source.raw_os_error().is_none() => {
                Err(Problem::Compression { format, byte, source })
            }
            _ => Err(Problem::Read { byte, source }),
        }
    }
}

/// How often a read that waits looks whether it was interrupted.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The file or pipe itself; counts the octets that are read.
struct Source {
    file: File,
    octets: Arc<AtomicU64>,
    interrupt: Option<Arc<AtomicBool>>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(interrupt) = &self.interrupt {
            loop {
                if interrupt.load(Ordering::Relaxed) {
                    return Ok(0);
                }
                let mut wanted = [PollFd::new(&self.file, PollFlags::IN)];
                if poll(&mut wanted, Some(&PATIENCE))? > 0 {
                    break;
                }
            }
        }
        let octets = self.file.read(buffer)?;
        self.octets.fetch_add(octets as u64, Ordering::Relaxed);
        Ok(octets)
    }
}
