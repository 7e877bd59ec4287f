//! The newer capture format: sections of blocks, with interfaces that each have a link type and a
//! clock of their own.
//!
//! Format: draft-ietf-opsawg-pcapng. What a block holds is read by `pcap-parser`, but for the
//! obsolete packet block, which it does not know.

use pcap_parser::pcapng::{
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock, parse_simplepacketblock_be,
    parse_simplepacketblock_le,
};

use super::error::Problem;
use super::interface::Interface;
use super::stream::{MAX_BUFFER, MAX_CAPTURED, Parsed};
use crate::capture::PacketRecord;
use crate::capture::link::UnsupportedLink;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Offset of the packet in an enhanced and in an obsolete packet block.
const PACKET_OFFSET: usize = 28;
/// Offset of the packet in a simple packet block.
const SIMPLE_PACKET_OFFSET: usize = 12;
/// Interfaces of a section; as many as an obsolete packet block can name.
const MAX_INTERFACES: usize = 65_536;

/// Reads blocks.
#[derive(Default)]
pub(super) struct PcapNgParser {
    has_section: bool,
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Octets left of a block that holds nothing of interest.
    skip: u64,
    packets: u64,
    last_time: i64,
}

impl PcapNgParser {
    /// Whether `start`, the first octets of a file, are those of this format.
    pub(super) fn recognizes(start: &[u8]) -> bool {
        start.first_chunk() == Some(&SECTION_HEADER.to_le_bytes())
    }

    /// Packets read so far.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Whether there was a section header.
    pub(super) fn has_section(&self) -> bool {
        self.has_section
    }

    /// Whether the next octet belongs to a block that has begun.
    pub(super) fn is_inside_block(&self) -> bool {
        self.skip > 0
    }

    /// Reads the blocks that `data`, which starts at byte `base` of the capture, holds in full.
    pub(super) fn parse(
        &mut self,
        data: &[u8],
        base: u64,
        packets: &mut Vec<PacketRecord>,
    ) -> Parsed {
        let mut consumed = 0;
        loop {
            let skipped = self.skip.min((data.len() - consumed) as u64);
            self.skip -= skipped;
            consumed += skipped as usize;
            match self.block(&data[consumed..], consumed, packets) {
                Ok(Block::Read(octets)) => consumed += octets,
                Ok(Block::Skip(octets)) => self.skip = octets,
                Ok(Block::Short(need)) => return Parsed { consumed, need, problem: None },
                Err(fault) => {
                    let packet = self.packets + 1;
                    let problem = match fault {
                        Fault::LinkType(link) => Problem::LinkType { packet, link },
                        Fault::Corrupt(what) => {
                            Problem::Corrupt { byte: base + consumed as u64, packet, what }
                        }
                    };
                    return Parsed { consumed, need: 0, problem: Some(problem) };
                }
            }
        }
    }

    /// Reads the block at the start of `rest`, which is at `offset` of the data.
    fn block(
        &mut self,
        rest: &[u8],
        offset: usize,
        packets: &mut Vec<PacketRecord>,
    ) -> Result<Block, Fault> {
        // The shortest block has its type, its length, and its length again.
        let Some(start) = rest.first_chunk::<12>() else {
            return Ok(Block::Short(12));
        };
        if start[..4] == SECTION_HEADER.to_le_bytes() {
            self.big_endian = match start[8..] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(corrupt("a section header without a byte-order magic")),
            };
        }
        let kind = self.u32_at(rest, 0);
        let length = self.u32_at(rest, 4);
        if length < 12 || !length.is_multiple_of(4) {
            return Err(Fault::Corrupt(format!(
                "a block of type {kind:#x} claims a length of {length} octets"
            )));
        }
        if !matches!(
            kind,
            SECTION_HEADER
                | INTERFACE_DESCRIPTION
                | OBSOLETE_PACKET
                | SIMPLE_PACKET
                | ENHANCED_PACKET
        ) {
            return Ok(Block::Skip(u64::from(length)));
        }
        let length = length as usize;
        if length > MAX_BUFFER {
            return Err(Fault::Corrupt(format!(
                "a block of type {kind:#x} claims a length of {length} octets, and {MAX_BUFFER} \
                 are the most"
            )));
        }
        let Some(block) = rest.get(..length) else {
            return Ok(Block::Short(length));
        };
        match kind {
            SECTION_HEADER => self.section_header(block)?,
            INTERFACE_DESCRIPTION => self.interface_description(block)?,
            _ => {
                let packet = match kind {
                    ENHANCED_PACKET => self.enhanced_packet(block)?,
                    SIMPLE_PACKET => self.simple_packet(block)?,
                    _ => self.obsolete_packet(block)?,
                };
                packets.push(PacketRecord { offset: packet.offset + offset as u32, ..packet });
                self.packets += 1;
            }
        }
        Ok(Block::Read(length))
    }

    fn section_header(&mut self, block: &[u8]) -> Result<(), Fault> {
        let (_, header) = parse_sectionheaderblock(block)
            .map_err(|_| corrupt("a section header that does not hold together"))?;
        if header.major_version != 1 {
            return Err(Fault::Corrupt(format!(
                "pcapng version {}.{}, and 1.x is read",
                header.major_version, header.minor_version
            )));
        }
        self.has_section = true;
        self.interfaces.clear();
        Ok(())
    }

    fn interface_description(&mut self, block: &[u8]) -> Result<(), Fault> {
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let (_, description) = parse(block)
            .map_err(|_| corrupt("an interface description that does not hold together"))?;
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Fault::Corrupt(format!("more than {MAX_INTERFACES} interfaces")));
        }
        self.interfaces
            .push(Interface::new(&description, self.big_endian).map_err(Fault::Corrupt)?);
        Ok(())
    }

    fn enhanced_packet(&mut self, block: &[u8]) -> Result<PacketRecord, Fault> {
        let parse = if self.big_endian {
            parse_enhancedpacketblock_be
        } else {
            parse_enhancedpacketblock_le
        };
        let (_, packet) =
            parse(block).map_err(|_| corrupt("an enhanced packet that does not hold together"))?;
        let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
        self.packet(packet.if_id, ticks, packet.caplen, packet.origlen)
    }

    fn obsolete_packet(&mut self, block: &[u8]) -> Result<PacketRecord, Fault> {
        let captured = if block.len() < PACKET_OFFSET + 4 { 0 } else { self.u32_at(block, 20) };
        if block.len() < PACKET_OFFSET + 4 || captured as usize > block.len() - PACKET_OFFSET - 4 {
            return Err(corrupt("an obsolete packet block that does not hold together"));
        }
        let interface = [block[8], block[9]];
        let interface = if self.big_endian {
            u16::from_be_bytes(interface)
        } else {
            u16::from_le_bytes(interface)
        };
        let ticks = u64::from(self.u32_at(block, 12)) << 32 | u64::from(self.u32_at(block, 16));
        self.packet(u32::from(interface), ticks, captured, self.u32_at(block, 24))
    }

    /// A simple packet belongs to the first interface. It has no time of its own and takes that
    /// of the packet before it.
    fn simple_packet(&mut self, block: &[u8]) -> Result<PacketRecord, Fault> {
        let parse =
            if self.big_endian { parse_simplepacketblock_be } else { parse_simplepacketblock_le };
        let (_, packet) =
            parse(block).map_err(|_| corrupt("a simple packet that does not hold together"))?;
        let interface = self.interface(0)?;
        let captured = packet.origlen.min(packet.data.len() as u32).min(interface.snap_len);
        if captured > MAX_CAPTURED {
            return Err(too_long(captured));
        }
        Ok(PacketRecord {
            time: self.last_time,
            offset: SIMPLE_PACKET_OFFSET as u32,
            captured,
            wire_len: packet.origlen,
            link: interface.link.map_err(Fault::LinkType)?,
        })
    }

    fn packet(
        &mut self,
        interface: u32,
        ticks: u64,
        captured: u32,
        original: u32,
    ) -> Result<PacketRecord, Fault> {
        let interface = self.interface(interface)?;
        if captured > MAX_CAPTURED {
            return Err(too_long(captured));
        }
        let link = interface.link.map_err(Fault::LinkType)?;
        let time = interface.nanoseconds(ticks);
        self.last_time = time;
        Ok(PacketRecord {
            time,
            offset: PACKET_OFFSET as u32,
            captured,
            wire_len: original.max(captured),
            link,
        })
    }

    fn interface(&self, number: u32) -> Result<&Interface, Fault> {
        self.interfaces.get(number as usize).ok_or_else(|| {
            Fault::Corrupt(format!(
                "a packet of interface {number}, and the section describes {}",
                self.interfaces.len()
            ))
        })
    }

    fn u32_at(&self, block: &[u8], at: usize) -> u32 {
        let octets = [block[at], block[at + 1], block[at + 2], block[at + 3]];
        if self.big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
    }
}

/// What became of a block.
enum Block {
    /// It was read and has so many octets.
    Read(usize),
    /// It holds nothing of interest and has so many octets.
    Skip(u64),
    /// It needs so many octets, and there are fewer.
    Short(usize),
}

/// What is wrong with a block.
enum Fault {
    Corrupt(String),
    LinkType(UnsupportedLink),
}

fn corrupt(what: &str) -> Fault {
    Fault::Corrupt(what.to_owned())
}

fn too_long(captured: u32) -> Fault {
    Fault::Corrupt(format!(
        "its block claims {captured} captured octets, and {MAX_CAPTURED} are the most"
    ))
}
