//! The view: draws the app, without network or clock.

mod frame;
mod help;
mod once;
mod panels;

pub(crate) use once::{Look, once};
use ratatui::Frame;
use ratatui::layout::Rect;

use crate::app::App;
use crate::layout::{LEAST, areas, place};
use crate::screen;
use crate::theme::Tone;

/// Draws the whole frame. `app.size` must be the size of the terminal.
pub(crate) fn view(app: &App, frame: &mut Frame<'_>) {
    let (columns, lines) = app.size;
    if columns < LEAST.0 || lines < LEAST.1 {
        let need = format!("{}×{} needed, {columns}×{lines} here", LEAST.0, LEAST.1);
        let area = Rect::new(0, 0, columns, lines);
        frame.render_widget(ratatui::text::Line::raw(need), area);
        return;
    }
    let areas = areas(app);
    frame::header(app, frame, areas.header);
    frame::tabs(app, frame);
    frame::loss(app, frame, areas.loss);
    let panels = screen::panels(app);
    if panels.is_empty() {
        frame::waiting(app, frame, areas.body);
    }
    for (at, area) in place(app, &panels, areas.body) {
        panels::panel(app, frame, &panels[at], at, area);
    }
    frame::footer(app, frame, areas.footer);
    if let Some(first) = app.help {
        help::help(app, frame, areas.body, first);
    }
}

impl App {
    /// Returns text in the style of a tone.
    fn span<'a>(
        &self,
        tone: Tone,
        text: impl Into<std::borrow::Cow<'a, str>>,
    ) -> ratatui::text::Span<'a> {
        ratatui::text::Span::styled(text, self.theme.style(tone))
    }
}
