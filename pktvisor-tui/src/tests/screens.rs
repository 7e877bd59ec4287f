//! Snapshots of frames.

use crossterm::event::KeyCode;
use pktvisor_common::api::MetricsView;

use super::views::{evil, lossy, rich};
use super::{answer, app, fail, frame, minute, press, watching};
use crate::app::App;
use crate::event::Event;
use crate::screen::Screen;
use crate::update::update;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Compares each screen with its snapshot at each size. The app must start on the overview.
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
fn shows_rich_view() {
    screens("rich", |size| watching(&rich(), size));
}

#[test]
fn shows_empty_view() {
    screens("empty", |size| watching(&MetricsView::default(), size));
}

#[test]
fn shows_losses_on_every_screen() {
    screens("lossy", |size| watching(&lossy(), size));
}

#[test]
fn shows_malicious_names_safely() {
    screens("evil", |size| watching(&evil(), size));
}

#[test]
fn shows_age_of_stale_answer() {
    screens("stale", |size| {
        let mut app = watching(&rich(), size);
        fail(&mut app, 0, 75_000);
        app
    });
}

#[test]
fn marks_values_that_older_daemon_lacks() {
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
fn shows_state_before_first_answer() {
    let mut app = app(1, SIZES[0]);
    insta::assert_snapshot!("waiting", frame(&app));
    fail(&mut app, 0, 1_000);
    insta::assert_snapshot!("refused", frame(&app));
}

#[test]
fn shows_fleet() {
    let mut app = app(3, SIZES[1]);
    minute(&mut app, 0, &rich());
    minute(&mut app, 1, &lossy());
    fail(&mut app, 2, 61_000);
    insta::assert_snapshot!("fleet", frame(&app));
    press(&mut app, KeyCode::Char('n'));
    insta::assert_snapshot!("fleet_first", frame(&app));
}

#[test]
fn is_not_live_without_interfaces() {
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
fn lists_keys() {
    let mut app = watching(&rich(), SIZES[1]);
    press(&mut app, KeyCode::Char('?'));
    insta::assert_snapshot!("help", frame(&app));
}

#[test]
fn lists_all_keys_at_any_size() {
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
fn scrolls_facts() {
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
fn shows_selected_daemon_tab_on_narrow_terminal() {
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
fn zooms_panel() {
    let mut app = watching(&rich(), SIZES[0]);
    for _ in 0..7 {
        press(&mut app, KeyCode::Right);
    }
    press(&mut app, KeyCode::Enter);
    insta::assert_snapshot!("zoomed", frame(&app));
}

#[test]
fn reports_minimum_size_on_small_terminal() {
    let app = watching(&rich(), (30, 5));
    assert!(frame(&app).contains("40×10 needed"), "{}", frame(&app));
}

/// Sets each unsigned number to its maximum.
fn largest(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) if number.is_u64() => *value = u64::MAX.into(),
        serde_json::Value::Array(values) => values.iter_mut().for_each(largest),
        serde_json::Value::Object(values) => values.values_mut().for_each(largest),
        _ => {}
    }
}

/// Returns a view with the largest numbers possible.
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

/// No size, screen or name causes a panic or a control character.
#[test]
fn draws_any_size() {
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
