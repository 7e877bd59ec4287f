//! Frames by snapshot.

use crossterm::event::KeyCode;
use pktvisor_common::api::MetricsView;

use super::views::{evil, lossy, rich};
use super::{answer, app, fail, frame, minute, press, watching};
use crate::app::App;
use crate::event::Event;
use crate::screen::Screen;
use crate::update::update;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Holds each screen, from the overview on, to its snapshot at each size.
fn screens(name: &str, make: impl Fn((u16, u16)) -> App) {
    for size in SIZES {
        let mut app = make(size);
        for screen in Screen::ALL {
            assert_eq!(app.screen, screen);
            let name = format!("{name}_{}_{}", screen.name().to_lowercase(), size.0);
            insta::assert_snapshot!(name, frame(&app));
            press(&mut app, KeyCode::Tab);
        }
    }
}

#[test]
fn a_rich_view() {
    screens("rich", |size| watching(&rich(), size));
}

#[test]
fn an_empty_view() {
    screens("empty", |size| watching(&MetricsView::default(), size));
}

#[test]
fn losses_are_seen_at_once() {
    screens("lossy", |size| watching(&lossy(), size));
}

#[test]
fn evil_names_are_harmless() {
    screens("evil", |size| watching(&evil(), size));
}

#[test]
fn what_is_stale_says_since_when() {
    screens("stale", |size| {
        let mut app = watching(&rich(), size);
        fail(&mut app, 0, 75_000);
        app
    });
}

#[test]
fn what_an_older_daemon_does_not_tell_is_absent() {
    let mut app = app(1, SIZES[0]);
    let mut answer = Box::new(super::answer(&rich(), 1));
    answer.missing = vec!["/dns/wire_packets/nodata".to_owned(), "/packets/bytes".to_owned()];
    update(&mut app, Event::Answered { agent: 0, at: 1, answer });
    press(&mut app, KeyCode::Tab);
    let dns = frame(&app);
    assert!(dns.lines().any(|line| line.contains("no data") && line.contains('—')), "{dns}");
    assert!(dns.lines().any(|line| line.contains("truncated") && line.contains("120")), "{dns}");
    press(&mut app, KeyCode::Tab);
    let network = frame(&app);
    assert!(network.lines().any(|line| line.contains("bytes in") && line.contains('—')));
}

#[test]
fn no_answer_yet() {
    let mut app = app(1, SIZES[0]);
    insta::assert_snapshot!("waiting", frame(&app));
    fail(&mut app, 0, 1_000);
    insta::assert_snapshot!("refused", frame(&app));
}

#[test]
fn a_fleet() {
    let mut app = app(3, SIZES[1]);
    minute(&mut app, 0, &rich());
    minute(&mut app, 1, &lossy());
    fail(&mut app, 2, 61_000);
    insta::assert_snapshot!("fleet", frame(&app));
    press(&mut app, KeyCode::Char('n'));
    insta::assert_snapshot!("fleet_first", frame(&app));
}

#[test]
fn interfaces_that_are_gone_are_not_live() {
    let gone = |app: &mut App, agent| {
        let mut last = answer(&rich(), 60);
        last.app.app.capture.interfaces.clear();
        update(app, Event::Answered { agent, at: 61_000, answer: Box::new(last) });
    };
    let header = |app: &App| frame(app).lines().next().unwrap_or_default().to_owned();
    let mut one = watching(&rich(), SIZES[1]);
    assert!(header(&one).ends_with("● live"), "{}", header(&one));
    gone(&mut one, 0);
    assert!(header(&one).ends_with("no interface"), "{}", header(&one));
    let mut two = app(2, SIZES[1]);
    minute(&mut two, 0, &rich());
    gone(&mut two, 1);
    assert!(header(&two).ends_with("1 of 2 without interface"), "{}", header(&two));
}

#[test]
fn the_keys_are_listed() {
    let mut app = watching(&rich(), SIZES[1]);
    press(&mut app, KeyCode::Char('?'));
    insta::assert_snapshot!("help", frame(&app));
}

#[test]
fn all_keys_are_listed_on_any_terminal() {
    for size in [(40, 10), (60, 12), (80, 24), (200, 60)] {
        let mut app = watching(&rich(), size);
        press(&mut app, KeyCode::Char('?'));
        let mut seen = String::new();
        while app.help.is_some() {
            seen += &frame(&app);
            press(&mut app, KeyCode::Down);
        }
        for binding in crate::keys::BINDINGS {
            assert!(seen.contains(binding.meaning), "{size:?}: no {}", binding.meaning);
        }
        assert_eq!(seen.matches("any key closes").count(), 1);
    }
    let mut app = watching(&rich(), SIZES[0]);
    press(&mut app, KeyCode::Char('?'));
    insta::assert_snapshot!("help_80", frame(&app));
}

#[test]
fn facts_are_scrolled() {
    let mut app = watching(&rich(), (45, 12));
    app.screen = Screen::Health;
    press(&mut app, KeyCode::Right);
    assert!(frame(&app).contains("Daemon") && !frame(&app).contains("memory"), "{}", frame(&app));
    while !frame(&app).contains("memory") {
        press(&mut app, KeyCode::Down);
        assert_eq!(app.focus, 1, "{}", frame(&app));
    }
}

#[test]
fn many_daemons_have_tabs_on_a_narrow_terminal() {
    let mut app = app(9, SIZES[0]);
    for shown in 0..9 {
        press(&mut app, KeyCode::Char('n'));
        assert_eq!(app.shown, shown);
        let tabs = frame(&app).lines().nth(1).unwrap().to_owned();
        assert!(tabs.contains(&format!("dns{shown}.example")), "{tabs}");
        assert!(tabs.contains('…'), "{tabs}");
    }
}

#[test]
fn a_panel_in_full() {
    let mut app = watching(&rich(), SIZES[0]);
    for _ in 0..7 {
        press(&mut app, KeyCode::Right);
    }
    press(&mut app, KeyCode::Enter);
    insta::assert_snapshot!("zoomed", frame(&app));
}

#[test]
fn a_terminal_that_is_too_small_says_what_it_needs() {
    let app = watching(&rich(), (30, 5));
    assert!(frame(&app).contains("40×10 needed"), "{}", frame(&app));
}

/// Makes each number the largest there is.
fn largest(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) if number.is_u64() => *value = u64::MAX.into(),
        serde_json::Value::Array(values) => values.iter_mut().for_each(largest),
        serde_json::Value::Object(values) => values.values_mut().for_each(largest),
        _ => {}
    }
}

/// A view with the largest numbers there are.
fn extreme() -> MetricsView {
    let text = serde_json::to_string(&lossy()).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let period = value["period"].clone();
    largest(&mut value);
    value["period"] = period;
    let mut view: MetricsView = serde_json::from_value(value).unwrap();
    (view.period.start_ts, view.period.length) = (i64::MAX, u64::MAX);
    view
}

/// No size, screen or name leads to a panic, a control character or a line that is too long.
#[test]
fn every_size_holds() {
    for columns in (1..=210).step_by(7) {
        for lines in (1..=70).step_by(5) {
            for view in [rich(), lossy(), evil(), extreme(), MetricsView::default()] {
                let mut app = app(2, (columns, lines));
                let answer = Box::new(super::answer(&view, 1));
                update(&mut app, Event::Answered { agent: 1, at: 1, answer });
                app.shown = 1;
                for _ in Screen::ALL {
                    let text = frame(&app);
                    assert!(text.lines().all(|line| !line.chars().any(char::is_control)));
                    press(&mut app, KeyCode::End);
                    frame(&app);
                    press(&mut app, KeyCode::Char('z'));
                    frame(&app);
                    press(&mut app, KeyCode::Char('?'));
                    frame(&app);
                    press(&mut app, KeyCode::Esc);
                    press(&mut app, KeyCode::Tab);
                }
            }
        }
    }
}
