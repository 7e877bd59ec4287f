//! The help: a list of all keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::app::App;
use crate::keys::{BINDINGS, Binding};
use crate::layout::{self, KEY};
use crate::theme::Tone;

/// Columns of a key's name.
const NAME: usize = 10;

/// Draws the page of the help that starts with the key at index `first`.
pub(super) fn help(app: &App, frame: &mut Frame<'_>, area: Rect, first: usize) {
    let (abreast, lines) = layout::help(app);
    let (width, height) = ((KEY * abreast + 2).min(area.width), lines + 2);
    let x = area.x + (area.width - width) / 2;
    let area = Rect::new(x, area.y, width, height.min(area.height));
    frame.render_widget(Clear, area);
    let more = first + usize::from(abreast * lines) < BINDINGS.len();
    let end = if more { " any key for more " } else { " any key closes " };
    let block = Block::bordered().title(app.span(Tone::Title, " Keys ")).title_bottom(end);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let bindings = BINDINGS.get(first..).unwrap_or_default();
    for (at, bindings) in bindings.chunks(lines.into()).take(abreast.into()).enumerate() {
        let line = |binding: &Binding| {
            Line::from(vec![
                app.span(Tone::Strong, format!(" {:NAME$}", binding.name)),
                app.span(Tone::Plain, binding.meaning),
            ])
        };
        let column = Rect::new(inner.x + at as u16 * KEY, inner.y, KEY, inner.height);
        let lines: Vec<Line<'_>> = bindings.iter().map(line).collect();
        frame.render_widget(Paragraph::new(lines), column.intersection(inner));
    }
}
