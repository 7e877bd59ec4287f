//! The tables of a report.

use std::ops::RangeInclusive;

use super::layout::{Block, Line, Tone};
use super::number::{count, micros, percent, share};
use super::text::{fit, width};
use crate::api::{Histogram, Quantiles, TopEntry};

/// Indentation of each row.
const INDENT: &str = "  ";
/// Number of columns of `100.0%`.
const PERCENT: usize = 6;
/// Number of columns of the bars in a top list, depending on the width of the names.
const TOP_BAR: RangeInclusive<usize> = 3..=6;
/// Maximum rows of a histogram. Neighbouring classes are merged until they fit.
const HISTOGRAM_ROWS: usize = 16;

/// A row of a table of shares.
pub(super) struct Part<'a> {
    /// The label.
    pub(super) label: &'a str,
    /// The count.
    pub(super) value: u64,
    /// The count that it is a share of; 0 if none.
    pub(super) whole: u64,
}

/// Creates a row of `value` out of `whole`.
pub(super) fn part(label: &str, value: u64, whole: u64) -> Part<'_> {
    Part { label, value, whole }
}

/// Returns a table of counts with their shares.
pub(super) fn shares(
    columns: usize,
    title: &str,
    number: fn(u64) -> String,
    parts: &[Part<'_>],
) -> Block {
    let values: Vec<String> = parts.iter().map(|part| number(part.value)).collect();
    let value_width = widest(&values);
    let label_width = parts.iter().map(|part| width(&fit(part.label, columns))).max().unwrap_or(0);
    let label_width = label_width.min(columns.saturating_sub(INDENT.len() + value_width + 1));
    let used = INDENT.len() + label_width + 1 + value_width + 1 + PERCENT + 1;
    let rows = parts.iter().zip(&values).map(|(part, value)| {
        let tone = if part.value == 0 { Tone::Dim } else { Tone::Plain };
        let row = Line::default()
            .add(Tone::Plain, INDENT)
            .left(tone, part.label, label_width)
            .right(tone, value, value_width + 1);
        if part.whole == 0 || used > columns {
            return row;
        }
        row.right(Tone::Dim, &percent(part.value, part.whole), PERCENT + 1)
            .add(Tone::Plain, " ")
            .bar(share(part.value, part.whole), columns - used)
    });
    titled(title, rows)
}

/// Returns a top list: names, estimates, maximum errors, and bars for comparison. Empty if the list
/// is empty.
pub(super) fn top(
    columns: usize,
    title: &str,
    number: fn(u64) -> String,
    entries: &[TopEntry],
) -> Block {
    let Some(most) = entries.iter().map(|entry| entry.estimate).max() else { return Block::new() };
    let values: Vec<String> = entries.iter().map(|entry| number(entry.estimate)).collect();
    let errors: Vec<String> = entries
        .iter()
        .map(|entry| entry.error.map_or(String::new(), |error| format!("±{}", number(error))))
        .collect();
    let value_width = widest(&values);
    let error_width = match widest(&errors) {
        0 => 0,
        width => width + 1,
    };
    let names: Vec<String> = entries.iter().map(|entry| fit(name_of(entry), columns)).collect();
    let room = columns.saturating_sub(INDENT.len() + 1 + value_width + error_width + 1);
    let bar_width = room.saturating_sub(widest(&names)).clamp(*TOP_BAR.start(), *TOP_BAR.end());
    let name_width = room.saturating_sub(bar_width);
    let rows = entries.iter().zip(&values).zip(&errors).map(|((entry, value), error)| {
        Line::default()
            .add(Tone::Plain, INDENT)
            .left(Tone::Plain, name_of(entry), name_width)
            .right(Tone::Plain, value, value_width + 1)
            .right(Tone::Dim, error, error_width)
            .add(Tone::Plain, " ")
            .bar(share(entry.estimate, most), bar_width)
    });
    titled(title, rows)
}

/// Returns the name of an entry. The empty name (the DNS root) is shown as `""`.
fn name_of(entry: &TopEntry) -> &str {
    if entry.name.is_empty() { "\"\"" } else { &entry.name }
}

/// A row of a table of quantiles.
pub(super) struct Spread<'a> {
    /// The label.
    pub(super) label: &'a str,
    /// The quantiles; `None` leaves the row out.
    pub(super) quantiles: Option<Quantiles>,
    /// Formats the values.
    pub(super) number: fn(u64) -> String,
}

/// Returns a table of the quantiles of several distributions. Empty if there are none.
pub(super) fn quantiles(columns: usize, title: &str, spreads: &[Spread<'_>]) -> Block {
    let rows: Vec<_> =
        spreads.iter().filter_map(|spread| Some((spread, spread.quantiles?))).collect();
    let label_width = rows.iter().map(|(spread, _)| width(spread.label)).max().unwrap_or(0);
    if rows.is_empty() {
        return Block::new();
    }
    let value_width = columns.saturating_sub(INDENT.len() + label_width) / 4;
    let line = |label, tone, values: [&str; 4]| {
        let line = Line::default().add(Tone::Plain, INDENT).left(Tone::Plain, label, label_width);
        values.into_iter().fold(line, |line, value| line.right(tone, value, value_width))
    };
    let head = line("", Tone::Dim, ["p50", "p90", "p95", "p99"]);
    let rows = rows.into_iter().map(|(spread, quantiles)| {
        let Quantiles { p50, p90, p95, p99 } = quantiles;
        let [p50, p90, p95, p99] = [p50, p90, p95, p99].map(spread.number);
        line(spread.label, Tone::Plain, [&p50, &p90, &p95, &p99])
    });
    titled(title, std::iter::once(head).chain(rows))
}

/// Returns a histogram of microseconds. Empty if it has no values.
pub(super) fn histogram(columns: usize, title: &str, histogram: Option<&Histogram>) -> Block {
    let classes = histogram.map_or_else(Vec::new, |histogram| classes(histogram, HISTOGRAM_ROWS));
    let all = classes.iter().fold(0u64, |sum, class| sum.saturating_add(class.1));
    let rows: Vec<(String, u64)> =
        classes.into_iter().map(|(le, n)| (format!("≤ {}", micros(le)), n)).collect();
    let parts: Vec<_> = rows.iter().map(|(label, value)| part(label, *value, all)).collect();
    if parts.is_empty() { Block::new() } else { shares(columns, title, count, &parts) }
}

/// Returns the upper bounds and counts of a histogram, from the first to the last class with
/// values. Neighbouring classes are merged until there are at most `most`.
pub fn classes(histogram: &Histogram, most: usize) -> Vec<(u64, u64)> {
    let classes: Vec<(u64, u64)> =
        histogram.le.iter().copied().zip(histogram.count.iter().copied()).collect();
    let filled = |class: &(u64, u64)| class.1 > 0;
    let (Some(first), Some(last)) =
        (classes.iter().position(filled), classes.iter().rposition(filled))
    else {
        return Vec::new();
    };
    let classes = &classes[first..=last];
    let class = |chunk: &[(u64, u64)]| {
        let bound = chunk.iter().map(|class| class.0).max().unwrap_or(0);
        (bound, chunk.iter().fold(0u64, |sum, class| sum.saturating_add(class.1)))
    };
    classes.chunks(classes.len().div_ceil(most.max(1))).map(class).collect()
}

/// Returns the number of columns of the widest text.
fn widest(texts: &[String]) -> usize {
    texts.iter().map(|text| width(text)).max().unwrap_or(0)
}

/// Returns a block of a title and rows.
fn titled(title: &str, rows: impl Iterator<Item = Line>) -> Block {
    std::iter::once(Line::default().add(Tone::Strong, title)).chain(rows).collect()
}
