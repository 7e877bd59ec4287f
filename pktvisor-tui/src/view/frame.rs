//! The lines around the panels.

use pktvisor_common::report::number::{duration, si, time};
use pktvisor_common::report::text::{fit, width};
use pktvisor_common::report::{losses, printable};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::{Agent, App};
use crate::client::Period;
use crate::layout;
use crate::theme::Tone;

/// Draws the header: the daemon, the period, and whether the display is current.
pub(super) fn header(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let (state, tone) = state(app);
    let room = usize::from(area.width).saturating_sub(width(&state) + 1);
    let mut facts = vec!["fleet".to_owned(), period(app)];
    if let Some(past) = app.past() {
        facts[1] = past.limits();
        facts.extend(past.missing());
    } else if let Some(view) = app.view() {
        facts.push(time(view.period.start_ts));
        facts.push(format!("+ {}", duration(view.period.length)));
    }
    if let Some(agent) = app.agent() {
        facts[0] = printable(&agent.address);
        if let Some(answer) = &agent.answer {
            let capture = &answer.app.app.capture;
            let sources = [std::slice::from_ref(&capture.source), &capture.interfaces].concat();
            facts.push(printable(&sources.join(" ")));
        }
    }
    // Drop facts from the end until the rest fits, but keep the name.
    while facts.len() > 1 && width(&facts.join("  ")) > room {
        facts.pop();
    }
    let left = fit(&format!(" {}", facts.join("  ")), room);
    let blanks = " ".repeat((room + 1).saturating_sub(width(&left)));
    let line =
        Line::from(vec![app.span(Tone::Strong, left), Span::raw(blanks), app.span(tone, state)]);
    frame.render_widget(line, area);
}

fn period(app: &App) -> String {
    match app.shown_period() {
        Period::Bucket(0) => "this minute".to_owned(),
        Period::Bucket(1) => "previous minute".to_owned(),
        Period::Bucket(n) => format!("{n} minutes ago"),
        Period::Window(1) => "last minute".to_owned(),
        Period::Window(n) => format!("last {n} minutes"),
        Period::Range { .. } => "history".to_owned(),
    }
}

/// Returns whether the display is current, as text and tone.
fn state(app: &App) -> (String, Tone) {
    if app.paused.is_some() {
        return ("paused ".to_owned(), Tone::Warning);
    }
    let agents = app.shown_agents();
    let stale = agents.iter().filter_map(|agent| agent.stale(app.now, app.interval)).max();
    match stale {
        _ if app.agent().is_none() && app.answering() < agents.len() => {
            (format!("{} of {} answer ", app.answering(), agents.len()), Tone::Loss)
        }
        _ if agents.iter().all(|agent| agent.answer.is_none()) => {
            ("no answer ".to_owned(), Tone::Loss)
        }
        Some(age) => (format!("stale for {} ", duration(age / 1_000)), Tone::Loss),
        None if app.past().is_some() => ("history ".to_owned(), Tone::Warning),
        _ if agents.iter().all(has_ended) => ("■ ended ".to_owned(), Tone::Warning),
        _ if agents.iter().any(watches_nothing) => {
            let idle = agents.iter().filter(|agent| watches_nothing(agent)).count();
            let text = match agents.len() {
                1 => "no interface ".to_owned(),
                all => format!("{idle} of {all} without interface "),
            };
            (text, Tone::Loss)
        }
        None => ("● live ".to_owned(), Tone::Good),
    }
}

/// Returns true if the replay of a capture has ended.
fn has_ended(agent: &Agent) -> bool {
    agent.answer.as_ref().is_some_and(|answer| answer.app.app.capture.finished)
}

/// Returns true if no interface is watched any more.
fn watches_nothing(agent: &Agent) -> bool {
    agent.answer.as_ref().is_some_and(|answer| answer.app.app.capture.interfaces.is_empty())
}

pub(super) fn tabs(app: &App, frame: &mut Frame<'_>) {
    for (name, shown, _, area) in layout::tabs(app) {
        let area = area.intersection(frame.area());
        let tone = if shown { Tone::Selected } else { Tone::Plain };
        frame.render_widget(Line::from(app.span(tone, name)), area);
    }
}

/// Draws the line of losses, if anything was lost.
pub(super) fn loss(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(view) = app.view().filter(|_| area.height > 0) else { return };
    let mut text = " LOSS ".to_owned();
    for loss in losses(view) {
        let reason = format!(" {} {} ·", si(loss.count), printable(&loss.name));
        if width(&text) + width(&reason) > area.width.into() {
            text.push_str(" …");
            break;
        }
        text += &reason;
    }
    let text = fit(text.trim_end_matches('·'), area.width.into());
    frame.render_widget(Line::from(app.span(Tone::Loss, text)), area);
}

/// Draws the body before the first answer.
pub(super) fn waiting(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let failures = app.agents.iter().filter_map(|agent| {
        let (error, retry) = agent.failure.as_ref()?;
        let wait = duration(retry.saturating_sub(app.now).div_ceil(1_000));
        Some((printable(error), format!("retrying in {wait}")))
    });
    let mut lines = vec![Line::default()];
    for (error, retry) in failures {
        lines.push(Line::from(app.span(Tone::Loss, format!(" {error}"))));
        lines.push(Line::from(app.span(Tone::Dim, format!(" {retry}"))));
    }
    if lines.len() == 1 {
        lines.push(Line::from(app.span(Tone::Dim, " waiting for the first answer …")));
    }
    let wrap = ratatui::widgets::Wrap { trim: false };
    frame.render_widget(ratatui::widgets::Paragraph::new(lines).wrap(wrap), area);
}

/// Draws the search text, a message, the active search, or the most important keys.
pub(super) fn footer(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.width);
    let edited = |prompt: &str, text: &str, keys: &'static str| {
        let text = fit(text, room.saturating_sub(2 + width(prompt) + width(keys)));
        Line::from(vec![
            app.span(Tone::Strong, format!(" {prompt}{text}")),
            app.span(Tone::Selected, " "),
            app.span(Tone::Dim, keys),
        ])
    };
    let line = if app.searching {
        edited("/", &app.search, "   Enter keeps, Esc clears")
    } else if let (Some(text), None) = (&app.going_to, &app.message) {
        edited("go to ", text, "   such as -2h, 2026-11-01 10:00, -2h to -1h")
    } else if let Some((message, _)) = &app.message {
        Line::from(app.span(Tone::Warning, fit(&format!(" {message}"), room)))
    } else if app.search.is_empty() {
        let keys = " ?:keys Tab:screen 1…9:window [ ]:minute g:time z:zoom /:search p:pause q:quit";
        Line::from(app.span(Tone::Dim, keys))
    } else {
        let text = format!(" only rows with {:?}, Esc shows all", printable(&app.search));
        Line::from(app.span(Tone::Warning, fit(&text, room)))
    };
    frame.render_widget(line, area);
}
