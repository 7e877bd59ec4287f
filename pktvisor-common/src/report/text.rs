//! Text from the wire, made safe to show, and measured in columns of a terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// A bar of a share of `columns`, in eighths of a column; what is not nothing shows.
pub fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share * (columns * 8) as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `text` in at most `limit` columns. What a terminal would not show as itself (control
/// characters, bidi controls, what has no width, what looks like a blank) is written as an
/// escape; what is too long loses its middle to `…`, because names tell things apart at their
/// start and belong together by their end.
pub fn fit(text: &str, limit: usize) -> String {
    let shown = Shown::new(text);
    if shown.width <= limit {
        return shown.text;
    }
    let Some(room) = limit.checked_sub(1) else { return String::new() };
    let head = shown.prefix(room.div_ceil(2));
    let tail = shown.suffix(room / 2);
    format!("{}…{}", &shown.text[..head], &shown.text[tail..])
}

/// A text after escaping.
struct Shown {
    text: String,
    width: usize,
    /// Where each character of the original ends, and its width: an escape is never cut.
    units: Vec<(usize, usize)>,
}

impl Shown {
    fn new(original: &str) -> Self {
        let mut text = String::with_capacity(original.len());
        let mut units = Vec::new();
        let mut total = 0;
        for c in original.chars() {
            let start = text.len();
            if is_shown_as_itself(c) {
                text.push(c);
            } else {
                // Writing to a String does not fail.
                let _ = write!(text, "{}", c.escape_unicode());
            }
            let columns = width(&text[start..]);
            units.push((text.len(), columns));
            total += columns;
        }
        Self { text, width: total, units }
    }

    /// Where a prefix of at most `room` columns ends.
    fn prefix(&self, room: usize) -> usize {
        let mut used = 0;
        let fits = self.units.iter().take_while(|(_, columns)| {
            used += columns;
            used <= room
        });
        fits.last().map_or(0, |(end, _)| *end)
    }

    /// Where a suffix of at most `room` columns starts.
    fn suffix(&self, room: usize) -> usize {
        let mut used = 0;
        let left_out = self.units.iter().rev().find(|(_, columns)| {
            used += columns;
            used > room
        });
        left_out.map_or(0, |(end, _)| *end)
    }
}

fn is_shown_as_itself(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // The Hangul filler and the Braille blank have a width and no ink.
        '\u{115f}' | '\u{2800}' => false,
        // One character where it is printable, an escape else.
        _ => c.escape_debug().len() == 1 && c.width().is_some_and(|columns| columns > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_stays() {
        for text in ["", "www.example.com.", r#"a\.b"c'd\\e"#, "münchen.de", "例え.テスト", "🦀.rs"]
        {
            assert_eq!(fit(text, 80), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_escaped() {
        for (text, shown) in [
            ("a\x1b[31mb", r"a\u{1b}[31mb"),
            ("a\nb\t\0", r"a\u{a}b\u{9}\u{0}"),
            ("\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}"),
            ("a\u{202e}b\u{2066}", r"a\u{202e}b\u{2066}"),
            ("a\u{200b}\u{feff}\u{ad}b", r"a\u{200b}\u{feff}\u{ad}b"),
            ("e\u{301}", r"e\u{301}"),
            ("\u{a0}\u{3000}\u{3164}\u{115f}\u{2800}", r"\u{a0}\u{3000}\u{3164}\u{115f}\u{2800}"),
            ("\u{e000}\u{fffff}\u{2028}", r"\u{e000}\u{fffff}\u{2028}"),
        ] {
            assert_eq!(fit(text, 80), shown);
        }
    }

    #[test]
    fn what_is_too_long_loses_its_middle() {
        assert_eq!(fit("abcdefghij", 10), "abcdefghij");
        assert_eq!(fit("abcdefghij", 9), "abcd…ghij");
        assert_eq!(fit("abcdefghij", 2), "a…");
        assert_eq!(fit("abcdefghij", 1), "…");
        assert_eq!(fit("abcdefghij", 0), "");
    }

    #[test]
    fn wide_characters_and_escapes_are_kept_whole() {
        assert_eq!(fit("例例例例", 7), "例…例");
        assert_eq!(fit("例例例例", 6), "例…例");
        assert_eq!(fit("ab\u{202e}cdefgh", 9), "ab…efgh");
        for text in ["例a例b例c", "a\u{202e}b\u{202e}c", "🦀🦀🦀🦀"] {
            for limit in 0..40 {
                assert!(width(&fit(text, limit)) <= limit, "{text} in {limit}");
            }
        }
    }
}
