//! Query names: lower-casing, cutting to the last labels, and conversion to text.
//!
//! Names are kept in wire form (RFC 1035 §3.1): labels, each after its length, without the final empty
//! label. A length byte is at most 63 and so never an ASCII letter, so a whole name can be lower-cased
//! byte by byte.

/// Maximum bytes of a name, including its final empty label (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;

/// A lower-cased name in wire form.
#[derive(Clone, Copy)]
pub struct LowerName {
    bytes: [u8; MAX_NAME + 1],
    len: u8,
}

impl LowerName {
    /// Lower-cases the ASCII letters of a name (RFC 4343). `wire` has at most [`MAX_NAME`] bytes.
    #[inline]
    pub fn new(wire: &[u8]) -> Self {
        let mut bytes = [0; MAX_NAME + 1];
        let len = wire.len().min(MAX_NAME);
        let name = &mut bytes[..len];
        name.copy_from_slice(&wire[..len]);
        name.make_ascii_lowercase();
        Self { bytes, len: len as u8 }
    }

    /// Returns the name in wire form.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Maximum jumps in a compressed name: one more than a name of one-byte labels can need.
const MAX_JUMPS: usize = 127;
/// Effort of a label or a pointer in [`expand`].
const STEP: usize = 8;

/// Writes the name at `at` of a message into `buffer`, in wire form without its final empty label.
/// Returns its length and the offset of its end in the message.
///
/// Pointers must point back, and not into the header (RFC 1035 section 4.1.4). Returns `None` for an
/// invalid name, or if reading it reduces `effort` to 0: it costs 8 for each label and each pointer, and 1
/// for each byte.
pub fn expand(
    message: &[u8],
    mut at: usize,
    buffer: &mut [u8; MAX_NAME + 1],
    effort: &mut usize,
) -> Option<(usize, usize)> {
    const HEADER: usize = 12;
    let (mut length, mut end) = (0, None);
    let mut jumps = 0;
    loop {
        *effort = effort.saturating_sub(STEP);
        if *effort == 0 {
            return None;
        }
        match *message.get(at)? {
            0 => return Some((length, end.unwrap_or(at + 1))),
            label @ 1..=63 => {
                let label = message.get(at..=at + usize::from(label))?;
                *effort = effort.saturating_sub(label.len());
                buffer.get_mut(length..length + label.len())?.copy_from_slice(label);
                length += label.len();
                at += label.len();
                if length >= MAX_NAME {
                    return None;
                }
            }
            high @ 0xc0.. => {
                let target = usize::from(u16::from_be_bytes([high & 0x3f, *message.get(at + 1)?]));
                end = end.or(Some(at + 2));
                jumps += 1;
                if !(HEADER..at).contains(&target) || jumps > MAX_JUMPS {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
}

/// Returns true if a name has capitals. It always reads the whole name, so that the compiler can use
/// vector instructions.
#[inline]
pub fn has_capitals(wire: &[u8]) -> bool {
    wire.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase())
}

/// Iterates over the labels of a well-formed name in wire form, first to last.
pub fn labels(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = wire.split_first()?;
        let (label, behind) = rest.split_at_checked(usize::from(len))?;
        wire = behind;
        Some(label)
    })
}

/// Returns the last `keep` labels of a name, and whether labels were cut off; `None` if it has fewer.
pub fn last_labels(wire: &[u8], keep: usize) -> Option<(&[u8], bool)> {
    let count = labels(wire).count();
    let cut = count.checked_sub(keep)?;
    let bytes: usize = labels(wire).take(cut).map(|label| label.len() + 1).sum();
    Some((&wire[bytes..], cut > 0))
}

/// Returns the text of a name: labels separated by dots, without a final dot; `.` for the root. Bytes that
/// are not printable ASCII are escaped as in zone files (RFC 1035 §5.1, RFC 4343 §2.1).
pub fn text(wire: &[u8]) -> String {
    cut_text(wire, false)
}

/// Returns the text of a name cut to its last labels. A cut name starts with a dot.
pub fn cut_text(wire: &[u8], cut: bool) -> String {
    // Exact if nothing is escaped: each length byte except the first becomes a dot.
    let start = usize::from(cut);
    let mut text = Vec::with_capacity(start + wire.len().saturating_sub(1).max(1));
    text.resize(start, b'.');
    for label in labels(wire) {
        if text.len() > start {
            text.push(b'.');
        }
        if label.iter().copied().all(is_plain) {
            text.extend_from_slice(label);
        } else {
            label.iter().for_each(|&byte| escape(byte, &mut text));
        }
    }
    if text.len() == start {
        text.push(b'.');
    }
    String::from_utf8(text).expect("it is ASCII")
}

/// Returns true if a byte of a label needs no escape.
#[inline]
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$')
}

fn escape(byte: u8, text: &mut Vec<u8>) {
    if is_plain(byte) {
        text.push(byte);
    } else if byte.is_ascii_graphic() {
        text.extend([b'\\', byte]);
    } else {
        let digits = [byte / 100, byte / 10 % 10, byte % 10].map(|digit| b'0' + digit);
        text.push(b'\\');
        text.extend(digits);
    }
}

/// Returns the public suffix of a name (<https://publicsuffix.org>) with the `keep` labels before it, and
/// whether labels were cut off; `None` if the name has fewer labels.
///
/// With `keep` 1 this is the registrable domain: `example.co.uk` of `www.example.co.uk`. A name that is
/// itself a public suffix is then returned whole.
pub fn above_public_suffix(wire: &[u8], keep: usize) -> Option<(&[u8], bool)> {
    let mut dotted = [0; MAX_NAME];
    let len = wire.len().checked_sub(1)?;
    dotted[..len].copy_from_slice(&wire[1..]);
    // The length byte before each label except the first becomes a dot.
    let mut at = 0;
    for label in labels(wire) {
        at += label.len();
        if at < len {
            dotted[at] = b'.';
            at += 1;
        }
    }
    let suffix_labels = psl::suffix(&dotted[..len])
        .map_or(1, |suffix| suffix.as_bytes().split(|&byte| byte == b'.').count());
    let count = labels(wire).count();
    if count <= suffix_labels {
        return (keep == 1).then_some((wire, false));
    }
    last_labels(wire, suffix_labels + keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the wire form of a dotted name.
    pub(crate) fn wire(name: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire
    }

    fn cut(name: &str, keep: usize) -> Option<String> {
        last_labels(&wire(name), keep).map(|(wire, cut)| cut_text(wire, cut))
    }

    #[test]
    fn last_labels_cuts_leading_labels() {
        assert_eq!(cut("www.test.com", 2).as_deref(), Some(".test.com"));
        assert_eq!(cut("a.com", 2).as_deref(), Some("a.com"));
        assert_eq!(cut("www.test.com", 3).as_deref(), Some("www.test.com"));
        assert_eq!(cut("a.www.test.com", 3).as_deref(), Some(".www.test.com"));
        assert_eq!(cut("com", 2), None);
    }

    #[test]
    fn lower_casing_keeps_length_bytes() {
        let mut name = vec![63];
        name.extend([b'A'; 63]);
        name.extend(wire("Ex-1.ORG"));
        assert!(has_capitals(&name) && !has_capitals(&name[..1]));
        let lower = LowerName::new(&name);
        assert_eq!(lower.wire()[0], 63);
        assert_eq!(text(lower.wire()), format!("{}.ex-1.org", "a".repeat(63)));
    }

    #[test]
    fn unprintable_bytes_are_escaped() {
        assert_eq!(text(b"\x04a.b\\\x03\x00\xff \x01c"), "a\\.b\\\\.\\000\\255\\032.c");
        assert_eq!(text(b""), ".");
    }

    #[test]
    fn public_suffix_keeps_labels_before_it() {
        let above = |name: &str, keep| {
            above_public_suffix(&wire(name), keep).map(|(wire, cut)| cut_text(wire, cut))
        };
        assert_eq!(above("www.example.co.uk", 1).as_deref(), Some(".example.co.uk"));
        assert_eq!(above("www.example.co.uk", 2).as_deref(), Some("www.example.co.uk"));
        assert_eq!(above("example.co.uk", 2), None);
        assert_eq!(above("co.uk", 1).as_deref(), Some("co.uk"));
        assert_eq!(above("a.b.example.com", 1).as_deref(), Some(".example.com"));
        assert_eq!(above("", 1), None);
    }
}
