//! Packet filters in libpcap's language.
//!
//! libpcap compiles the expression, and an interpreter here runs the program. The `pcap` crate
//! cannot run it on a truncated packet: it takes no length on the wire, which `len`, `less` and
//! `greater` test.

use pcap::{Capture, Dead};

use crate::decode::block::{Block, LinkType, Mark};
use crate::decode::link::{filter_view, network_layer};

/// A filter expression that libpcap refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter `{expression}`: {message}; see pcap-filter(7)")]
pub struct FilterError {
    /// The expression.
    pub expression: String,
    /// The message of libpcap.
    pub message: String,
}

/// A filter expression and its programs for the link types met so far.
pub struct Filter {
    expression: String,
    programs: Vec<(LinkType, Program)>,
    scratch: Vec<u8>,
    passed: bool,
    hidden: Hidden,
}

/// Dropped packets with a header that a filter looks behind only when told to. Counting stops at
/// the first packet that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Packets with a VLAN tag.
    pub vlan: u64,
    /// Packets with an MPLS label.
    pub mpls: u64,
    /// Packets of PPPoE sessions.
    pub pppoe: u64,
}

impl Hidden {
    fn add(&mut self, link: LinkType, packet: &[u8]) {
        match network_layer(link, packet) {
            Some((0x8100 | 0x88a8 | 0x9100, _)) => self.vlan += 1,
            Some((0x8847 | 0x8848, _)) => self.mpls += 1,
            Some((0x8864, _)) => self.pppoe += 1,
            _ => {}
        }
    }
}

impl Filter {
    /// Creates a filter for `expression`. It is compiled for each link type when the first packet
    /// has it.
    pub fn new(expression: &str) -> Self {
        Self {
            expression: expression.to_owned(),
            programs: Vec::new(),
            scratch: Vec::new(),
            passed: false,
            hidden: Hidden::default(),
        }
    }

    /// Returns the headers that may have hidden packets from the filter, counted up to the first
    /// match.
    pub fn hidden(&self) -> Hidden {
        self.hidden
    }

    /// Compiles the expression for `link` unless that is done. Link types without filters in
    /// libpcap, or whose filters do not find IP (Frame Relay), use the filter of the packets they
    /// carry.
    pub fn prepare(&mut self, link: LinkType) -> Result<(), FilterError> {
        let link = match link {
            LinkType::Nflog | LinkType::FrameRelay => LinkType::RawIp,
            LinkType::Pktap => LinkType::Ethernet,
            link => link,
        };
        if self.programs.iter().any(|(known, _)| *known == link) {
            return Ok(());
        }
        let program = Program::compile(&self.expression, link)
            .map_err(|message| FilterError { expression: self.expression.clone(), message })?;
        self.programs.push((link, program));
        Ok(())
    }

    /// Drops the packets of `block` that do not match. Returns how many it dropped.
    pub fn apply(&mut self, block: &mut Block) -> Result<u64, FilterError> {
        let before = block.packets.len();
        let mut failure = None;
        let mut packets = std::mem::take(&mut block.packets);
        let mut marks = std::mem::take(&mut block.marks).into_iter().peekable();
        let mut kept_marks = Vec::new();
        let (mut place, mut kept, mut back) = (0, 0, false);
        packets.retain(|record| {
            let mut outlier = false;
            while let Some((_, mark)) = marks.next_if(|(at, _)| *at == place) {
                match mark {
                    Mark::Back => back = true,
                    Mark::Outlier => outlier = true,
                }
            }
            place += 1;
            if failure.is_some() {
                return false;
            }
            let packet = block.packet(record);
            let matches = match self.matches(record.link, packet, record.wire_len) {
                Ok(matches) => matches,
                Err(error) => {
                    failure = Some(error);
                    return false;
                }
            };
            if !matches {
                if !self.passed {
                    self.hidden.add(record.link, packet);
                }
                return false;
            }
            self.passed = true;
            if std::mem::take(&mut back) {
                kept_marks.push((kept, Mark::Back));
            }
            if outlier {
                kept_marks.push((kept, Mark::Outlier));
            }
            kept += 1;
            true
        });
        if back {
            kept_marks.push((kept, Mark::Back));
        }
        block.packets = packets;
        block.marks = kept_marks;
        match failure {
            Some(error) => Err(error),
            None => Ok((before - block.packets.len()) as u64),
        }
    }

    #[inline]
    fn matches(
        &mut self,
        link: LinkType,
        packet: &[u8],
        wire_len: u32,
    ) -> Result<bool, FilterError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let matches = match filter_view(link, packet, &mut scratch) {
            None => Ok(false),
            Some((link, packet, offset)) => self.run(link, packet, wire_len.saturating_sub(offset)),
        };
        self.scratch = scratch;
        matches
    }

    fn run(&mut self, link: LinkType, packet: &[u8], wire_len: u32) -> Result<bool, FilterError> {
        if !self.programs.iter().any(|(known, _)| *known == link) {
            self.prepare(link)?;
        }
        let program = self.programs.iter().find(|(known, _)| *known == link);
        Ok(program.is_some_and(|(_, program)| program.accepts(packet, wire_len)))
    }
}

/// One instruction of the BSD packet filter machine.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// A program of the BSD packet filter machine.
#[derive(Debug)]
struct Program(Vec<Instruction>);

impl Program {
    fn compile(expression: &str, link: LinkType) -> Result<Self, String> {
        let capture: Capture<Dead> =
            Capture::dead(link.dlt()).map_err(|error| error.to_string())?;
        let compiled = capture.compile(expression, true).map_err(|error| match error {
            pcap::Error::PcapError(message) => message,
            other => other.to_string(),
        })?;
        compiled
            .get_instructions()
            .iter()
            .map(|instruction| Instruction::from_listing(&instruction.to_string()))
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| "libpcap's program has an unknown form".to_owned())
    }

    /// Runs the program on `packet`, which had `wire_len` bytes on the wire.
    ///
    /// The machine is that of McCanne and Jacobson, "The BSD Packet Filter" (1993), with libpcap's
    /// additions (modulus, exclusive or, backward jumps). As there, a packet that is too short for
    /// a load is rejected.
    fn accepts(&self, packet: &[u8], wire_len: u32) -> bool {
        let mut machine = Machine { packet, wire_len, a: 0, x: 0, memory: [0; 16] };
        let mut next = 0_usize;
        while let Some(instruction) = self.0.get(next) {
            next += 1;
            match machine.step(*instruction) {
                Some(Step::Next) => {}
                Some(Step::Jump(distance)) => next = next.wrapping_add_signed(distance as isize),
                Some(Step::Return(accepted)) => return accepted != 0,
                None => return false,
            }
        }
        false
    }
}

impl Instruction {
    /// Parses the four numbers in the `pcap` crate's text form of an instruction.
    fn from_listing(listing: &str) -> Option<Self> {
        let mut numbers = listing.split_ascii_whitespace();
        Some(Self {
            code: numbers.next()?.parse().ok()?,
            jump_true: numbers.next()?.parse().ok()?,
            jump_false: numbers.next()?.parse().ok()?,
            k: numbers.next()?.parse().ok()?,
        })
    }
}

enum Step {
    Next,
    Jump(i32),
    Return(u32),
}

struct Machine<'a> {
    packet: &'a [u8],
    wire_len: u32,
    a: u32,
    x: u32,
    memory: [u32; 16],
}

impl Machine<'_> {
    /// Executes one instruction; `None` rejects the packet.
    ///
    /// Bits 0–2 of the code are the class. Loads have the size in bits 3–4 and the mode in bits
    /// 5–7. Arithmetic and jumps have the operand in bit 3 and the operation in bits 4–7.
    #[inline]
    fn step(&mut self, instruction: Instruction) -> Option<Step> {
        let Instruction { code, jump_true, jump_false, k } = instruction;
        let operand = if code & 0x08 == 0 { k } else { self.x };
        match code & 0x07 {
            0x00 => self.a = self.load(code, k)?,
            0x01 => {
                self.x = match code & 0xe0 {
                    0xa0 => u32::from(self.bytes::<1>(k)?[0] & 0x0f) * 4,
                    _ => self.load(code, k)?,
                }
            }
            0x02 => self.memory[k as usize & 0x0f] = self.a,
            0x03 => self.memory[k as usize & 0x0f] = self.x,
            0x04 => self.a = arithmetic(code & 0xf0, self.a, operand)?,
            0x05 => {
                let holds = match code & 0xf0 {
                    0x00 => return Some(Step::Jump(k as i32)),
                    0x10 => self.a == operand,
                    0x20 => self.a > operand,
                    0x30 => self.a >= operand,
                    0x40 => self.a & operand != 0,
                    _ => return None,
                };
                let distance = if holds { jump_true } else { jump_false };
                return Some(Step::Jump(i32::from(distance)));
            }
            0x06 => return Some(Step::Return(if code & 0x18 == 0x10 { self.a } else { k })),
            _ if code & 0x80 == 0 => self.x = self.a,
            _ => self.a = self.x,
        }
        Some(Step::Next)
    }

    fn load(&self, code: u16, k: u32) -> Option<u32> {
        let at = match code & 0xe0 {
            0x00 => return Some(k),
            0x20 => k,
            0x40 => k.checked_add(self.x)?,
            0x60 => return Some(self.memory[k as usize & 0x0f]),
            0x80 => return Some(self.wire_len),
            _ => return None,
        };
        match code & 0x18 {
            0x00 => self.bytes(at).map(u32::from_be_bytes),
            0x08 => self.bytes(at).map(|half| u32::from(u16::from_be_bytes(half))),
            _ => self.bytes::<1>(at).map(|[byte]| u32::from(byte)),
        }
    }

    fn bytes<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.packet.get(at as usize..)?.first_chunk().copied()
    }
}

fn arithmetic(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.checked_shl(operand).unwrap_or(0),
        0x70 => a.checked_shr(operand).unwrap_or(0),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(operand)?,
        0xa0 => a ^ operand,
        _ => return None,
    })
}
