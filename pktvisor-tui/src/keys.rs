//! Key bindings. The help is generated from them.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The action of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    NextScreen,
    LastScreen,
    Window(u64),
    Wider,
    Narrower,
    Live,
    Older,
    Newer,
    GoTo,
    Mark,
    Pause,
    NextAgent,
    LastAgent,
    Left,
    Right,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Zoom,
    Search,
    Sort,
    Copy,
    Units,
    Theme,
    Redraw,
    Help,
    Back,
    Quit,
}

/// Keys, their name and meaning in the help, and their action.
pub(crate) struct Binding {
    pub(crate) keys: &'static [KeyCode],
    pub(crate) control: bool,
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) action: Action,
}

const fn key(
    keys: &'static [KeyCode],
    name: &'static str,
    meaning: &'static str,
    action: Action,
) -> Binding {
    Binding { keys, control: false, name, meaning, action }
}

use KeyCode::Char;

/// All key bindings. Digits are not in `keys`: see [`action`].
pub(crate) const BINDINGS: &[Binding] = &[
    key(&[KeyCode::Tab], "Tab", "next screen", Action::NextScreen),
    key(&[KeyCode::BackTab], "Shift-Tab", "previous screen", Action::LastScreen),
    key(&[], "1…9", "last 1…9 minutes, merged", Action::Window(0)),
    key(&[Char('+'), Char('=')], "+", "longer period", Action::Wider),
    key(&[Char('-')], "-", "shorter period", Action::Narrower),
    key(&[Char('0')], "0", "current minute only", Action::Live),
    key(&[Char('[')], "[", "older period", Action::Older),
    key(&[Char(']')], "]", "newer period", Action::Newer),
    key(&[Char('g')], "g", "go to a time or range", Action::GoTo),
    key(&[Char('m')], "m", "mark, then sum up from it", Action::Mark),
    key(&[Char(' '), Char('p')], "Space, p", "pause or resume", Action::Pause),
    key(&[Char('}'), Char('n')], "}, n", "next daemon", Action::NextAgent),
    key(&[Char('{'), Char('b')], "{, b", "previous daemon", Action::LastAgent),
    key(&[KeyCode::Left, Char('h')], "←, h", "panel to the left", Action::Left),
    key(&[KeyCode::Right, Char('l')], "→, l", "panel to the right", Action::Right),
    key(&[KeyCode::Up, Char('k')], "↑, k", "row above, then panel above", Action::Up),
    key(&[KeyCode::Down, Char('j')], "↓, j", "row below, then panel below", Action::Down),
    key(&[KeyCode::PageUp], "PgUp", "panels above", Action::PageUp),
    key(&[KeyCode::PageDown], "PgDn", "panels below", Action::PageDown),
    key(&[KeyCode::Home], "Home", "first panel", Action::First),
    key(&[KeyCode::End, Char('G')], "End, G", "last panel", Action::Last),
    key(&[KeyCode::Enter, Char('z')], "Enter, z", "zoom in or out of the panel", Action::Zoom),
    key(&[Char('/')], "/", "filter rows by text", Action::Search),
    key(&[Char('s')], "s", "sort by count or name", Action::Sort),
    key(&[Char('y'), Char('c')], "y, c", "copy the row's name", Action::Copy),
    key(&[Char('u')], "u", "all digits or unit prefixes", Action::Units),
    key(&[Char('t')], "t", "theme: dark, light, plain", Action::Theme),
    Binding {
        keys: &[Char('l')],
        control: true,
        name: "Ctrl-L",
        meaning: "redraw",
        action: Action::Redraw,
    },
    key(&[Char('?'), KeyCode::F(1)], "?, F1", "show this list", Action::Help),
    key(&[KeyCode::Esc], "Esc", "leave list, search or zoom", Action::Back),
    key(&[Char('q')], "q", "quit", Action::Quit),
    Binding {
        keys: &[Char('c')],
        control: true,
        name: "Ctrl-C",
        meaning: "quit",
        action: Action::Quit,
    },
];

/// Returns the action of a key, if any.
pub(crate) fn action(key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if let (Char(digit @ '1'..='9'), false) = (key.code, control) {
        return digit.to_digit(10).map(|n| Action::Window(n.into()));
    }
    let bound = |b: &&Binding| b.control == control && b.keys.contains(&key.code);
    BINDINGS.iter().find(bound).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_no_key_twice() {
        let mut seen = Vec::new();
        for binding in BINDINGS {
            for key in binding.keys {
                assert!(!seen.contains(&(*key, binding.control)), "{key:?}");
                seen.push((*key, binding.control));
            }
        }
    }

    #[test]
    fn digits_choose_window() {
        let digit = KeyEvent::new(Char('7'), KeyModifiers::NONE);
        assert_eq!(action(digit), Some(Action::Window(7)));
        let live = KeyEvent::new(Char('0'), KeyModifiers::NONE);
        assert_eq!(action(live), Some(Action::Live));
        assert_eq!(action(KeyEvent::new(Char('x'), KeyModifiers::NONE)), None);
    }
}
