//! Reads the formats that only libpcap knows.
//!
//! libpcap opens files, not streams, and does not decompress. It therefore reads from a pipe that a
//! thread fills.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;

use pcap::{Capture, Offline, Precision};

use super::compress::Input;
use super::error::{Problem, Truncation};
use super::findings::Findings;
use super::stream::{BLOCK_SIZE, Next};
use crate::decode::block::{Block, LinkType, PacketRecord};
use crate::decode::link::UnsupportedLink;
use crate::time::{Span, Timestamp};

/// Bytes written to the pipe at once.
const CHUNK: usize = 64 * 1024;

/// A capture that libpcap reads.
pub(super) struct LibpcapReader {
    capture: Capture<Offline>,
    link: Result<LinkType, UnsupportedLink>,
    packets: u64,
    pub(super) findings: Findings,
    /// The error that ended the packets.
    end: Option<pcap::Error>,
    feed: mpsc::Receiver<Fed>,
}

/// Result of the thread that fills the pipe.
struct Fed {
    bytes: u64,
    cut: bool,
    problem: Option<Problem>,
}

impl LibpcapReader {
    /// Opens a capture. `start` holds its first bytes, and `input` delivers the rest.
    pub(super) fn open(start: Vec<u8>, input: Input) -> Result<Self, Problem> {
        let (reader, writer) = io::pipe().map_err(|source| Problem::Open { source })?;
        let (report, feed) = mpsc::channel();
        thread::Builder::new()
            .name("capture-feed".to_owned())
            .spawn(move || {
                // Sending fails only if the reader is gone.
                let _ = report.send(feed_pipe(start, input, writer));
            })
            .map_err(|source| Problem::Open { source })?;
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let capture = Capture::from_file_with_precision(path, Precision::Nano)
            .map_err(|error| refusal(&message(error), &feed))?;
        let link = LinkType::from_number(capture.get_datalink().0 as u32);
        Ok(Self { capture, link, packets: 0, findings: Findings::default(), end: None, feed })
    }

    /// Returns the link type of all packets if it is supported.
    pub(super) fn link(&self) -> Option<LinkType> {
        self.link.ok()
    }

    /// Fills `block` with the next packets.
    pub(super) fn next_block(&mut self, block: &mut Block) -> Result<Next, Problem> {
        block.data.clear();
        block.clear();
        while self.end.is_none() && block.data.len() < BLOCK_SIZE {
            let packet = match self.capture.next_packet() {
                Ok(packet) => packet,
                Err(error) => {
                    self.end = Some(error);
                    break;
                }
            };
            self.packets += 1;
            let link = match self.link {
                Ok(link) => link,
                Err(link) => {
                    block.skip_unread(1);
                    self.findings.unread(link, self.packets, 1);
                    continue;
                }
            };
            // Opened with nanosecond precision.
            let nanoseconds = Span::from_nanos(packet.header.ts.tv_usec);
            let captured = packet.data.len() as u32;
            block.packets.push(PacketRecord {
                time: Timestamp::from_second(packet.header.ts.tv_sec) + nanoseconds,
                offset: block.data.len() as u32,
                captured,
                wire_len: packet.header.len.max(captured),
                link,
            });
            block.data.extend_from_slice(packet.data);
        }
        match self.end.take_if(|_| block.packets.is_empty()) {
            Some(error) => self.finish(error),
            None => Ok(Next::Packets),
        }
    }

    fn finish(&self, error: pcap::Error) -> Result<Next, Problem> {
        let packet = self.packets + 1;
        let message = match error {
            pcap::Error::NoMorePackets => None,
            error => Some(message(error)),
        };
        if let Some(message) = &message
            && !is_at_end(message)
        {
            return Err(Problem::Libpcap { packet, message: message.clone() });
        }
        let (bytes, cut) = fed(&self.feed)?;
        let cut = cut || message.is_some();
        Ok(Next::End(cut.then_some(Truncation { byte: bytes, packet })))
    }
}

/// Returns why libpcap cannot open a capture: its own message, or the error of reading the bytes.
fn refusal(message: &str, feed: &mpsc::Receiver<Fed>) -> Problem {
    if is_at_end(message)
        && let Err(problem) = fed(feed)
    {
        return problem;
    }
    Problem::NotACapture { reason: format!("libpcap: {message}") }
}

/// Returns true if a message of libpcap means that the capture ended early.
fn is_at_end(message: &str) -> bool {
    message.starts_with("truncated")
}

/// Returns the bytes that went through the pipe, and whether they were cut short.
///
/// libpcap has met the end of the pipe, so the report of the other side has arrived or is on its
/// way.
fn fed(feed: &mpsc::Receiver<Fed>) -> Result<(u64, bool), Problem> {
    match feed.recv() {
        Ok(Fed { problem: Some(problem), .. }) => Err(problem),
        Ok(Fed { bytes, cut, problem: None }) => Ok((bytes, cut)),
        // The thread ended without a report.
        Err(mpsc::RecvError) => {
            Err(Problem::Read { byte: 0, source: io::ErrorKind::BrokenPipe.into() })
        }
    }
}

fn message(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message,
        other => other.to_string(),
    }
}

/// Writes a capture into a pipe until the capture ends or the pipe is closed.
fn feed_pipe(start: Vec<u8>, mut input: Input, mut pipe: io::PipeWriter) -> Fed {
    let mut chunk = start;
    loop {
        if pipe.write_all(&chunk).is_err() {
            break;
        }
        chunk.resize(CHUNK, 0);
        match input.read_some(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => chunk.truncate(bytes),
            Err(problem) => {
                return Fed { bytes: input.position(), cut: false, problem: Some(problem) };
            }
        }
    }
    Fed { bytes: input.position(), cut: input.is_cut(), problem: None }
}
