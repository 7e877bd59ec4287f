//! Escapes text from packets for display and measures it in terminal columns.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// Returns a bar that fills a share of `columns`, in eighths of a column. Any share above 0 is
/// visible.
pub fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share * (columns * 8) as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// Returns the number of columns of `text`.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Fits `text` into at most `limit` columns. Characters that a terminal would not show as they are
/// become escapes: control characters, bidi controls, characters without width, and characters that
/// look like a blank. `…` replaces the middle of a text that is too long, because the start of a
/// name identifies it and the end shows what it belongs to.
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

/// An escaped text.
struct Shown {
    text: String,
    width: usize,
    /// End and width of each original character, so that an escape is never cut.
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
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{}", c.escape_unicode());
            }
            let columns = width(&text[start..]);
            units.push((text.len(), columns));
            total += columns;
        }
        Self { text, width: total, units }
    }

    /// Returns the end of the longest prefix of at most `room` columns.
    fn prefix(&self, room: usize) -> usize {
        let mut used = 0;
        let fits = self.units.iter().take_while(|(_, columns)| {
            used += columns;
            used <= room
        });
        fits.last().map_or(0, |(end, _)| *end)
    }

    /// Returns the start of the longest suffix of at most `room` columns.
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
        // The Hangul filler and the Braille blank have a width but are invisible.
        '\u{115f}' | '\u{2800}' => false,
        // A printable character escapes to itself, any other to several characters.
        _ => c.escape_debug().len() == 1 && c.width().is_some_and(|columns| columns > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_unchanged() {
        for text in ["", "www.example.com.", r#"a\.b"c'd\\e"#, "münchen.de", "例え.テスト", "🦀.rs"]
        {
            assert_eq!(fit(text, 80), text);
        }
    }

    #[test]
    fn escapes_control_and_invisible_characters() {
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
    fn shortens_long_text_in_the_middle() {
        assert_eq!(fit("abcdefghij", 10), "abcdefghij");
        assert_eq!(fit("abcdefghij", 9), "abcd…ghij");
        assert_eq!(fit("abcdefghij", 2), "a…");
        assert_eq!(fit("abcdefghij", 1), "…");
        assert_eq!(fit("abcdefghij", 0), "");
    }

    #[test]
    fn never_cuts_wide_characters_or_escapes() {
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
