//! Lines of toned text, and blocks of them side by side.

use super::Style;
use super::text;

/// The role of a piece of text, which determines its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Dim,
    Strong,
    Bar,
    Loss,
}

impl Tone {
    /// Returns the SGR sequence that starts the tone.
    fn sgr(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Dim => "\x1b[2m",
            Tone::Strong => "\x1b[1m",
            Tone::Bar => "\x1b[36m",
            Tone::Loss => "\x1b[1;31m",
        }
    }
}

/// A line, built from left to right. Added text must be safe to print.
#[derive(Debug, Default)]
pub(super) struct Line {
    spans: Vec<(Tone, String)>,
    width: usize,
}

impl Line {
    /// Adds `text`.
    pub(super) fn add(mut self, tone: Tone, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.width += text::width(&text);
            self.spans.push((tone, text));
        }
        self
    }

    /// Adds untrusted `text` within `width` columns, padded on the right.
    pub(super) fn left(self, tone: Tone, text: &str, width: usize) -> Self {
        let end = self.width + width;
        self.add(tone, text::fit(text, width)).to(end)
    }

    /// Adds `text` right-aligned within `width` columns.
    pub(super) fn right(self, tone: Tone, text: &str, width: usize) -> Self {
        let start = self.width + width.saturating_sub(text::width(text));
        self.to(start).add(tone, text)
    }

    /// Adds a bar that fills a share of `width` columns.
    pub(super) fn bar(self, share: f64, width: usize) -> Self {
        self.add(Tone::Bar, text::bar(share, width))
    }

    /// Pads with blanks up to a column.
    fn to(self, column: usize) -> Self {
        match column.saturating_sub(self.width) {
            0 => self,
            blanks => self.add(Tone::Plain, " ".repeat(blanks)),
        }
    }

    /// Appends another line.
    fn join(mut self, other: Line) -> Self {
        self.width += other.width;
        self.spans.extend(other.spans);
        self
    }
}

/// Lines that are kept together: a title and a table.
pub(super) type Block = Vec<Line>;

/// The lines of a report, and its style.
#[derive(Debug)]
pub(super) struct Page {
    style: Style,
    lines: Vec<Line>,
}

/// Number of columns between blocks.
const GAP: usize = 3;
/// Minimum number of columns of a block.
const BLOCK: usize = 38;
/// Maximum number of blocks side by side. More would be hard to read.
const ABREAST: usize = 4;

impl Page {
    /// Creates an empty page, at least as wide as a block.
    pub(super) fn new(style: Style) -> Self {
        Self { style: Style { width: style.width.max(BLOCK), ..style }, lines: Vec::new() }
    }

    /// Returns the number of columns of the page.
    pub(super) fn width(&self) -> usize {
        self.style.width
    }

    /// Returns the number of blocks that fit side by side.
    fn abreast(&self) -> usize {
        ((self.style.width + GAP) / (BLOCK + GAP)).clamp(1, ABREAST)
    }

    /// Returns the number of columns of each block.
    pub(super) fn block_width(&self) -> usize {
        let abreast = self.abreast();
        (self.style.width - GAP * (abreast - 1)) / abreast
    }

    /// Adds a line.
    pub(super) fn line(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Adds the title of a section, followed by the main facts.
    pub(super) fn section(&mut self, tone: Tone, title: &str, facts: &[String]) {
        self.line(Line::default());
        let line = Line::default().add(tone, title).add(Tone::Plain, "  ");
        let room = self.width().saturating_sub(line.width);
        self.line(line.add(Tone::Plain, text::fit(&facts.join(" · "), room)));
        self.line(Line::default().add(Tone::Dim, "─".repeat(self.width())));
    }

    /// Adds blocks, as many side by side as fit.
    pub(super) fn blocks(&mut self, blocks: Vec<Block>) {
        let (abreast, width) = (self.abreast(), self.block_width());
        let mut blocks = blocks.into_iter().filter(|block| !block.is_empty()).peekable();
        let mut first = true;
        while blocks.peek().is_some() {
            if !std::mem::take(&mut first) {
                self.line(Line::default());
            }
            let mut row: Vec<_> = blocks.by_ref().take(abreast).map(Vec::into_iter).collect();
            let height = row.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
            for _ in 0..height {
                let mut line = Line::default();
                for (i, cell) in row.iter_mut().enumerate() {
                    if let Some(cell) = cell.next() {
                        line = line.to(i * (width + GAP)).join(cell);
                    }
                }
                self.line(line);
            }
        }
    }

    /// Adds words, as many per line as fit.
    pub(super) fn words(&mut self, tone: Tone, intro: &str, words: &[&str]) {
        let mut text = intro.to_owned();
        for (i, word) in words.iter().enumerate() {
            let comma = if i + 1 < words.len() { "," } else { "" };
            if text::width(&text) + word.len() + comma.len() + 1 > self.width() {
                self.line(Line::default().add(tone, std::mem::replace(&mut text, " ".to_owned())));
            }
            text.extend([" ", word, comma]);
        }
        self.line(Line::default().add(tone, text));
    }

    /// Returns the page as text.
    pub(super) fn finish(self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            for (tone, span) in &line.spans {
                let sgr = if self.style.color { tone.sgr() } else { "" };
                text.extend([sgr, span, if sgr.is_empty() { "" } else { "\x1b[0m" }]);
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}
