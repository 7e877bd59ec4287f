//! The pcapng format: sections of blocks, with interfaces that each have a link type and a clock.
//!
//! Format: draft-ietf-opsawg-pcapng. `pcap-parser` reads the contents of most blocks. Interface
//! statistics and the obsolete packet block, which it does not know, are read here.

use pcap_parser::pcapng::{
    OptionCode, PcapNGOption, parse_enhancedpacketblock_be, parse_enhancedpacketblock_le,
    parse_interfacedescriptionblock_be, parse_interfacedescriptionblock_le,
    parse_sectionheaderblock, parse_simplepacketblock_be, parse_simplepacketblock_le,
};

use super::error::Problem;
use super::findings::Findings;
use super::interface::{Drops, Interface};
use super::stream::{MAX_BUFFER, MAX_CAPTURED, Parsed, Stop};
use crate::decode::block::{Block, PacketRecord};
use crate::decode::link::UnsupportedLink;
use crate::time::Timestamp;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Options: `isb_ifdrop` and `isb_osdrop` of interface statistics, `epb_dropcount` of an enhanced
/// packet.
const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;
const EPB_DROPCOUNT: OptionCode = OptionCode(4);

/// Offset of the packet in an enhanced and in an obsolete packet block.
const PACKET_OFFSET: usize = 28;
/// Offset of the packet in a simple packet block.
const SIMPLE_PACKET_OFFSET: usize = 12;
/// Maximum number of interfaces in a section: as many as an obsolete packet block can name.
const MAX_INTERFACES: usize = 65_536;

/// Parses blocks.
#[derive(Default)]
pub(super) struct PcapNgParser {
    has_section: bool,
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Remaining bytes of a block that is skipped.
    skip: u64,
    packets: u64,
    last_time: Timestamp,
    pub(super) findings: Findings,
}

impl PcapNgParser {
    /// Returns true if `start`, the first bytes of a file, begins a section of this format.
    pub(super) fn recognizes(start: &[u8]) -> bool {
        start.first_chunk() == Some(&SECTION_HEADER.to_le_bytes())
    }

    /// Returns the number of packets read so far.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns true if there was a section header.
    pub(super) fn has_section(&self) -> bool {
        self.has_section
    }

    /// Returns true if the next byte belongs to a skipped block.
    pub(super) fn is_inside_block(&self) -> bool {
        self.skip > 0
    }

    /// Returns the drops that interfaces have reported so far.
    pub(super) fn drops(&self) -> Drops {
        let mut drops = self.findings.drops;
        self.interfaces.iter().for_each(|interface| drops.add(interface.drops()));
        drops
    }

    /// Parses the complete blocks in the data of `out`, which starts at byte `base` of the capture.
    pub(super) fn parse(&mut self, out: &mut Block, base: u64) -> Parsed {
        // Take the data out, because parsing borrows it while it adds packets to `out`.
        let data = std::mem::take(&mut out.data);
        let parsed = self.blocks(&data, base, out);
        out.data = data;
        parsed
    }

    fn blocks(&mut self, data: &[u8], base: u64, out: &mut Block) -> Parsed {
        let mut consumed = 0;
        loop {
            let skipped = self.skip.min((data.len() - consumed) as u64);
            self.skip -= skipped;
            consumed += skipped as usize;
            let stop = match self.block(&data[consumed..], consumed, out) {
                Ok(BlockRead::Whole(bytes)) => {
                    consumed += bytes;
                    continue;
                }
                Ok(BlockRead::Skip(bytes)) => {
                    self.skip = bytes;
                    continue;
                }
                Ok(BlockRead::Short(need)) => return Parsed { consumed, need, stop: None },
                Ok(BlockRead::Zeros) => Stop::Zeros,
                Err(what) => {
                    let byte = base + consumed as u64;
                    Stop::Problem(Problem::Corrupt { byte, packet: self.packets + 1, what })
                }
            };
            return Parsed { consumed, need: 0, stop: Some(stop) };
        }
    }

    /// Parses the block at the start of `rest`, which is at `offset` of the data.
    fn block(&mut self, rest: &[u8], offset: usize, out: &mut Block) -> Result<BlockRead, String> {
        // The shortest block has a type, a length, and the length again.
        let Some(start) = rest.first_chunk::<12>() else {
            return Ok(BlockRead::Short(12));
        };
        if start == &[0; 12] {
            return Ok(BlockRead::Zeros);
        }
        if start[..4] == SECTION_HEADER.to_le_bytes() {
            self.big_endian = match start[8..] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(corrupt("section header without a byte-order magic")),
            };
        }
        let kind = self.u32_at(rest, 0);
        let length = self.u32_at(rest, 4);
        if length < 12 || !length.is_multiple_of(4) {
            return Err(format!(
                "a block of type {kind:#x} claims an invalid length of {length} bytes"
            ));
        }
        if !matches!(
            kind,
            SECTION_HEADER
                | INTERFACE_DESCRIPTION
                | OBSOLETE_PACKET
                | SIMPLE_PACKET
                | INTERFACE_STATISTICS
                | ENHANCED_PACKET
        ) {
            return Ok(BlockRead::Skip(u64::from(length)));
        }
        let length = length as usize;
        if length > MAX_BUFFER && kind == INTERFACE_STATISTICS {
            return Ok(BlockRead::Skip(length as u64));
        }
        if length > MAX_BUFFER {
            return Err(format!(
                "a block of type {kind:#x} claims a length of {length} bytes; the maximum is \
                 {MAX_BUFFER}"
            ));
        }
        let Some(block) = rest.get(..length) else {
            return Ok(BlockRead::Short(length));
        };
        match kind {
            SECTION_HEADER => {
                self.section_header(block)?;
                out.start_section();
            }
            INTERFACE_DESCRIPTION => self.interface_description(block)?,
            INTERFACE_STATISTICS => self.interface_statistics(block),
            _ => {
                let packet = match kind {
                    ENHANCED_PACKET => self.enhanced_packet(block)?,
                    SIMPLE_PACKET => self.simple_packet(block)?,
                    _ => self.obsolete_packet(block)?,
                };
                self.packets += 1;
                match packet {
                    Ok(packet) => out
                        .packets
                        .push(PacketRecord { offset: packet.offset + offset as u32, ..packet }),
                    Err(link) => {
                        out.skip_unread(1);
                        self.findings.unread(link, self.packets, 1);
                    }
                }
            }
        }
        Ok(BlockRead::Whole(length))
    }

    fn section_header(&mut self, block: &[u8]) -> Result<(), String> {
        let (_, header) =
            parse_sectionheaderblock(block).map_err(|_| corrupt("invalid section header"))?;
        if header.major_version != 1 {
            return Err(format!(
                "unsupported pcapng version {}.{}; supported are versions 1.x",
                header.major_version, header.minor_version
            ));
        }
        self.has_section = true;
        self.findings.drops = self.drops();
        self.interfaces.clear();
        Ok(())
    }

    fn interface_description(&mut self, block: &[u8]) -> Result<(), String> {
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let (_, description) =
            parse(block).map_err(|_| corrupt("invalid interface description"))?;
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces"));
        }
        self.interfaces.push(Interface::new(&description, self.big_endian)?);
        Ok(())
    }

    /// Reads the statistics of an interface. They count from the start of the capture, so later
    /// ones replace earlier ones. Malformed options are ignored.
    fn interface_statistics(&mut self, block: &[u8]) {
        const OPTIONS: usize = 20;
        if block.len() < OPTIONS + 4 {
            return;
        }
        let interface = self.u32_at(block, 8) as usize;
        let mut options = &block[OPTIONS..block.len() - 4];
        while let Some(&[a, b, c, d]) = options.first_chunk::<4>() {
            let (code, length) = (self.u16_of([a, b]), usize::from(self.u16_of([c, d])));
            let Some(value) = options.get(4..4 + length) else { return };
            if let (Some(interface), Some(count)) =
                (self.interfaces.get_mut(interface), value.first_chunk::<8>())
            {
                let count = count_of(*count, self.big_endian);
                match code {
                    ISB_IFDROP => interface.if_dropped = count,
                    ISB_OSDROP => interface.os_dropped = count,
                    _ => {}
                }
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn enhanced_packet(&mut self, block: &[u8]) -> Result<Packet, String> {
        let parse = if self.big_endian {
            parse_enhancedpacketblock_be
        } else {
            parse_enhancedpacketblock_le
        };
        let (_, packet) = parse(block).map_err(|_| corrupt("invalid enhanced packet block"))?;
        let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
        if !packet.options.is_empty() {
            self.lost_before(packet.if_id, &packet.options);
        }
        self.packet(packet.if_id, ticks, packet.caplen, packet.origlen)
    }

    /// Adds the packets that were lost before this one, according to its options.
    fn lost_before(&mut self, interface: u32, options: &[PcapNGOption<'_>]) {
        let count = options
            .iter()
            .find(|option| option.code == EPB_DROPCOUNT)
            .and_then(|option| option.value.first_chunk::<8>());
        let interface = self.interfaces.get_mut(interface as usize);
        if let (Some(interface), Some(count)) = (interface, count) {
            let count = count_of(*count, self.big_endian);
            interface.lost_before = interface.lost_before.saturating_add(count);
        }
    }

    fn obsolete_packet(&mut self, block: &[u8]) -> Result<Packet, String> {
        let captured = if block.len() < PACKET_OFFSET + 4 { 0 } else { self.u32_at(block, 20) };
        if block.len() < PACKET_OFFSET + 4 || captured as usize > block.len() - PACKET_OFFSET - 4 {
            return Err(corrupt("invalid obsolete packet block"));
        }
        let interface = self.u16_of([block[8], block[9]]);
        let ticks = u64::from(self.u32_at(block, 12)) << 32 | u64::from(self.u32_at(block, 16));
        self.packet(u32::from(interface), ticks, captured, self.u32_at(block, 24))
    }

    /// Parses a simple packet. It belongs to the first interface, has no time of its own, and gets
    /// the time of the packet before it.
    fn simple_packet(&mut self, block: &[u8]) -> Result<Packet, String> {
        let parse =
            if self.big_endian { parse_simplepacketblock_be } else { parse_simplepacketblock_le };
        let (_, packet) = parse(block).map_err(|_| corrupt("invalid simple packet block"))?;
        let interface = self.interface(0)?;
        let captured = packet.origlen.min(packet.data.len() as u32).min(interface.snap_len);
        if captured > MAX_CAPTURED {
            return Err(too_long(captured));
        }
        Ok(interface.link.map(|link| PacketRecord {
            time: self.last_time,
            offset: SIMPLE_PACKET_OFFSET as u32,
            captured,
            wire_len: packet.origlen,
            link,
        }))
    }

    fn packet(
        &mut self,
        interface: u32,
        ticks: u64,
        captured: u32,
        original: u32,
    ) -> Result<Packet, String> {
        let interface = self.interface(interface)?;
        if captured > MAX_CAPTURED {
            return Err(too_long(captured));
        }
        let link = interface.link;
        let (time, fits) = interface.time(ticks);
        self.last_time = time;
        if !fits {
            self.findings.unfit_time(self.packets + 1);
        }
        Ok(link.map(|link| PacketRecord {
            time,
            offset: PACKET_OFFSET as u32,
            captured,
            wire_len: original.max(captured),
            link,
        }))
    }

    fn interface(&self, number: u32) -> Result<&Interface, String> {
        self.interfaces.get(number as usize).ok_or_else(|| {
            format!(
                "a packet of interface {number}, but the number of interfaces in the section is {}",
                self.interfaces.len()
            )
        })
    }

    fn u32_at(&self, block: &[u8], at: usize) -> u32 {
        let bytes = [block[at], block[at + 1], block[at + 2], block[at + 3]];
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn u16_of(&self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

/// A packet, or its unsupported link type.
type Packet = Result<PacketRecord, UnsupportedLink>;

/// Result of reading a block.
enum BlockRead {
    /// The block was read; its length in bytes.
    Whole(usize),
    /// The block is to be skipped; its length in bytes.
    Skip(u64),
    /// The block is incomplete; the bytes it needs.
    Short(usize),
    /// The block starts with zeros.
    Zeros,
}

fn count_of(bytes: [u8; 8], big_endian: bool) -> u64 {
    if big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
}

fn corrupt(what: &str) -> String {
    what.to_owned()
}

fn too_long(captured: u32) -> String {
    format!("the block claims {captured} captured bytes; the maximum is {MAX_CAPTURED}")
}
