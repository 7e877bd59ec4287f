//! Effects of each key.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::views::rich;
use super::{answer, app, frame, minute, press, watching};
use crate::app::{App, Sort, Units};
use crate::client::Period;
use crate::event::{Effect, Event};
use crate::layout::{self, Target};
use crate::panel::Content;
use crate::screen::{Screen, panels};
use crate::theme::Theme;
use crate::update::update;

const SIZE: (u16, u16) = (120, 40);

fn char(app: &mut App, c: char) -> Vec<Effect> {
    press(app, KeyCode::Char(c))
}

fn control(app: &mut App, c: char) -> Vec<Effect> {
    update(app, Event::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)))
}

/// Returns the title of the focused panel.
fn focused(app: &App) -> String {
    panels(app)[app.focus].title.clone()
}

fn focus_on(app: &mut App, title: &str) {
    press(app, KeyCode::Home);
    while focused(app) != title {
        press(app, KeyCode::Right);
    }
}

/// Returns the name in the selected row.
fn chosen(app: &App) -> String {
    match &panels(app)[app.focus].content {
        Content::Table(table) => table.rows[app.row].name.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cycles_through_screens() {
    let mut app = watching(&rich(), SIZE);
    for screen in [Screen::Dns, Screen::Network, Screen::Health, Screen::Overview] {
        press(&mut app, KeyCode::Tab);
        assert_eq!(app.screen, screen);
    }
    press(&mut app, KeyCode::BackTab);
    assert_eq!(app.screen, Screen::Health);
}

#[test]
fn limits_requested_periods_to_those_kept() {
    let mut app = watching(&rich(), SIZE);
    let ask = |period| vec![Effect::Ask(period)];
    assert_eq!(char(&mut app, '3'), ask(Period::Window(3)));
    assert_eq!(char(&mut app, '-'), ask(Period::Window(2)));
    assert_eq!(char(&mut app, '+'), ask(Period::Window(3)));
    assert_eq!(char(&mut app, '9'), ask(Period::Window(5)));
    assert!(app.message.is_some());
    assert_eq!(char(&mut app, '0'), ask(Period::Bucket(0)));
    assert_eq!(char(&mut app, '['), ask(Period::Bucket(1)));
    assert_eq!(char(&mut app, '['), ask(Period::Bucket(2)));
    assert_eq!(char(&mut app, ']'), ask(Period::Bucket(1)));
    for _ in 0..9 {
        char(&mut app, '[');
    }
    assert_eq!(app.period, Period::Bucket(4));
}

#[test]
fn keeps_view_while_paused() {
    let mut app = watching(&rich(), SIZE);
    char(&mut app, ' ');
    let before = app.view().unwrap().packets.total;
    let mut view = rich();
    view.packets.total += 1;
    let event = |at| Event::Answered { agent: 0, at, answer: Box::new(answer(&view, 61)) };
    update(&mut app, event(61_000));
    assert_eq!(app.view().unwrap().packets.total, before);
    assert!(frame(&app).contains("paused"));
    char(&mut app, 'p');
    update(&mut app, event(62_000));
    assert_eq!(app.view().unwrap().packets.total, before + 1);
}

#[test]
fn cycles_through_daemons_and_fleet() {
    let mut app = app(2, SIZE);
    minute(&mut app, 0, &rich());
    assert_eq!(app.shown, 2);
    for shown in [0, 1, 2] {
        char(&mut app, 'n');
        assert_eq!(app.shown, shown);
    }
    char(&mut app, '{');
    assert_eq!(app.shown, 1);
}

#[test]
fn moves_focus_between_panels() {
    let mut app = watching(&rich(), SIZE);
    let abreast = layout::abreast(SIZE.0);
    assert_eq!(app.focus, 0);
    press(&mut app, KeyCode::Left);
    assert_eq!(app.focus, 0);
    press(&mut app, KeyCode::Right);
    assert_eq!(app.focus, 1);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.focus, 1 + abreast);
    char(&mut app, 'k');
    assert_eq!(app.focus, 1);
    press(&mut app, KeyCode::PageDown);
    press(&mut app, KeyCode::PageDown);
    assert_eq!(app.focus, 1 + 2 * abreast);
    press(&mut app, KeyCode::PageUp);
    assert_eq!(app.focus, 1 + abreast);
    press(&mut app, KeyCode::End);
    assert_eq!(app.focus, panels(&app).len() - 1);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Right);
    assert_eq!(app.focus, panels(&app).len() - 1);
    // The focused panel is visible.
    assert!(frame(&app).contains(&focused(&app)));
}

#[test]
fn selects_sorts_searches_and_copies_rows() {
    let mut app = watching(&rich(), SIZE);
    focus_on(&mut app, "QName2");
    let first = chosen(&app);
    press(&mut app, KeyCode::Down);
    let second = chosen(&app);
    assert_ne!(first, second);
    assert_eq!(char(&mut app, 'y'), vec![Effect::Copy(second.clone())]);
    press(&mut app, KeyCode::Up);
    assert_eq!(chosen(&app), first);

    char(&mut app, 's');
    assert_eq!((app.sort, app.row), (Sort::Name, 0));
    let Content::Table(table) = &panels(&app)[app.focus].content else { panic!() };
    assert!(table.rows.is_sorted_by(|a, b| a.name <= b.name));
    char(&mut app, 's');

    char(&mut app, '/');
    for c in second.to_uppercase().chars() {
        char(&mut app, c);
    }
    // Keys now edit the search text.
    assert!(app.searching && frame(&app).contains(&second.to_uppercase()));
    press(&mut app, KeyCode::Enter);
    assert_eq!(chosen(&app), second);
    press(&mut app, KeyCode::Esc);
    assert_eq!((app.search.as_str(), chosen(&app)), ("", first));

    char(&mut app, '/');
    char(&mut app, 'x');
    char(&mut app, 'q');
    press(&mut app, KeyCode::Backspace);
    assert_eq!(app.search, "x");
    press(&mut app, KeyCode::Esc);
    assert!(!app.searching && app.search.is_empty());

    press(&mut app, KeyCode::Home);
    assert_eq!(char(&mut app, 'c'), vec![]);
    assert!(app.message.as_ref().unwrap().0.contains("no row"));
}

#[test]
fn scrolls_to_selected_row() {
    let mut app = watching(&rich(), (80, 12));
    focus_on(&mut app, "QName2");
    char(&mut app, 'z');
    let Content::Table(table) = &panels(&app)[app.focus].content else { panic!() };
    let last = table.rows.last().unwrap().name.clone();
    for _ in 0..table.rows.len() {
        press(&mut app, KeyCode::Down);
    }
    assert_eq!(chosen(&app), last);
    assert!(frame(&app).contains(&last));
}

#[test]
fn toggles_zoom_units_theme_and_help() {
    let mut app = watching(&rich(), SIZE);
    press(&mut app, KeyCode::Enter);
    assert!(app.zoomed);
    press(&mut app, KeyCode::Esc);
    assert!(!app.zoomed);
    char(&mut app, 'u');
    assert_eq!(app.units, Units::Si);
    for theme in [Theme::Light, Theme::Plain, Theme::Dark] {
        char(&mut app, 't');
        assert_eq!(app.theme, theme);
    }
    char(&mut app, '?');
    assert!(frame(&app).contains("any key closes"));
    char(&mut app, 'z');
    assert!(app.help.is_none() && !app.zoomed);
    // A key without an action closes the help too.
    char(&mut app, '?');
    char(&mut app, 'x');
    assert!(app.help.is_none());
}

#[test]
fn quits_on_keys_and_signals() {
    let mut app = watching(&rich(), SIZE);
    assert_eq!(char(&mut app, 'q'), vec![Effect::Quit]);
    assert_eq!(control(&mut app, 'c'), vec![Effect::Quit]);
    assert_eq!(control(&mut app, 'l'), vec![Effect::Redraw]);
    assert_eq!(update(&mut app, Event::Ended), vec![Effect::Quit]);
    char(&mut app, '?');
    assert_eq!(char(&mut app, 'q'), vec![Effect::Quit]);
    char(&mut app, ' ');
    char(&mut app, '/');
    assert_eq!(char(&mut app, 'q'), vec![]);
    assert_eq!(control(&mut app, 'c'), vec![Effect::Quit]);
}

#[test]
fn mouse_selects_tabs_and_rows() {
    let mut app = watching(&rich(), SIZE);
    let mouse = |kind, column, row| {
        Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
    };
    let click = MouseEventKind::Down(MouseButton::Left);
    let (_, _, _, network) = layout::tabs(&app)
        .into_iter()
        .find(|(_, _, target, _)| *target == Target::Screen(Screen::Network))
        .unwrap();
    update(&mut app, mouse(click, network.x + 1, network.y));
    assert_eq!(app.screen, Screen::Network);

    let panels = panels(&app);
    let table = panels.iter().position(|panel| panel.title == "IPv4").unwrap();
    let places = layout::place(&app, &panels, layout::areas(&app).body);
    let &(_, area) = places.iter().find(|(at, _)| *at == table).unwrap();
    update(&mut app, mouse(click, area.x + 2, area.y + 2));
    assert_eq!((app.focus, app.row), (table, 1));
    update(&mut app, mouse(MouseEventKind::ScrollDown, 0, 0));
    assert_eq!(app.row, 2);
    update(&mut app, mouse(MouseEventKind::ScrollUp, 0, 0));
    assert_eq!(app.row, 1);
    // Click on an empty place.
    update(&mut app, mouse(click, 119, 1));
    assert_eq!((app.focus, app.row), (table, 1));
}

#[test]
fn hides_message_after_its_time() {
    let mut app = watching(&rich(), SIZE);
    char(&mut app, 't');
    assert!(frame(&app).contains("theme: light"));
    update(&mut app, Event::Tick(70_000));
    assert!(!frame(&app).contains("theme: light"));
}
