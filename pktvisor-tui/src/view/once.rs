//! One frame as text.

use std::fmt::Write as _;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier, Style};

use super::view;
use crate::app::App;
use crate::layout::{LEAST, areas, place};
use crate::screen::panels;

/// Maximum lines of a frame.
const HIGHEST: u16 = 500;

/// Output with or without colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Ansi,
}

/// Renders a frame with room for all panels as text.
pub(crate) fn once(app: &mut App, columns: u16, look: Look) -> String {
    app.size = (columns.max(LEAST.0), HIGHEST);
    let body = areas(app).body;
    let end = place(app, &panels(app), body).iter().map(|(_, area)| area.bottom()).max();
    app.size.1 = end.unwrap_or(0).max(LEAST.1) + 1;
    let (columns, lines) = app.size;
    let backend = TestBackend::new(columns, lines);
    // Drawing to a buffer cannot fail.
    let mut terminal = Terminal::new(backend).expect("a buffer");
    terminal.draw(|frame| view(app, frame)).expect("a buffer");
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    // Leave out the last line, which lists keys.
    for y in 0..lines - 1 {
        let mut line = String::new();
        let mut style = Style::new();
        let mut skip = 0;
        for x in 0..columns {
            let cell = &buffer[(x, y)];
            if skip > 0 {
                skip -= 1;
                continue;
            }
            skip = pktvisor_common::report::text::width(cell.symbol()).saturating_sub(1);
            if look == Look::Ansi && cell.style() != style {
                style = cell.style();
                line += &sgr(style);
            }
            line += cell.symbol();
        }
        if look == Look::Ansi {
            line += "\x1b[0m";
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Returns the SGR sequence of a style.
fn sgr(style: Style) -> String {
    let mut codes = vec!["0".to_owned()];
    for (modifier, code) in [
        (Modifier::BOLD, "1"),
        (Modifier::DIM, "2"),
        (Modifier::UNDERLINED, "4"),
        (Modifier::REVERSED, "7"),
    ] {
        if style.add_modifier.contains(modifier) {
            codes.push(code.to_owned());
        }
    }
    let color = match style.fg {
        Some(Color::Red) => Some(31),
        Some(Color::Green) => Some(32),
        Some(Color::Blue) => Some(34),
        Some(Color::Magenta) => Some(35),
        Some(Color::Cyan) => Some(36),
        Some(Color::LightRed) => Some(91),
        Some(Color::LightGreen) => Some(92),
        Some(Color::LightYellow) => Some(93),
        Some(Color::LightBlue) => Some(94),
        Some(Color::LightMagenta) => Some(95),
        Some(Color::LightCyan) => Some(96),
        _ => None,
    };
    codes.extend(color.map(|color: u8| color.to_string()));
    format!("\x1b[{}m", codes.join(";"))
}
