//! The decompressed bytes of a capture.
//!
//! gzip, zstd and xz are recognized by their magic numbers and decompressed while reading.

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
    /// Opens `file` and detects its compression.
    ///
    /// If `interrupt` becomes true, a read that waits for another program returns the end of the
    /// file.
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

    /// Returns true if another program writes the bytes as it goes. Packets must then be passed on
    /// before the reader waits for more.
    pub(super) fn is_prompt(&self) -> bool {
        self.prompt
    }

    /// Returns the bytes read so far, after decompression.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns true if the compressed data ended before its end marker.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Returns the stored bytes read so far, before decompression, and their total if known.
    pub(super) fn stored(&self) -> (Arc<AtomicU64>, Option<u64>) {
        (Arc::clone(&self.stored), self.stored_total)
    }

    /// Returns the number of bytes after the compressed data; known once its end was read.
    pub(super) fn behind(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.behind)
    }

    /// Reads until `buffer` is full or the input ends. Returns the number of bytes read.
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

    /// Reads the available bytes, at least one, into `buffer`. Returns 0 at the end.
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

/// Interval at which a waiting read checks for an interrupt.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The file or pipe itself. It counts the bytes read.
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
