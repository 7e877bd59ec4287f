//! Decides which packet times of a capture to believe.
//!
//! A step of more than an hour is an outlier if one of the next 16 packets of the section returns
//! to within an hour of the time before it. Such a packet keeps its place in the file and gets the
//! time before it.
//!
//! The last packet of a section is an outlier if it is more than a year off. The first one is an
//! outlier if the packets behind it agree on a time that is more than an hour off. All other steps
//! are believed, since captures can be sparse.

use std::collections::VecDeque;

use crate::decode::block::{Block, Mark, PacketRecord};
use crate::time::{Span, Timestamp, utc};

/// Largest step that is believed without looking ahead.
const STEP: Span = Span::from_seconds(3_600);
/// Largest step back that is disorder, not packet time going back.
const DISORDER: Span = Span::from_seconds(5);
/// Largest step that is believed of the last packet of a section: one year.
const FAR: Span = Span::from_seconds(31_557_600);
/// Packets examined after a step.
const AHEAD: usize = 16;

/// An outlier, as a warning reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlier {
    packet: u64,
    time: Timestamp,
}

/// Checks packet times block by block.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The latest believed time since packet time last went back; `None` at the start of a section.
    latest: Option<Timestamp>,
    /// At the start of a section, the latest time of the section before.
    section_before: Option<Timestamp>,
    /// Packets before the current block, of all link types.
    before: u64,
    /// True if any packet had a timestamp.
    timed: bool,
    outliers: u64,
    first: Option<Outlier>,
}

/// Reasons to judge a packet without waiting for more packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// The capture has no more packets than those known.
    pub(super) ended: bool,
    /// Do not hold back the first packet of a section until others arrive.
    pub(super) prompt: bool,
}

impl Times {
    /// Returns true if there are packets and none had a timestamp.
    pub(super) fn are_missing(&self) -> bool {
        !self.timed && self.before > 0
    }

    /// Returns a warning if there were outliers.
    pub(super) fn warning(&self) -> Option<String> {
        let Outlier { packet, time } = self.first?;
        let time = utc(time);
        let what = match self.outliers {
            1 => format!("the time of packet {packet}, {time}, is"),
            n => format!("the times of {n} packets, the first packet {packet} with {time}, are"),
        };
        Some(format!(
            "{what} more than an hour off the surrounding packets; counted in file order, with the \
             time of the previous packet"
        ))
    }

    /// Continues after `block`, all of whose packets have been checked.
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

    /// Checks the packets of `block` starting at `from`; `ahead` are the blocks after it. Returns
    /// the first packet that needs more packets to be judged.
    pub(super) fn check(
        &mut self,
        block: &mut Block,
        from: usize,
        ahead: &VecDeque<Block>,
        patience: Patience,
    ) -> Option<usize> {
        if !self.timed {
            self.timed = block.packets.iter().any(|packet| packet.time != Timestamp::EPOCH);
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
                if time < before - DISORDER {
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

/// Returns how many packets from the first on are in order. Sets `latest` to the latest time of
/// these.
#[inline]
fn in_order(packets: &[PacketRecord], latest: &mut Timestamp) -> usize {
    let mut last = *latest;
    let mut fine = packets.len();
    for (at, packet) in packets.iter().enumerate() {
        if packet.time < last - DISORDER || packet.time > last + STEP {
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

/// Returns the end of the section of the packet at `at`, within its block, and whether another
/// section starts there.
fn section_end(block: &Block, at: usize) -> (usize, bool) {
    let next = block.sections.partition_point(|&place| place as usize <= at);
    match block.sections.get(next) {
        Some(&place) => (place as usize, true),
        None => (block.packets.len(), false),
    }
}

/// Returns the number of the packet at `at`, counted from 1 in its block over all link types.
fn number(block: &Block, at: usize) -> u64 {
    let unread = block.unread.iter().take_while(|(place, _)| *place as usize <= at);
    at as u64 + 1 + unread.map(|&(_, count)| u64::from(count)).sum::<u64>()
}

/// Verdict on the time of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The time is believed.
    Believed,
    /// The packet is out of order.
    Late,
    /// Packet time goes back to this packet.
    Back,
    /// The packet gets this time instead of its own.
    Outlier(Timestamp),
    /// More packets are needed to decide.
    Unknown,
}

/// The packets after a packet, in its section.
struct Following {
    times: [Timestamp; AHEAD],
    known: usize,
    /// True if there may be more of them.
    open: bool,
}

impl Following {
    fn of<'a>(block: &Block, at: usize, ahead: impl Iterator<Item = &'a Block>) -> Self {
        let mut following = Self { times: [Timestamp::EPOCH; AHEAD], known: 0, open: true };
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

    fn times(&self) -> &[Timestamp] {
        &self.times[..self.known]
    }

    /// Judges a packet whose time is more than `DISORDER` before or more than `STEP` after
    /// `latest`.
    fn judge(&self, time: Timestamp, latest: Timestamp, ended: bool) -> Verdict {
        let near = is_within(time, latest, STEP);
        let taken_back = if near {
            self.times().iter().any(|&next| next >= latest - DISORDER)
        } else {
            self.times().iter().any(|&next| is_within(next, latest, STEP))
        };
        match (near, taken_back) {
            (true, true) => Verdict::Late,
            (false, true) => Verdict::Outlier(latest),
            (_, false) if self.open && !ended => Verdict::Unknown,
            (false, false) if self.known == 0 && !is_within(time, latest, FAR) => {
                Verdict::Outlier(latest)
            }
            (_, false) if time < latest => Verdict::Back,
            (_, false) => Verdict::Believed,
        }
    }

    /// Judges the first packet of a section. It is an outlier if at least three quarters of the
    /// packets after it agree on another time.
    fn judge_first(&self, time: Timestamp, ended: bool) -> Verdict {
        if self.times().iter().any(|&next| is_within(next, time, STEP)) {
            return Verdict::Believed;
        }
        if self.open && !ended {
            return Verdict::Unknown;
        }
        let mut sorted = self.times;
        let sorted = &mut sorted[..self.known];
        sorted.sort_unstable();
        let Some(&median) = sorted.get(self.known / 2) else { return Verdict::Believed };
        let agrees = |next: &&Timestamp| is_within(**next, median, STEP);
        let most = sorted.iter().filter(agrees).count() * 4 >= self.known * 3;
        // Two packets are weak evidence.
        let limit = if self.known < 3 { FAR } else { STEP };
        match self.times().iter().find(agrees) {
            Some(&next) if most && self.known > 1 && !is_within(time, median, limit) => {
                Verdict::Outlier(next)
            }
            _ => Verdict::Believed,
        }
    }
}

/// Returns true if two times are at most `span` apart.
fn is_within(a: Timestamp, b: Timestamp, span: Span) -> bool {
    a.distance(b) <= span.as_nanos() as u64
}
