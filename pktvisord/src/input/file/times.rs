//! Which times of a capture are believed.
//!
//! A step of more than an hour is an outlier if one of the next 16 packets of the section returns
//! to within an hour of the time before it. Such a packet keeps its place in the file and gets the
//! time of the packet before it. Every other step is believed, since captures can be sparse.

use std::collections::VecDeque;

use crate::decode::block::{Block, Mark, PacketRecord};
use crate::time::{SECOND, utc};

/// Largest step that is believed without looking ahead.
const STEP: i64 = 3_600 * SECOND;
/// How far packets come out of order without packet time going back.
const DISORDER: i64 = 5 * SECOND;
/// How far off the last packet of a section is believed: a year.
const FAR: i64 = 31_557_600 * SECOND;
/// Packets that are looked at behind a step.
const AHEAD: usize = 16;

/// An outlier, as a warning names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlier {
    packet: u64,
    time: i64,
}

/// Checks times, block after block.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The latest time that was believed since packet time last went back; `None` at the start of a
    /// section.
    latest: Option<i64>,
    /// At the start of a section, the latest time of the section before.
    section_before: Option<i64>,
    /// Packets before the present block, of all link types.
    before: u64,
    /// Whether any packet had a time.
    timed: bool,
    outliers: u64,
    first: Option<Outlier>,
}

/// Where checking stops for want of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// The capture has no more packets than those that are known.
    pub(super) ended: bool,
    /// The first packet of a section is not kept back until others come.
    pub(super) prompt: bool,
}

impl Times {
    /// Whether there are packets, and none of them had a time.
    pub(super) fn are_missing(&self) -> bool {
        !self.timed && self.before > 0
    }

    /// Says what was wrong with times, for a warning.
    pub(super) fn warning(&self) -> Option<String> {
        let Outlier { packet, time } = self.first?;
        let time = utc(time);
        let what = match self.outliers {
            1 => format!("the time of packet {packet}, {time}, is"),
            n => format!("the times of {n} packets, the first packet {packet} with {time}, are"),
        };
        Some(format!(
            "{what} more than an hour off the packets around: counted where it stands, with the \
             time of the packet before"
        ))
    }

    /// Goes on behind `block`, whose packets are all checked.
    pub(super) fn end_block(&mut self, block: &Block) {
        let packets = block.packets.len();
        self.before += number(block, packets) - 1;
        if starts_section(block, packets) {
            self.start_section();
        }
    }

    fn start_section(&mut self) {
        self.section_before = self.latest.take().or(self.section_before);
    }

    /// Checks the packets of `block` from `from` on; `ahead` are the blocks behind it. Returns the
    /// packet that cannot be judged before more packets are known.
    pub(super) fn check(
        &mut self,
        block: &mut Block,
        from: usize,
        ahead: &VecDeque<Block>,
        patience: Patience,
    ) -> Option<usize> {
        if !self.timed {
            self.timed = block.packets.iter().any(|packet| packet.time != 0);
        }
        let mut at = from;
        while at < block.packets.len() {
            if starts_section(block, at) {
                self.start_section();
            }
            let (end, _) = section_end(block, at);
            if let Some(latest) = &mut self.latest {
                at += in_order(&block.packets[at..end], latest);
                if at == end {
                    continue;
                }
            }
            let time = block.packets[at].time;
            let following = Following::of(block, at, ahead.iter());
            let verdict = match self.latest {
                Some(latest) => following.judge(time, latest, patience.ended),
                None => following.judge_first(time, patience.ended || patience.prompt),
            };
            if verdict == Verdict::Unknown {
                return Some(at);
            }
            if let Some(before) = self.section_before.take() {
                let time = if let Verdict::Outlier(instead) = verdict { instead } else { time };
                if time < before.saturating_sub(DISORDER) {
                    block.marks.push((at as u32, Mark::Back));
                }
            }
            match verdict {
                Verdict::Unknown | Verdict::Late => {}
                Verdict::Believed => self.latest = Some(time),
                Verdict::Back => {
                    self.latest = Some(time);
                    block.marks.push((at as u32, Mark::Back));
                }
                Verdict::Outlier(instead) => {
                    self.latest.get_or_insert(instead);
                    self.outliers += 1;
                    if self.first.is_none() {
                        let packet = self.before + number(block, at);
                        self.first = Some(Outlier { packet, time });
                    }
                    block.packets[at].time = instead;
                    block.marks.push((at as u32, Mark::Outlier));
                }
            }
            at += 1;
        }
        None
    }
}

/// How many packets from the first on need no second look. `latest` becomes the latest of them.
#[inline]
fn in_order(packets: &[PacketRecord], latest: &mut i64) -> usize {
    let mut last = *latest;
    let mut fine = packets.len();
    for (at, packet) in packets.iter().enumerate() {
        if !(-DISORDER..=STEP).contains(&packet.time.wrapping_sub(last)) {
            fine = at;
            break;
        }
        last = last.max(packet.time);
    }
    *latest = last;
    fine
}

fn starts_section(block: &Block, at: usize) -> bool {
    block.sections.binary_search(&(at as u32)).is_ok()
}

/// The end of the section that the packet at a place belongs to, within its block, and whether
/// another one starts there.
fn section_end(block: &Block, at: usize) -> (usize, bool) {
    let next = block.sections.partition_point(|&place| place as usize <= at);
    match block.sections.get(next) {
        Some(&place) => (place as usize, true),
        None => (block.packets.len(), false),
    }
}

/// The number of the packet at a place, counted from 1 in its block and over all link types.
fn number(block: &Block, at: usize) -> u64 {
    let unread = block.unread.iter().take_while(|(place, _)| *place as usize <= at);
    at as u64 + 1 + unread.map(|&(_, count)| u64::from(count)).sum::<u64>()
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its time is believed.
    Believed,
    /// It comes out of order.
    Late,
    /// Packet time goes back to it.
    Back,
    /// It gets this time instead of its own.
    Outlier(i64),
    /// More packets have to be known.
    Unknown,
}

/// The packets of its section behind a packet.
struct Following {
    times: [i64; AHEAD],
    known: usize,
    /// Whether there may be more of them.
    open: bool,
}

impl Following {
    fn of<'a>(block: &Block, at: usize, ahead: impl Iterator<Item = &'a Block>) -> Self {
        let mut following = Self { times: [0; AHEAD], known: 0, open: true };
        let (end, closed) = section_end(block, at);
        following.take(&block.packets[at + 1..end], closed);
        for block in ahead {
            if !following.open {
                break;
            }
            let (end, closed) =
                if starts_section(block, 0) { (0, true) } else { section_end(block, 0) };
            following.take(&block.packets[..end], closed);
        }
        following
    }

    fn take(&mut self, packets: &[PacketRecord], closed: bool) {
        let room = packets.iter().zip(&mut self.times[self.known..]);
        self.known += room.map(|(packet, time)| *time = packet.time).count();
        self.open = !closed && self.known < AHEAD;
    }

    fn times(&self) -> &[i64] {
        &self.times[..self.known]
    }

    /// Judges a packet whose time is a step behind or before `latest`.
    fn judge(&self, time: i64, latest: i64, ended: bool) -> Verdict {
        let near = distance(time, latest) <= STEP as u64;
        let taken_back = if near {
            self.times().iter().any(|&next| next >= latest.saturating_sub(DISORDER))
        } else {
            self.times().iter().any(|&next| distance(next, latest) <= STEP as u64)
        };
        match (near, taken_back) {
            (true, true) => Verdict::Late,
            (false, true) => Verdict::Outlier(latest),
            (_, false) if self.open && !ended => Verdict::Unknown,
            (false, false) if self.known == 0 && distance(time, latest) > FAR as u64 => {
                Verdict::Outlier(latest)
            }
            (_, false) if time < latest => Verdict::Back,
            (_, false) => Verdict::Believed,
        }
    }

    /// Judges the first packet of a section by those behind it: most of them have to agree that it
    /// is off.
    fn judge_first(&self, time: i64, ended: bool) -> Verdict {
        if self.times().iter().any(|&next| distance(next, time) <= STEP as u64) {
            return Verdict::Believed;
        }
        if self.open && !ended {
            return Verdict::Unknown;
        }
        let mut sorted = self.times;
        let sorted = &mut sorted[..self.known];
        sorted.sort_unstable();
        let Some(&median) = sorted.get(self.known / 2) else { return Verdict::Believed };
        let agrees = |next: &&i64| distance(**next, median) <= STEP as u64;
        let most = sorted.iter().filter(agrees).count() * 4 >= self.known * 3;
        // Two packets are little to go by.
        let limit = if self.known < 3 { FAR } else { STEP };
        match self.times().iter().find(agrees) {
            Some(&next) if most && self.known > 1 && distance(time, median) > limit as u64 => {
                Verdict::Outlier(next)
            }
            _ => Verdict::Believed,
        }
    }
}

fn distance(a: i64, b: i64) -> u64 {
    a.abs_diff(b)
}
