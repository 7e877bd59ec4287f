//! Writes captures and reads them back.

use std::fs;
use std::path::PathBuf;

use pktvisord::decode::block::Block;
use pktvisord::decode::block::LinkType;
use pktvisord::decode::block::Mark;
use pktvisord::input::file::{CaptureReader, Drops, FileOptions, ReadError, Truncation};
use tempfile::TempDir;

/// A packet that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub time: i64,
    pub wire_len: u32,
    pub link: LinkType,
    pub bytes: Vec<u8>,
}

/// Result of reading a capture.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub packets: Vec<Packet>,
    /// Marks by the index of their packet among those read.
    pub marks: Vec<(usize, Mark)>,
    pub unread: u64,
    pub drops: Drops,
    pub warnings: Vec<String>,
    pub truncation: Option<Truncation>,
    pub filtered_out: u64,
    pub error: Option<ReadError>,
}

impl Outcome {
    /// Returns the packets of a capture that was read without error or truncation.
    #[track_caller]
    pub(crate) fn complete(self) -> Vec<Packet> {
        assert!(self.error.is_none(), "{}", self.error.unwrap());
        assert_eq!(self.truncation, None);
        self.packets
    }
}

/// A capture file in a temporary folder.
pub(crate) struct Stored {
    _folder: TempDir,
    pub path: PathBuf,
}

/// Stores a capture file.
pub(crate) fn store(bytes: &[u8]) -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture");
    fs::write(&path, bytes).unwrap();
    Stored { _folder: folder, path }
}

/// Reads a capture to its end.
pub(crate) fn read(bytes: &[u8], options: &FileOptions) -> Outcome {
    let stored = store(bytes);
    let mut outcome = Outcome::default();
    match CaptureReader::open(&stored.path, options) {
        Ok(reader) => drain(reader, &mut outcome),
        Err(error) => outcome.error = Some(error),
    }
    outcome
}

/// Reads a capture to its end with default options.
pub(crate) fn read_all(bytes: &[u8]) -> Outcome {
    read(bytes, &FileOptions::default())
}

/// Reads the rest of a capture.
pub(crate) fn drain(mut reader: CaptureReader, outcome: &mut Outcome) {
    let mut block = Block::default();
    loop {
        match reader.next_block(&mut block) {
            Ok(true) => {
                assert!(!block.packets.is_empty(), "a block without packets is not handed over");
                let before = outcome.packets.len();
                let marks = block.marks.iter().map(|&(at, mark)| (before + at as usize, mark));
                outcome.marks.extend(marks);
                outcome.packets.extend(block.packets.iter().map(|record| Packet {
                    time: record.time.as_nanos(),
                    wire_len: record.wire_len,
                    link: record.link,
                    bytes: block.packet(record).to_vec(),
                }));
            }
            Ok(false) => break,
            Err(error) => {
                outcome.error = Some(error);
                break;
            }
        }
    }
    assert!(matches!(reader.next_block(&mut block), Ok(false)), "the end stays the end");
    outcome.unread = reader.take_unread();
    outcome.drops = reader.drops();
    outcome.warnings = reader.warnings();
    outcome.truncation = reader.truncation();
    outcome.filtered_out = reader.filtered_out();
}

/// Byte order of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    pub(crate) const BOTH: [Self; 2] = [Self::Little, Self::Big];

    pub(crate) fn u16(self, number: u16) -> [u8; 2] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    pub(crate) fn u32(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    pub(crate) fn u64(self, number: u64) -> [u8; 8] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

pub(crate) const MICROSECONDS: u32 = 0xa1b2_c3d4;
pub(crate) const NANOSECONDS: u32 = 0xa1b2_3c4d;
pub(crate) const MODIFIED: u32 = 0xa1b2_cd34;

/// Writes the pcap format.
pub(crate) struct PcapWriter {
    order: Order,
    modified: bool,
    pub bytes: Vec<u8>,
}

impl PcapWriter {
    pub(crate) fn new(order: Order, magic: u32, version: (u16, u16), link: u32) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(order.u32(magic));
        bytes.extend(order.u16(version.0));
        bytes.extend(order.u16(version.1));
        bytes.extend([0; 8]);
        bytes.extend(order.u32(262_144));
        bytes.extend(order.u32(link));
        Self { order, modified: magic == MODIFIED, bytes }
    }

    /// Starts an Ethernet capture in the most common form.
    pub(crate) fn ethernet() -> Self {
        Self::new(Order::Little, MICROSECONDS, (2, 4), 1)
    }

    pub(crate) fn packet(
        &mut self,
        seconds: u32,
        fraction: u32,
        wire_len: u32,
        bytes: &[u8],
    ) -> &mut Self {
        for number in [seconds, fraction, bytes.len() as u32, wire_len] {
            self.bytes.extend(self.order.u32(number));
        }
        if self.modified {
            self.bytes.extend([0; 8]);
        }
        self.bytes.extend(bytes);
        self
    }
}

/// Writes the pcapng format.
pub(crate) struct PcapNgWriter {
    pub order: Order,
    pub bytes: Vec<u8>,
}

impl PcapNgWriter {
    pub(crate) fn new(order: Order) -> Self {
        let mut writer = Self { order, bytes: Vec::new() };
        writer.section(order);
        writer
    }

    pub(crate) fn section(&mut self, order: Order) -> &mut Self {
        self.order = order;
        let mut body = order.u32(0x1a2b_3c4d).to_vec();
        body.extend(order.u16(1));
        body.extend(order.u16(0));
        body.extend(order.u64(u64::MAX));
        self.block(0x0a0d_0d0a, &body)
    }

    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let length = self.order.u32(padded as u32 + 12);
        self.bytes.extend(self.order.u32(kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(length);
        self
    }

    /// Adds an interface. The options are `if_tsresol` and `if_tsoffset`.
    pub(crate) fn interface(
        &mut self,
        link: u16,
        snap_len: u32,
        resolution: Option<u8>,
        offset: Option<i64>,
    ) -> &mut Self {
        let order = self.order;
        let mut body = order.u16(link).to_vec();
        body.extend([0; 2]);
        body.extend(order.u32(snap_len));
        if let Some(resolution) = resolution {
            body.extend(order.u16(9));
            body.extend(order.u16(1));
            body.extend([resolution, 0, 0, 0]);
        }
        if let Some(offset) = offset {
            body.extend(order.u16(14));
            body.extend(order.u16(8));
            body.extend(order.u64(offset as u64));
        }
        if resolution.is_some() || offset.is_some() {
            body.extend([0; 4]);
        }
        self.block(1, &body)
    }

    pub(crate) fn enhanced(
        &mut self,
        interface: u32,
        ticks: u64,
        wire_len: u32,
        bytes: &[u8],
    ) -> &mut Self {
        let body = self.packet_body(&self.order.u32(interface), ticks, wire_len, bytes);
        self.block(6, &body)
    }

    /// Adds an enhanced packet with a comment.
    pub(crate) fn commented(&mut self, interface: u32, ticks: u64, bytes: &[u8]) -> &mut Self {
        let interface = self.order.u32(interface);
        let mut body = self.packet_body(&interface, ticks, bytes.len() as u32, bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(self.order.u16(1));
        body.extend(self.order.u16(5));
        body.extend(b"hello\0\0\0\0\0\0\0");
        self.block(6, &body)
    }

    /// Adds an enhanced packet that states how many packets were dropped before it.
    pub(crate) fn behind_drops(&mut self, interface: u32, ticks: u64, lost: u64) -> &mut Self {
        let mut body = self.packet_body(&self.order.u32(interface), ticks, 4, &[1; 4]);
        body.extend(self.order.u16(4));
        body.extend(self.order.u16(8));
        body.extend(self.order.u64(lost));
        body.extend([0; 4]);
        self.block(6, &body)
    }

    /// Adds statistics of an interface: packets received, and dropped by the interface and by the
    /// system.
    pub(crate) fn statistics(&mut self, interface: u32, if_drop: u64, os_drop: u64) -> &mut Self {
        let mut body = self.order.u32(interface).to_vec();
        body.extend([0; 8]);
        for (code, count) in [(4, 12_345), (5, if_drop), (6, 99), (7, os_drop)] {
            body.extend(self.order.u16(code));
            body.extend(self.order.u16(8));
            body.extend(self.order.u64(count));
        }
        body.extend([0; 4]);
        self.block(5, &body)
    }

    pub(crate) fn obsolete(
        &mut self,
        interface: u16,
        ticks: u64,
        wire_len: u32,
        bytes: &[u8],
    ) -> &mut Self {
        let mut start = self.order.u16(interface).to_vec();
        start.extend([0; 2]);
        let body = self.packet_body(&start, ticks, wire_len, bytes);
        self.block(2, &body)
    }

    pub(crate) fn simple(&mut self, wire_len: u32, bytes: &[u8]) -> &mut Self {
        let mut body = self.order.u32(wire_len).to_vec();
        body.extend(bytes);
        self.block(3, &body)
    }

    fn packet_body(&self, start: &[u8], ticks: u64, wire_len: u32, bytes: &[u8]) -> Vec<u8> {
        let mut body = start.to_vec();
        body.extend(self.order.u32((ticks >> 32) as u32));
        body.extend(self.order.u32(ticks as u32));
        body.extend(self.order.u32(bytes.len() as u32));
        body.extend(self.order.u32(wire_len));
        body.extend(bytes);
        body
    }
}

/// Returns an Ethernet frame with a UDP packet over IPv4 from port 53 to `port`.
pub(crate) fn udp_frame(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend(udp_packet(port, payload));
    frame
}

/// Returns a UDP packet over IPv4 from port 53 to `port`.
pub(crate) fn udp_packet(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = 28 + payload.len() as u16;
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    packet.extend(53_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}
