//! Several daemons shown as one.

use pktvisor_common::api::MetricsView;
use pktvisor_common::direction::Direction;
use pktvisor_common::sketch::key::FleetKey;
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::rates::{Minute, Rates};
use pktvisor_common::summary::state::{Terms, encode};
use pktvisor_common::time::Timestamp;

use super::{answer, app, fail, frame, press};
use crate::app::App;
use crate::client::Period;
use crate::event::Event;
use crate::fleet::Part;
use crate::update::update;

const SIZE: (u16, u16) = (120, 40);

/// Returns the state of a minute with this many packets, counted with one DNS port and the fleet
/// key of a seed.
fn state(minute: i64, packets: u64, port: u16, seed: u64) -> Vec<u8> {
    let mut summary = Summary { minute, ..Summary::default() };
    (summary.start, summary.end) =
        (Timestamp::from_minute(minute), Timestamp::from_minute(minute + 1));
    summary.rates = Rates::of(minute, Minute::default());
    summary.totals.packets[Direction::In] = packets;
    let terms = Terms { ports: vec![port], public_suffix: false, mask: None, names: None };
    encode(&summary, &terms, FleetKey::of_seed(seed).into())
}

/// Delivers an answer of a daemon with its part of the fleet.
fn part(app: &mut App, agent: usize, at: u64, asked: Period, part: Result<Part, String>) {
    let mut answer = Box::new(answer(&MetricsView::default(), at / 1_000));
    (answer.asked, answer.period, answer.part) = (asked, asked, Some(part));
    update(app, Event::Answered { agent, at, answer });
    update(app, Event::Tick(at + 1));
}

fn packets(app: &App) -> u64 {
    app.view().unwrap().packets.total
}

#[test]
fn adds_daemons_only_within_one_period() {
    let mut app = app(2, SIZE);
    let window = Period::Window(5);
    let of = |asked, packets| Ok(Part::of(asked, [Ok(state(7, packets, 53, 0))]).unwrap());
    part(&mut app, 0, 1_000, window, of(window, 10));
    assert_eq!((packets(&app), app.fleet.merged), (10, 1));
    part(&mut app, 1, 3_000, window, of(window, 5));
    assert_eq!((packets(&app), app.fleet.merged), (15, 2));

    // Parts of different periods are not added.
    press(&mut app, crossterm::event::KeyCode::Char('1'));
    assert!(frame(&app).contains("last 5 minutes"));
    part(&mut app, 0, 5_000, Period::Window(1), of(Period::Window(1), 3));
    assert_eq!((packets(&app), app.fleet.merged), (3, 1));
    assert!(frame(&app).contains("last minute"));
    assert!(frame(&app).contains("2 of 2 answer, 1 merged"), "{}", frame(&app));

    // A daemon that stops answering leaves the sum.
    part(&mut app, 1, 7_000, Period::Window(1), of(Period::Window(1), 4));
    assert_eq!(packets(&app), 7);
    fail(&mut app, 0, 8_000);
    part(&mut app, 1, 9_000, Period::Window(1), of(Period::Window(1), 4));
    assert_eq!(packets(&app), 4);
}

#[test]
fn names_daemons_that_cannot_be_merged() {
    let mut app = app(3, SIZE);
    let window = Period::Window(5);
    let of = |port| Ok(Part::of(window, [Ok(state(7, 10, port, 0))]).unwrap());
    part(&mut app, 0, 1_000, window, of(53));
    part(&mut app, 1, 2_100, window, of(54));
    part(&mut app, 2, 3_200, window, Err("it said no".to_owned()));
    assert_eq!((packets(&app), app.fleet.merged), (10, 1));
    assert_eq!(app.fleet.problems.len(), 2);
    let seen = frame(&app);
    assert!(seen.contains("3 of 3 answer, 1 merged; dns1.example.net"), "{seen}");
    assert!(Part::of(window, [Ok(b"no state".to_vec())]).is_err());
    assert!(Part::of(window, []).is_err());
}

#[test]
fn shows_distinct_counts_as_intervals_if_fleet_keys_differ() {
    let mut app = app(2, SIZE);
    let window = Period::Window(5);
    for (agent, at, seed) in [(0, 1_000, 0), (1, 2_100, 1)] {
        let state = state(7, 10, 53, seed);
        part(&mut app, agent, at, window, Ok(Part::of(window, [Ok(state)]).unwrap()));
    }
    assert_eq!((packets(&app), app.fleet.merged), (20, 2));
    assert_eq!(app.fleet.problems, ["2 different fleet keys; distinct counts are ranges"]);
    let view = app.fleet.view.as_mut().unwrap();
    (view.dns.cardinality.qname, view.dns.cardinality.qname_max) = (1_200, Some(3_400));
    let seen = frame(&app);
    assert!(seen.contains("1,200–3,400"), "{seen}");
}

#[test]
fn counts_minute_that_ends_between_two_requests_once() {
    let states = [state(7, 10, 53, 0), state(7, 12, 53, 0), state(6, 5, 53, 0)];
    let mut app = app(2, SIZE);
    let window = Period::Window(3);
    app.period = window;
    part(&mut app, 0, 1_000, window, Ok(Part::of(window, states.map(Ok)).unwrap()));
    assert_eq!(packets(&app), 17);
}

#[test]
fn adds_charts_in_whole_slots() {
    for (interval, phases) in [(1_000, [0, 700]), (200, [0, 130])] {
        let mut app = app(2, SIZE);
        app.interval = interval;
        for at in (0..60_000).step_by(interval as usize) {
            for (agent, phase) in phases.into_iter().enumerate() {
                let mut answer = Box::new(answer(&MetricsView::default(), 0));
                answer.rates.packets.inbound = 100;
                update(&mut app, Event::Answered { agent, at: at + phase, answer });
            }
        }
        let panels = crate::screen::panels(&app);
        assert_eq!(panels.len(), 1, "there is no summary yet");
        app.fleet.view = Some(MetricsView::default());
        let panels = crate::screen::panels(&app);
        let chart = panels.iter().find(|panel| panel.title == "Packets" && panel.note.is_empty());
        let crate::panel::Content::Chart(chart) = &chart.unwrap().content else { panic!() };
        let points = &chart.series[0].points;
        assert!(points.len() > 50, "{points:?}");
        assert!(points.iter().all(|point| (point.1 - 200.0).abs() < 1e-6), "{points:?}");
    }
}

#[test]
fn tracks_answers_while_paused() {
    let mut app = app(2, SIZE);
    for second in 1..30 {
        if second == 10 {
            press(&mut app, crossterm::event::KeyCode::Char(' '));
        }
        for agent in 0..2 {
            let answer = Box::new(answer(&MetricsView::default(), second));
            update(&mut app, Event::Answered { agent, at: second * 1_000, answer });
        }
    }
    let seen = frame(&app);
    assert!(seen.contains("2 of 2 answer") && seen.contains("paused"), "{seen}");
    assert!(!seen.contains("silent"), "{seen}");
}
