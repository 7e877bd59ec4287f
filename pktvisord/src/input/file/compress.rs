//! The bytes of a capture, whatever they are stored as.
//!
//! gzip, zstd and xz are told by their magic numbers and decompressed while reading.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::Problem;
use super::members::{Compression, Members, Stored};

/// The decompressed bytes of a file or pipe.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    compression: Option<Compression>,
    behind: Arc<AtomicU64>,
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
        let mut source = Stored::new(Source { file, bytes: Arc::clone(&stored), interrupt });
        let unread = |source| Problem::Read { byte: 0, source };
        let compression = source.compression().map_err(unread)?;
        let behind = Arc::new(AtomicU64::new(0));
        let reader: Box<dyn Read + Send> = match compression {
            Some(compression) => {
                Box::new(Members::new(compression, source, Arc::clone(&behind)).map_err(unread)?)
            }
            None => Box::new(source),
        };
        Ok(Self {
            reader,
            compression,
            behind,
            stored,
            stored_total,
            prompt,
            position: 0,
            cut: false,
        })
    }

    /// Whether the bytes come from another program as it writes them, so that what is there has
    /// to be handed on before more is waited for.
    pub(super) fn is_prompt(&self) -> bool {
        self.prompt
    }

    /// Bytes read so far, after decompression.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the compressed data ended before its end mark.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes read so far as they are stored, and how many there are if that is known.
    pub(super) fn stored(&self) -> (Arc<AtomicU64>, Option<u64>) {
        (Arc::clone(&self.stored), self.stored_total)
    }

    /// Bytes behind the end of the compressed data, known when that was read.
    pub(super) fn behind(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.behind)
    }

    /// Reads until `buffer` is full or the input ends and says how many bytes that were.
    pub(super) fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        Ok(filled)
    }

    /// Reads what there is, at least one byte, into `buffer`; 0 at the end.
    pub(super) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        loop {
            match self.reader.read(buffer) {
                Ok(bytes) => {
                    self.position += bytes as u64;
                    return Ok(bytes);
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
            Some(compression) if source.raw_os_error().is_none() => {
                Err(Problem::Compression { format: compression.name(), byte, source })
            }
            _ => Err(Problem::Read { byte, source }),
        }
    }
}

/// How often a read that waits looks whether it was interrupted.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The file or pipe itself; counts the bytes that are read.
struct Source {
    file: File,
    bytes: Arc<AtomicU64>,
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
        let bytes = self.file.read(buffer)?;
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
