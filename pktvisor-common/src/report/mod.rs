//! Renders a view as a text report for a terminal.
//!
//! Losses come first, then packets, DNS messages and DNS transactions. Each section has aligned
//! tables with bars, as many side by side as the width allows. Names from packets are untrusted:
//! the report escapes them, so that a terminal never interprets them as commands.

use crate::api::MetricsView;

mod dns;
mod layout;
mod loss;
pub mod number;
mod packets;
mod table;
pub mod text;

use layout::{Block, Line, Page, Tone};
pub use loss::{Lost, losses};
use number::{count, percent};
pub use table::classes;

/// The style of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// True to colour it with ANSI SGR sequences.
    pub color: bool,
    /// Width of the terminal in columns. Less than 38 counts as 38.
    pub width: usize,
}

/// Renders the report of a view under a title. It ends with a newline.
pub fn render(title: &str, view: &MetricsView, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, title, view);
    loss::section(&mut page, view);
    packets::section(&mut page, &view.packets, &view.capture);
    dns::section(&mut page, &view.dns);
    dns::transactions(&mut page, &view.dns.xact);
    page.finish()
}

/// Escapes all characters of a text that a terminal would interpret or hide, as in a report.
pub fn printable(text: &str) -> String {
    text::fit(text, usize::MAX)
}

/// Adds the head: title, time and source.
fn head(page: &mut Page, title: &str, view: &MetricsView) {
    let width = page.width();
    page.line(Line::default().left(Tone::Strong, title, width));
    let mut facts = Vec::new();
    if view.period.length > 0 {
        facts.push(format!(
            "{}, {}",
            number::time(view.period.start_ts),
            number::duration(view.period.length)
        ));
    }
    let sources = [std::slice::from_ref(&view.capture.source), &view.capture.interfaces].concat();
    facts.push(sources.join(" "));
    if view.capture.lag_ms > 0 {
        facts.push(format!("{} behind", number::micros(view.capture.lag_ms.saturating_mul(1000))));
    }
    facts.retain(|fact| !fact.is_empty());
    if !facts.is_empty() {
        page.line(Line::default().left(Tone::Dim, &facts.join(" · "), width));
    }
}

/// Adds the non-empty top lists, and the names of the empty ones.
fn tops(page: &mut Page, lists: Vec<(&str, Block)>) {
    let empty: Vec<&str> =
        lists.iter().filter(|(_, block)| block.is_empty()).map(|(name, _)| *name).collect();
    if empty.len() < lists.len() {
        page.line(Line::default());
    }
    page.blocks(lists.into_iter().map(|(_, block)| block).collect());
    if !empty.is_empty() {
        page.line(Line::default());
        page.words(Tone::Dim, "Empty:", &empty);
    }
}

/// Formats the inspected share as `12 inspected (50.0%)`; `None` if all were inspected.
fn inspected(deep: u64, total: u64) -> Option<String> {
    (deep < total).then(|| format!("{} inspected ({})", count(deep), percent(deep, total)))
}

/// Returns the title of a table of estimated counts with their standard error, which is left out if
/// 0.
fn distinct(title: &str, error_pct: f64) -> String {
    if error_pct > 0.0 { format!("{title} ±{error_pct:.2}%") } else { title.to_owned() }
}
