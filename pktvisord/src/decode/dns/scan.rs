//! Scans a DNS message in place: header, questions, record types and EDNS (RFC 1035 section 4, RFC 6891).
//!
//! The scan reads what every message needs without copying or allocating, and reads a message that the
//! capture cut as far as it goes. It rejects what cannot be DNS by two conditions that every message meets:
//! its records fit in it, and its first question is readable.

use pktvisor_common::iana;

use super::name::{self, MAX_NAME};

/// Bytes of a DNS header.
pub const HEADER: usize = 12;
/// Maximum questions and maximum records read from a message.
pub const MAX_ENTRIES: usize = 64;
/// Maximum effort for all questions after the first, see [`name::expand`]: pointers make long names from
/// few bytes.
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

/// The result of scanning a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Id of the message.
    pub id: u16,
    /// Second 16 bits of the header.
    pub flags: u16,
    /// Number of questions in the header.
    pub questions: u16,
    /// Number of answers in the header.
    pub answers: u16,
    /// The first question; `None` if the header says that there is none, or if the capture cut it.
    pub question: Option<Question<'a>>,
    /// Offset of the end of the first question.
    question_end: usize,
    /// Findings about the records.
    pub records: Records,
    /// The OPT record.
    pub edns: Option<Edns<'a>>,
}

/// Findings about the records of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// An answer has the requested type.
    answered: bool,
    /// The authority section has an SOA record.
    soa: bool,
    /// The authority section has an NS record.
    ns: bool,
    /// Everything relevant was read.
    complete: bool,
    /// There are more than [`MAX_ENTRIES`] questions or records. The rest was not read.
    pub too_many: bool,
}

/// The first question of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The name as on the wire, without its final empty label.
    pub name: &'a [u8],
    /// Requested type.
    pub qtype: u16,
    /// Requested class.
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
    /// Data of the first client subnet option (RFC 7871 section 6); empty if the option extends beyond
    /// the record.
    pub client_subnet: Option<&'a [u8]>,
}

/// Reasons why a message cannot be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// It is shorter than the 12 bytes of a header.
    NoHeader,
    /// The capture ends before the end of the flags, so nothing is known about it.
    Cut,
    /// The header announces more questions, or more records in a section, than fit in the message.
    NoRoom,
    /// The first question extends beyond the message, or its name is invalid. A compressed name is
    /// invalid: there is no earlier name to point to (RFC 1035 section 4.1.4).
    BadQuestion,
}

impl Scan<'_> {
    /// Returns true if the message is a reply.
    #[inline]
    pub fn is_reply(&self) -> bool {
        self.flags & FLAG_QR != 0
    }

    /// Returns the response code, including the upper bits from EDNS.
    #[inline]
    pub fn rcode(&self) -> u16 {
        let high = self.edns.map_or(0, |edns| u16::from(edns.rcode_high));
        high << 4 | self.flags & 0xf
    }

    /// Returns the opcode.
    #[inline]
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11 & 0xf) as u8
    }

    /// Returns true if the reply says that the name exists but has no data of the requested type (RFC 2308
    /// section 2.2): NOERROR to a query, TC clear, without an answer of that type, which is not ANY.
    /// Without any answer it is NODATA unless it is a referral. After a CNAME, only an SOA record
    /// distinguishes it from an answer that ends in another zone.
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

    /// Returns true if the reply refers to other servers: NOERROR without an answer, with NS but without
    /// SOA in the authority section, and not authoritative (RFC 2308 section 2.2).
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

    /// Calls `each` with the expanded name and the type of the questions after the first one of the
    /// scanned `message`, up to [`MAX_ENTRIES`] questions in all or to the first unreadable one. Returns
    /// false if that would take more than the permitted effort.
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

    /// Returns true if header and first question look like DNS rather than chance. A message on a port in
    /// the ephemeral range must pass this before it counts.
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
/// Returns [`ScanError`] if it cannot be DNS, or if too little of it was captured. An unreadable record
/// after the question is no error: it ends the walk over the records.
pub fn scan(message: &[u8], length: usize) -> Result<Scan<'_>, ScanError> {
    let mut scan = Scan::default();
    scan.read(message, length)?;
    Ok(scan)
}

impl<'a> Scan<'a> {
    /// Like [`scan`], but into an empty scan: used on the packet path, where each copy counts.
    ///
    /// # Errors
    /// As [`scan`]. Values read before the error stay set.
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
        // The content of a query is in its question and in OPT.
        if additionals > 0 || self.is_reply() && counts != [0; 3] {
            self.read_records(message, counts);
        } else {
            self.records.complete = true;
        }
        Ok(())
    }

    /// Reads record types and OPT, as far as they are readable.
    #[inline]
    fn read_records(&mut self, message: &'a [u8], counts: [usize; 3]) {
        self.records.complete = self.read_sections(message, counts).is_some();
    }

    /// Reads the sections after the first question. Returns `None` if something relevant was not read.
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
                    // Nothing after it is relevant.
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

    /// Stops reading, out of `all` records. Returns `None` if there are too many to read.
    #[inline]
    fn stop_at(&mut self, all: usize) -> Option<()> {
        self.records.too_many = all > MAX_ENTRIES;
        (!self.records.too_many).then_some(())
    }
}

impl<'a> Edns<'a> {
    /// Parses an OPT record that was captured whole.
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

/// The position of a record.
struct Record {
    rtype: u16,
    /// Offset of its data.
    data: usize,
    /// Offset of its end, according to its length.
    end: usize,
}

impl Record {
    /// Parses the record at `at`.
    #[inline]
    fn at(message: &[u8], at: usize) -> Option<Self> {
        let at = skip_name(message, at)?;
        let fixed: &[u8; 10] = message.get(at..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = at + 10;
        Some(Self { rtype: u16::from_be_bytes([fixed[0], fixed[1]]), data, end: data + length })
    }
}

/// Reasons why a question was not read.
enum Unread {
    /// It extends beyond the captured bytes.
    Cut,
    /// Its name is invalid.
    Bad,
}

#[inline]
fn question(message: &[u8]) -> Result<(Question<'_>, usize), Unread> {
    // Including the length byte after the longest name.
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

/// Maximum options of an OPT record searched for a client subnet.
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
