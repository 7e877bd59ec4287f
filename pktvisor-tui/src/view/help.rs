//! The list of keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::app::App;
use crate::keys::BINDINGS;
use crate::theme::Tone;

/// Columns of a key's name, and of a key with its meaning.
const NAME: usize = 10;
const COLUMN: u16 = 40;

pub(super) fn help(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let room = area.height.saturating_sub(2).max(1);
    let columns =
        (BINDINGS.len() as u16).div_ceil(room).min(area.width.saturating_sub(2) / COLUMN).max(1);
    let lines = (BINDINGS.len() as u16).div_ceil(columns).min(room);
    let (width, height) = ((COLUMN * columns + 2).min(area.width), lines + 2);
    let x = area.x + (area.width - width) / 2;
    let area = Rect::new(x, area.y, width, height);
    frame.render_widget(Clear, area);
    let block =
        Block::bordered().title(app.span(Tone::Title, " Keys ")).title_bottom(" any key closes ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    for (at, bindings) in BINDINGS.chunks(lines.into()).take(columns.into()).enumerate() {
        let line = |binding: &crate::keys::Binding| {
            Line::from(vec![
                app.span(Tone::Strong, format!(" {:NAME$}", binding.name)),
                app.span(Tone::Plain, binding.meaning),
            ])
        };
        let column = Rect::new(inner.x + at as u16 * COLUMN, inner.y, COLUMN, inner.height);
        let lines: Vec<Line<'_>> = bindings.iter().map(line).collect();
        frame.render_widget(Paragraph::new(lines), column.intersection(inner));
    }
}
