//! The in-place scan of a DNS message: header, questions, the types of its records and EDNS (RFC 1035
//! section 4, RFC 6891).
//!
//! It reads what every message needs without copying or allocating. A message that the capture cut is
//! read as far as it goes. What cannot be DNS is told by what must hold for any message: its records
//! have room in it, and its first question reads.

use pktvisor_common::iana;

use super::name::{self, MAX_NAME};

/// Bytes of a DNS header.
pub const HEADER: usize = 12;
/// Questions that are read of a message, at most, and records.
pub const MAX_ENTRIES: usize = 64;
/// The effort that the questions behind the first may take together, see [`name::expand`]: pointers
/// make long names of few bytes.
const EFFORT: usize = 512;
/// Bytes of the shortest question and of the shortest record (RFC 1035 sections 4.1.2 and 4.1.3).
const SHORTEST_QUESTION: usize = 5;
const SHORTEST_RECORD: usize = 11;

/// QR: the message is a reply.
pub const FLAG_QR: u16 = 0x8000;
/// AA: authoritative answer.
pub const FLAG_AA: u16 = 0x0400;
/// TC: truncated.
pub const FLAG_TC: u16 = 0x0200;
/// AD: authentic data (RFC 4035).
pub const FLAG_AD: u16 = 0x0020;
/// CD: checking disabled (RFC 4035).
pub const FLAG_CD: u16 = 0x0010;

const TYPE_NS: u16 = 2;
const TYPE_SOA: u16 = 6;
const TYPE_OPT: u16 = 41;
const TYPE_ANY: u16 = 255;
const OPTION_CLIENT_SUBNET: u16 = 8;

/// What the scan found in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The message's id.
    pub id: u16,
    /// The second 16 bits of the header.
    pub flags: u16,
    /// Questions by the header.
    pub questions: u16,
    /// Answers by the header.
    pub answers: u16,
    /// The first question; `None` where the header says there is none, or the capture cut it.
    pub question: Option<Question<'a>>,
    /// Where the first question ends.
    question_end: usize,
    /// What the records say together.
    pub records: Records,
    /// The OPT record.
    pub edns: Option<Edns<'a>>,
}

/// What the records of a message say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// An answer has the type asked for.
    answered: bool,
    /// There is an SOA record in the authority section.
    soa: bool,
    /// There is an NS record in the authority section.
    ns: bool,
    /// All that matters was read.
    complete: bool,
    /// There are more than [`MAX_ENTRIES`] questions or records, and the rest was not read.
    pub too_many: bool,
}

/// The first question of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The name as on the wire, without its final empty label.
    pub name: &'a [u8],
    /// The type asked for.
    pub qtype: u16,
    /// The class asked for.
    pub qclass: u16,
}

/// The OPT record of a message (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'a> {
    /// The sender's UDP payload size in bytes.
    pub udp_size: u16,
    /// The upper 8 bits of the response code.
    pub rcode_high: u8,
    /// DO: DNSSEC OK (RFC 3225).
    pub dnssec_ok: bool,
    /// The data of its first client subnet option (RFC 7871 section 6); empty where the option does
    /// not end in the record.
    pub client_subnet: Option<&'a [u8]>,
}

/// Why a message can't be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// Less than the 12 bytes of a header.
    NoHeader,
    /// The capture cut it before the flags, so that nothing is known of it.
    Cut,
    /// A section has more records by the header than have room in the message.
    NoRoom,
    /// The first question ends behind the message, or its name is none. A compressed name is none:
    /// there is no name before the first (RFC 1035 section 4.1.4).
    BadQuestion,
}

impl Scan<'_> {
    /// Whether the message is a reply.
    #[inline]
    pub fn is_reply(&self) -> bool {
        self.flags & FLAG_QR != 0
    }

    /// The response code, with the upper bits of EDNS.
    #[inline]
    pub fn rcode(&self) -> u16 {
        let high = self.edns.map_or(0, |edns| u16::from(edns.rcode_high));
        high << 4 | self.flags & 0xf
    }

    /// The opcode.
    #[inline]
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11 & 0xf) as u8
    }

    /// Whether the reply says that the name exists and has no data of the type asked for (RFC 2308
    /// section 2.2): NOERROR to a query, not truncated, without an answer of that type. Without any
    /// answer it is one unless it is a referral; behind a CNAME only an SOA tells it from an answer
    /// that ends in another zone.
    #[inline]
    pub fn is_nodata(&self) -> bool {
        let Some(question) = &self.question else { return false };
        self.is_noerror_to_query()
            && self.flags & FLAG_TC == 0
            && question.qtype != TYPE_ANY
            && self.records.complete
            && !self.records.answered
            && if self.answers == 0 { !self.is_referral() } else { self.records.soa }
    }

    /// Whether the reply points to other servers: NOERROR without an answer, with NS but without
    /// SOA in authority, and not authoritative (RFC 2308 section 2.2).
    #[inline]
    pub fn is_referral(&self) -> bool {
        let Records { soa, ns, complete, .. } = self.records;
        self.is_noerror_to_query()
            && self.answers == 0
            && self.flags & FLAG_AA == 0
            && complete
            && ns
            && !soa
    }

    #[inline]
    fn is_noerror_to_query(&self) -> bool {
        self.is_reply() && self.opcode() == 0 && self.rcode() == iana::NOERROR
    }

    /// The questions behind the first one of the `message` that was scanned, with their names
    /// expanded, up to [`MAX_ENTRIES`] in all or to the first that cannot be read. Says whether that
    /// took no more effort than it may.
    pub fn for_each_further_question(
        &self,
        message: &[u8],
        mut each: impl FnMut(&[u8], u16),
    ) -> bool {
        if self.question.is_none() {
            return true;
        }
        let mut effort = EFFORT;
        let mut at = self.question_end;
        let mut buffer = [0; MAX_NAME + 1];
        for _ in 1..usize::from(self.questions).min(MAX_ENTRIES) {
            let Some((length, end)) = name::expand(message, at, &mut buffer, &mut effort) else {
                return effort > 0;
            };
            let Some(qtype) = u16_at(message, end) else { return true };
            if message.len() < end + 4 {
                return true;
            }
            each(&buffer[..length], qtype);
            at = end + 4;
        }
        true
    }

    /// Whether header and first question read like DNS and not like chance: what a message on a
    /// port from the ephemeral range has to show before it counts.
    pub fn is_plausible(&self) -> bool {
        let class = self.question.map(|question| question.qclass & 0x7fff);
        self.opcode() <= 6
            && self.flags & 0x0040 == 0
            && (1..=8).contains(&self.questions)
            && matches!(class, Some(1 | 3 | 4 | 254 | 255))
    }
}

#[inline]
fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Scans a message of `length` bytes, of which `message` was captured.
///
/// # Errors
/// [`ScanError`] where it cannot be DNS, or nothing of it was captured. Records behind the question
/// that can't be read end the walk over records.
pub fn scan(message: &[u8], length: usize) -> Result<Scan<'_>, ScanError> {
    let mut scan = Scan::default();
    scan.read(message, length)?;
    Ok(scan)
}

impl<'a> Scan<'a> {
    /// As [`scan`], into a scan that has nothing yet: on the packet path, where each copy counts.
    ///
    /// # Errors
    /// As [`scan`]. What was read before stays.
    #[inline(always)]
    pub fn read(&mut self, message: &'a [u8], length: usize) -> Result<(), ScanError> {
        if length < HEADER {
            return Err(ScanError::NoHeader);
        }
        let &[i0, i1, f0, f1] = message.first_chunk().ok_or(ScanError::Cut)?;
        (self.id, self.flags) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([f0, f1]));
        self.question_end = HEADER;
        let Some(&[.., q0, q1, a0, a1, n0, n1, r0, r1]) = message.first_chunk::<HEADER>() else {
            return Ok(());
        };
        let (questions, answers) = (u16::from_be_bytes([q0, q1]), u16::from_be_bytes([a0, a1]));
        let (authorities, additionals) =
            (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([r0, r1]));
        let room = length - HEADER;
        let most = usize::from(answers.max(authorities).max(additionals));
        if usize::from(questions) * SHORTEST_QUESTION > room || most * SHORTEST_RECORD > room {
            return Err(ScanError::NoRoom);
        }
        (self.questions, self.answers) = (questions, answers);
        if questions > 0 {
            match question(message) {
                Ok((question, end)) => (self.question, self.question_end) = (Some(question), end),
                Err(Unread::Cut) if message.len() < length => return Ok(()),
                Err(_) => return Err(ScanError::BadQuestion),
            }
        }
        let counts = [answers, authorities, additionals].map(usize::from);
        // What a query says stands in its question and in OPT.
        if additionals > 0 || self.is_reply() && counts != [0; 3] {
            self.read_records(message, counts);
        } else {
            self.records.complete = true;
        }
        Ok(())
    }

    /// Reads the types of the records and OPT, so far as they can be read.
    #[inline]
    fn read_records(&mut self, message: &'a [u8], counts: [usize; 3]) {
        self.records.complete = self.read_sections(message, counts).is_some();
    }

    /// Reads the sections behind the first question; `None` where what matters was not read.
    #[inline(always)]
    fn read_sections(&mut self, message: &'a [u8], counts: [usize; 3]) -> Option<()> {
        let [answers, authorities, additionals] = counts;
        if usize::from(self.questions) > MAX_ENTRIES {
            self.records.too_many = true;
            return None;
        }
        let mut at = self.question_end;
        for _ in 1..self.questions {
            at = skip_name(message, at)? + 4;
        }
        let all = answers + authorities + additionals;
        let records = all.min(MAX_ENTRIES);
        let (answers, authorities) = (answers.min(records), (answers + authorities).min(records));
        let qtype = self.question.map_or(0, |question| question.qtype);
        for _ in 0..answers {
            let record = Record::at(message, at)?;
            at = record.end;
            if record.rtype == qtype {
                self.records.answered = true;
                if additionals == 0 {
                    // Nothing behind it matters.
                    return self.stop_at(all);
                }
            }
        }
        for _ in answers..authorities {
            let record = Record::at(message, at)?;
            at = record.end;
            self.records.soa |= record.rtype == TYPE_SOA;
            self.records.ns |= record.rtype == TYPE_NS;
        }
        for _ in authorities..records {
            let record = Record::at(message, at)?;
            if record.rtype == TYPE_OPT {
                self.edns = Edns::of(message, &record);
                return Some(());
            }
            at = record.end;
        }
        self.stop_at(all)
    }

    /// Stops reading, of `all` records; `None` where there are too many to read.
    #[inline]
    fn stop_at(&mut self, all: usize) -> Option<()> {
        self.records.too_many = all > MAX_ENTRIES;
        (!self.records.too_many).then_some(())
    }
}

impl<'a> Edns<'a> {
    /// Reads an OPT record that has been captured whole.
    #[inline]
    fn of(message: &'a [u8], record: &Record) -> Option<Self> {
        let options = message.get(record.data..record.end)?;
        let fixed: &[u8; 8] = message[..record.data].last_chunk()?;
        Some(Self {
            udp_size: u16::from_be_bytes([fixed[0], fixed[1]]),
            rcode_high: fixed[2],
            dnssec_ok: fixed[4] & 0x80 != 0,
            client_subnet: client_subnet(options),
        })
    }
}

/// Where a record is.
struct Record {
    rtype: u16,
    /// Where its data start.
    data: usize,
    /// Where it ends, by its length.
    end: usize,
}

impl Record {
    /// The record at `at`.
    #[inline]
    fn at(message: &[u8], at: usize) -> Option<Self> {
        let at = skip_name(message, at)?;
        let fixed: &[u8; 10] = message.get(at..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = at + 10;
        Some(Self { rtype: u16::from_be_bytes([fixed[0], fixed[1]]), data, end: data + length })
    }
}

/// Why a question was not read.
enum Unread {
    /// It goes on behind what was captured.
    Cut,
    /// Its name is none.
    Bad,
}

#[inline]
fn question(message: &[u8]) -> Result<(Question<'_>, usize), Unread> {
    // Up to the length byte behind the longest name.
    let read = &message[..message.len().min(HEADER + MAX_NAME)];
    let mut at = HEADER;
    loop {
        match read.get(at) {
            Some(0) => break,
            Some(&len @ 1..=63) => at += usize::from(len) + 1,
            Some(_) => return Err(Unread::Bad),
            None if at >= HEADER + MAX_NAME => return Err(Unread::Bad),
            None => return Err(Unread::Cut),
        }
    }
    let Some(&[t0, t1, c0, c1]) = message.get(at + 1..).and_then(|rest| rest.first_chunk()) else {
        return Err(Unread::Cut);
    };
    let question = Question {
        name: &message[HEADER..at],
        qtype: u16::from_be_bytes([t0, t1]),
        qclass: u16::from_be_bytes([c0, c1]),
    };
    Ok((question, at + 5))
}

/// Steps over a name, compressed or not.
#[inline]
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Options of an OPT record that are looked at for a client subnet, at most.
const MAX_OPTIONS: usize = 64;

#[inline]
fn client_subnet(options: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    for _ in 0..MAX_OPTIONS {
        let (code, length) = (u16_at(options, at)?, usize::from(u16_at(options, at + 2)?));
        let data = at + 4;
        if code == OPTION_CLIENT_SUBNET {
            return Some(options.get(data..data + length).unwrap_or_default());
        }
        at = data + length;
    }
    None
}
