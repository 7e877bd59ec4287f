//! The in-place scan of a DNS message: header, first question and EDNS (RFC 1035 §4, RFC 6891).
//!
//! It reads what every message needs without copying or allocating. What is rare (client subnets,
//! several questions, a compressed question name) is left to [`super::detail`].

use super::name::MAX_NAME;

/// Octets of a DNS header.
pub const HEADER: usize = 12;

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

const TYPE_OPT: u16 = 41;
const OPTION_CLIENT_SUBNET: u16 = 8;

/// What the scan found in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The message's id.
    pub id: u16,
    /// The second 16 bits of the header.
    pub flags: u16,
    /// Questions by the header.
    pub questions: u16,
    /// Answers by the header.
    pub answers: u16,
    /// The first question; `None` where the header says there is none.
    pub question: Option<Question<'a>>,
    /// The OPT record.
    pub edns: Option<Edns<'a>>,
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
    /// The sender's UDP payload size in octets.
    pub udp_size: u16,
    /// The upper 8 bits of the response code.
    pub rcode_high: u8,
    /// DO: DNSSEC OK (RFC 3225).
    pub dnssec_ok: bool,
    /// The record as on the wire where it carries a client subnet (RFC 7871).
    pub client_subnet: Option<&'a [u8]>,
}

/// Why a message can't be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// Less than the 12 octets of a header.
    NoHeader,
    /// The first question's name is compressed: legal to read, but nobody writes it.
    CompressedQuestion,
    /// The first question is cut short or its name is none.
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

    /// Whether header and first question read like DNS and not like chance: what a message on a
    /// port from the ephemeral range has to show before it counts.
    pub fn is_plausible(&self) -> bool {
        let opcode = self.flags >> 11 & 0xf;
        let class = self.question.map(|question| question.qclass & 0x7fff);
        opcode <= 6
            && self.flags & 0x0040 == 0
            && (1..=8).contains(&self.questions)
            && matches!(class, Some(1 | 3 | 4 | 254 | 255))
    }
}

#[inline]
fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

/// Scans a message.
///
/// # Errors
/// [`ScanError`] where the header or the first question can't be read. Records behind the question
/// that can't be read only end the search for the OPT record.
#[inline]
pub fn scan(message: &[u8]) -> Result<Scan<'_>, ScanError> {
    let &[i0, i1, f0, f1, q0, q1, a0, a1, n0, n1, r0, r1] =
        message.first_chunk::<HEADER>().ok_or(ScanError::NoHeader)?;
    let (id, flags) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([f0, f1]));
    let (questions, answers) = (u16::from_be_bytes([q0, q1]), u16::from_be_bytes([a0, a1]));
    let (authorities, additionals) = (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([r0, r1]));
    let mut scan = Scan { id, flags, questions, answers, question: None, edns: None };
    let mut at = HEADER;
    if questions > 0 {
        let (question, end) = question(message)?;
        scan.question = Some(question);
        at = end;
    }
    if additionals > 0 {
        let before = usize::from(answers) + usize::from(authorities);
        scan.edns = skip_questions(message, at, questions)
            .and_then(|at| find_opt(message, at, before, usize::from(additionals)));
    }
    Ok(scan)
}

#[inline]
fn question(message: &[u8]) -> Result<(Question<'_>, usize), ScanError> {
    let mut at = HEADER;
    loop {
        match message.get(at) {
            Some(0) => break,
            Some(&len @ 1..=63) => at += usize::from(len) + 1,
            Some(0xc0..) => return Err(ScanError::CompressedQuestion),
            _ => return Err(ScanError::BadQuestion),
        }
    }
    if at - HEADER >= MAX_NAME {
        return Err(ScanError::BadQuestion);
    }
    let Some(&[t0, t1, c0, c1]) = message.get(at + 1..).and_then(|rest| rest.first_chunk()) else {
        return Err(ScanError::BadQuestion);
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

#[inline]
fn skip_questions(message: &[u8], mut at: usize, questions: u16) -> Option<usize> {
    for _ in 1..questions {
        at = skip_name(message, at)? + 4;
    }
    Some(at)
}

/// Finds the OPT record among the additional records, behind `before` others.
#[inline]
fn find_opt(message: &[u8], mut at: usize, before: usize, additionals: usize) -> Option<Edns<'_>> {
    for index in 0..before + additionals {
        let start = at;
        at = skip_name(message, at)?;
        let fixed: &[u8; 10] = message.get(at..)?.first_chunk()?;
        let rdlen = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        at += 10 + rdlen;
        if index >= before && u16::from_be_bytes([fixed[0], fixed[1]]) == TYPE_OPT {
            let record = message.get(start..at)?;
            let options = &record[record.len() - rdlen..];
            return Some(Edns {
                udp_size: u16::from_be_bytes([fixed[2], fixed[3]]),
                rcode_high: fixed[4],
                dnssec_ok: fixed[6] & 0x80 != 0,
                client_subnet: has_client_subnet(options).then_some(record),
            });
        }
    }
    None
}

#[inline]
fn has_client_subnet(options: &[u8]) -> bool {
    let mut at = 0;
    while let (Some(code), Some(len)) = (u16_at(options, at), u16_at(options, at + 2)) {
        if code == OPTION_CLIENT_SUBNET {
            return true;
        }
        at += 4 + usize::from(len);
    }
    false
}
