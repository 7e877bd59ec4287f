//! Colours.

use ratatui::style::{Color, Modifier, Style};

/// A set of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// For a dark background.
    #[default]
    Dark,
    /// For a light background.
    Light,
    /// No colours: bold, dim and reverse only.
    Plain,
}

/// The role of a text, which decides its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Dim,
    Strong,
    Title,
    Focus,
    Bar,
    Good,
    Warning,
    Loss,
    Selected,
    /// A series of a chart, by index.
    Series(usize),
}

impl Theme {
    /// Returns the next theme.
    pub(crate) fn next(self) -> Self {
        match self {
            Theme::Dark => Theme::Light,
            Theme::Light => Theme::Plain,
            Theme::Plain => Theme::Dark,
        }
    }

    /// Returns the name of the theme.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Theme::Dark => "dark",
            Theme::Light => "light",
            Theme::Plain => "no colour",
        }
    }

    /// Returns the style of a tone.
    pub(crate) fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        let color = |dark, light| match self {
            Theme::Dark => plain.fg(dark),
            Theme::Light => plain.fg(light),
            Theme::Plain => plain,
        };
        match tone {
            Tone::Plain => plain,
            Tone::Dim => plain.add_modifier(Modifier::DIM),
            Tone::Strong => plain.add_modifier(Modifier::BOLD),
            Tone::Title => color(Color::LightBlue, Color::Blue).add_modifier(Modifier::BOLD),
            Tone::Focus => {
                let focus = color(Color::LightYellow, Color::Magenta);
                focus.add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            }
            Tone::Bar => color(Color::Cyan, Color::Blue),
            Tone::Good => color(Color::LightGreen, Color::Green),
            Tone::Warning => color(Color::LightYellow, Color::Magenta),
            Tone::Loss => color(Color::LightRed, Color::Red).add_modifier(Modifier::BOLD),
            Tone::Selected => plain.add_modifier(Modifier::REVERSED),
            Tone::Series(at) => {
                let dark = [
                    Color::LightCyan,
                    Color::LightMagenta,
                    Color::LightYellow,
                    Color::LightGreen,
                    Color::LightRed,
                    Color::LightBlue,
                ];
                let light = [
                    Color::Blue,
                    Color::Magenta,
                    Color::Red,
                    Color::Green,
                    Color::Cyan,
                    Color::Black,
                ];
                color(dark[at % dark.len()], light[at % light.len()])
            }
        }
    }
}
