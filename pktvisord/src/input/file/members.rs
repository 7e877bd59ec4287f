//! Decompression of gzip, zstd and xz with bounded memory.
//!
//! A compressed file is a sequence of members (gzip), frames (zstd) or streams (xz). Bytes after
//! the last one that start no other are counted and not read as packets.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use zstd::stream::read::Decoder as ZstdDecoder;

/// Compressed bytes read at once.
const CHUNK: usize = 128 * 1024;
/// Bytes needed to recognize any of the formats.
const MAGIC: usize = 6;
/// Largest zstd window that is decompressed, as a power of 2: 64 MiB. `zstd` writes larger ones
/// only with `--long` or `--ultra -22`.
const ZSTD_WINDOW_LOG: u32 = 26;
/// Memory limit for decompressing xz, in KiB. `xz -9` needs 65 MiB, which is the most without
/// `--lzma2=dict=`.
const XZ_MEMORY_KIB: u32 = 68 * 1024;

/// Compression format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
}

impl Compression {
    /// Detects the format by the first bytes, which may be a prefix of its magic number.
    fn starts(start: &[u8]) -> Option<Self> {
        const FRAME: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        let begins = |magic: &[u8]| {
            let known = magic.len().min(start.len());
            known > 0 && start[..known] == magic[..known]
        };
        // A skippable frame: parallel compressors write one first.
        let skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        if begins(&[0x1f, 0x8b]) {
            Some(Self::Gzip)
        } else if begins(FRAME) || skippable {
            Some(Self::Zstd)
        } else if begins(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else {
            None
        }
    }

    /// Returns the name of the format, which is also that of its tool.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }
}

/// Stored bytes with lookahead.
pub(super) struct Stored<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: Read> Stored<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: Vec::with_capacity(CHUNK), start: 0 }
    }

    /// Returns the next `count` bytes without consuming them; fewer only at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.start < count {
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.read_more()? == 0 {
                break;
            }
        }
        let end = self.buffer.len().min(self.start + count);
        Ok(&self.buffer[self.start..end])
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let before = self.buffer.len();
        self.buffer.resize(CHUNK.max(before + MAGIC), 0);
        let read = loop {
            match self.source.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
        read
    }

    /// Detects the compression of the data that follows by its first bytes.
    pub(super) fn compression(&mut self) -> io::Result<Option<Compression>> {
        let start = self.peek(MAGIC)?;
        Ok(if start.len() < 2 { None } else { Compression::starts(start) })
    }

    /// Consumes zeros and returns their number.
    fn skip_zeros(&mut self) -> io::Result<u64> {
        let mut zeros = 0;
        loop {
            let data = self.fill_buf()?;
            let here = data.iter().position(|&byte| byte != 0).unwrap_or(data.len());
            let more = here > 0 && here == data.len();
            self.consume(here);
            zeros += here as u64;
            if !more {
                return Ok(zeros);
            }
        }
    }
}

impl<R: Read> BufRead for Stored<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            self.read_more()?;
        }
        Ok(&self.buffer[self.start..])
    }

    fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.buffer.len());
    }
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Large reads bypass the buffer, so that blocks of packets are not copied.
        if self.start == self.buffer.len() && into.len() >= CHUNK / 2 {
            return self.source.read(into);
        }
        let data = self.fill_buf()?;
        let bytes = data.len().min(into.len());
        into[..bytes].copy_from_slice(&data[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

enum Decoder<R: Read> {
    Gzip(Box<GzDecoder<Stored<R>>>),
    Zstd(Box<ZstdDecoder<'static, Stored<R>>>),
    Xz(Box<XzReader<Stored<R>>>),
}

impl<R: Read> Decoder<R> {
    fn new(compression: Compression, stored: Stored<R>) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(Box::new(GzDecoder::new(stored))),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(stored)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
            Compression::Xz => {
                Self::Xz(Box::new(XzReader::new_mem_limit(stored, false, XZ_MEMORY_KIB)))
            }
        })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
            Self::Xz(decoder) => decoder.read(into),
        }
    }

    fn into_stored(self) -> Stored<R> {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
            Self::Xz(decoder) => decoder.into_inner(),
        }
    }
}

/// The decompressed bytes of all members of a file.
pub(super) struct Members<R: Read> {
    compression: Compression,
    /// `None` after the last member and after an error.
    decoder: Option<Decoder<R>>,
    behind: Arc<AtomicU64>,
}

impl<R: Read> Members<R> {
    /// Decompresses `stored`. `behind` receives the number of bytes after the last member.
    pub(super) fn new(
        compression: Compression,
        stored: Stored<R>,
        behind: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let decoder = Some(Decoder::new(compression, stored)?);
        Ok(Self { compression, decoder, behind })
    }

    /// Continues with the next member, if one follows.
    fn next_member(&mut self, mut stored: Stored<R>) -> io::Result<()> {
        // xz pads with zeros, in multiples of 4 bytes.
        let zeros = if self.compression == Compression::Xz { stored.skip_zeros()? } else { 0 };
        let start = stored.peek(MAGIC)?;
        if !start.is_empty() && Compression::starts(start) == Some(self.compression) {
            self.decoder = Some(Decoder::new(self.compression, stored)?);
            return Ok(());
        }
        let rest = io::copy(&mut stored, &mut io::sink())?;
        let padding = rest == 0 && zeros.is_multiple_of(4);
        self.behind.store(if padding { 0 } else { zeros + rest }, Ordering::Relaxed);
        Ok(())
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(mut decoder) = self.decoder.take() {
            // A decoder is not used again after an error.
            let bytes = loop {
                match decoder.read(into) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            if bytes > 0 {
                self.decoder = Some(decoder);
                return Ok(bytes);
            }
            self.next_member(decoder.into_stored())?;
        }
        Ok(0)
    }
}
