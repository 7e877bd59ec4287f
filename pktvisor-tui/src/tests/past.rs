//! Tests of the ways through time.

use pktvisor_common::api::{HistoryState, Range, RangePart};
use pktvisor_common::moment::Moment;

use super::views::rich;
use super::*;
use crate::past::Past;

const SIZE: (u16, u16) = (120, 40);
/// End of the live minute.
const NOW: i64 = 1_700_000_060;

fn range(from: i64, to: i64) -> Period {
    Period::Range { from: Moment::At(from), to: Moment::At(to) }
}

fn ask(period: Period) -> Vec<Effect> {
    vec![Effect::Ask(period)]
}

/// Returns a dashboard of a daemon with a history.
fn watching_history() -> App {
    let mut app = app(1, SIZE);
    let mut answer = answer(&rich(), 60);
    answer.app.app.history = Some(HistoryState::default());
    update(&mut app, Event::Answered { agent: 0, at: 60_000, answer: Box::new(answer) });
    app
}

fn parts(from: i64, to: i64, step: i64) -> Range {
    let starts = (from..to).step_by(step as usize);
    let part = |from_ts: i64| RangePart {
        from_ts,
        to_ts: from_ts + step,
        covered: step.unsigned_abs() / 2,
        left_out: 0,
        full: true,
        metrics: rich(),
    };
    Range { from_ts: from, to_ts: to, step: None, parts: starts.map(part).collect() }
}

/// Delivers the answer to the range that was asked for.
fn show(app: &mut App, from: i64, to: i64) {
    let (mut past, view) = Past::of(parts(from, to, to - from)).unwrap();
    past.take_samples(&parts(from, to, 60));
    let mut answer = answer(&view, 60);
    (answer.asked, answer.period, answer.past) = (app.period, app.period, Some(past));
    answer.app.app.history = Some(HistoryState::default());
    update(app, Event::Answered { agent: 0, at: 61_000, answer: Box::new(answer) });
}

fn type_in(app: &mut App, text: &str) -> Vec<Effect> {
    press(app, KeyCode::Char('g'));
    text.chars().for_each(|c| drop(press(app, KeyCode::Char(c))));
    press(app, KeyCode::Enter)
}

#[test]
fn g_goes_to_times_and_ranges() {
    let mut app = watching_history();
    let hour = range(NOW - 7_200, NOW - 3_600);
    assert_eq!(type_in(&mut app, "-2h"), ask(hour));
    let to_now = Period::Range { from: Moment::At(NOW - 600), to: Moment::Ago(0) };
    assert_eq!(type_in(&mut app, "-10m"), ask(to_now));
    let day = Period::Range { from: Moment::At(1_699_920_000), to: Moment::Ago(7_200) };
    assert_eq!(type_in(&mut app, "2023-11-14 to -2h"), ask(day));
    assert!(type_in(&mut app, "soon").is_empty());
    assert!(frame(&app).contains("\"soon\" is not a time"), "{}", frame(&app));
    press(&mut app, KeyCode::Esc);
    assert!(app.going_to.is_none());
}

#[test]
fn brackets_walk_through_the_history() {
    let mut app = watching_history();
    // The oldest minute in memory is shown.
    let mut oldest = answer(&rich(), 60);
    (oldest.period, oldest.asked) = (Period::Bucket(4), Period::Bucket(4));
    oldest.app.app.history = Some(HistoryState::default());
    let minute = oldest.view.period.start_ts.div_euclid(60) * 60;
    app.period = Period::Bucket(4);
    update(&mut app, Event::Answered { agent: 0, at: 61_000, answer: Box::new(oldest) });
    assert_eq!(press(&mut app, KeyCode::Char('[')), ask(range(minute - 60, minute)));
    type_in(&mut app, "-3h");
    show(&mut app, NOW - 10_800, NOW - 7_200);
    assert_eq!(press(&mut app, KeyCode::Char('[')), ask(range(NOW - 14_400, NOW - 10_800)));
    assert_eq!(press(&mut app, KeyCode::Char(']')), ask(range(NOW - 10_800, NOW - 7_200)));
    assert_eq!(press(&mut app, KeyCode::Char(']')), ask(range(NOW - 7_200, NOW - 3_600)));
    assert_eq!(press(&mut app, KeyCode::Char('+')), ask(range(NOW - 10_800, NOW - 3_600)));
    assert_eq!(press(&mut app, KeyCode::Char('-')), ask(range(NOW - 7_200, NOW - 3_600)));
    show(&mut app, NOW - 3_600, NOW - 60);
    assert_eq!(press(&mut app, KeyCode::Char(']')), ask(Period::Bucket(0)));
}

#[test]
fn marked_ranges_are_summed_up() {
    let mut app = watching_history();
    type_in(&mut app, "-5h");
    show(&mut app, NOW - 18_000, NOW - 14_400);
    assert!(press(&mut app, KeyCode::Char('m')).is_empty());
    show(&mut app, NOW - 7_200, NOW - 3_600);
    assert_eq!(press(&mut app, KeyCode::Char('m')), ask(range(NOW - 18_000, NOW - 3_600)));
    press(&mut app, KeyCode::Char('m'));
    press(&mut app, KeyCode::Esc);
    assert!(app.mark.is_none());
}

#[test]
fn frames_of_the_past_name_their_limits_and_what_is_missing() {
    let mut app = watching_history();
    type_in(&mut app, "-2h");
    let end = 1_699_996_440;
    show(&mut app, end - 3_600, end);
    app.size.0 = 160;
    let text = frame(&app);
    let first = text.lines().next().unwrap();
    assert!(first.contains("2023-11-14 20:14 to 21:14 UTC (1h)"), "{first}");
    assert!(first.contains("packets were counted for 50 % of the time"), "{first}");
    assert!(first.ends_with("history"), "{first}");
    assert!(text.contains("20:15") && text.contains("21:14"), "the axis: {text}");
}

/// The daemon did not run for some hours.
#[test]
fn keys_go_on_through_ranges_without_anything() {
    let mut app = watching_history();
    type_in(&mut app, "-3h");
    show(&mut app, NOW - 10_800, NOW - 7_200);
    press(&mut app, KeyCode::Char('['));
    let fail = |app: &mut App, asked| {
        let error = "no data of this range".to_owned();
        let retry = Duration::from_secs(2);
        update(app, Event::Failed { agent: 0, at: 61_000, error, retry, asked })
    };
    assert!(fail(&mut app, range(1, 2)).is_empty(), "an earlier request");
    app.agents[0].failure = None;
    let shown = range(NOW - 10_800, NOW - 7_200);
    app.agents[0].answer.as_mut().unwrap().period = shown;
    assert_eq!(fail(&mut app, range(NOW - 14_400, NOW - 10_800)), ask(shown));
    assert!(frame(&app).contains("no data of this range"));
    assert!(app.agents[0].failure.is_none());
    assert_eq!(press(&mut app, KeyCode::Char('[')), ask(range(NOW - 18_000, NOW - 14_400)));
    // Before the answer arrives.
    assert_eq!(press(&mut app, KeyCode::Char('[')), ask(range(NOW - 21_600, NOW - 18_000)));
    assert_eq!(press(&mut app, KeyCode::Char(']')), ask(range(NOW - 18_000, NOW - 14_400)));
}
