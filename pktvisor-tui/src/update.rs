//! Applies events to the state, without I/O or a clock.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEvent, MouseEventKind};

use crate::app::{App, MESSAGE, Sort, Units};
use crate::client::Period;
use crate::event::{Effect, Event};
use crate::keys::{Action, BINDINGS, action};
use crate::layout::{self, Target};
use crate::panel::Content;
use crate::screen::panels;
use crate::travel;

/// Maximum bytes of a text in the footer.
const LONGEST_TEXT: usize = 256;

/// Applies an event and returns the requested effects.
pub(crate) fn update(app: &mut App, event: Event) -> Vec<Effect> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Event::Key(key) if app.searching => search(app, key),
        Event::Key(key) if app.going_to.is_some() => go_to(app, key),
        Event::Key(key) => match action(key) {
            Some(action @ (Action::Quit | Action::Redraw)) => apply(app, action),
            _ if app.help.is_some() => turn_page(app),
            action => action.map_or_else(Vec::new, |action| apply(app, action)),
        },
        Event::Mouse(mouse) if app.help.is_some() => match mouse.kind {
            MouseEventKind::Down(_) => turn_page(app),
            _ => Vec::new(),
        },
        Event::Mouse(mouse) => on_mouse(app, mouse),
        Event::Resized => Vec::new(),
        Event::Tick(now) => {
            app.now = app.now.max(now);
            if app.message.as_ref().is_some_and(|(_, since)| app.now - since > MESSAGE) {
                app.message = None;
            }
            if app.agent().is_none() && app.paused.is_none() {
                app.fleet.merge(&app.agents, app.period, app.now, app.interval);
            }
            Vec::new()
        }
        Event::Answered { agent, at, mut answer } => {
            app.now = app.now.max(at);
            let paused = app.paused.is_some();
            let (index, agents) = (agent, app.agents.len());
            if let Some(agent) = app.agents.get_mut(agent) {
                agent.failure = None;
                agent.answered = Some(at);
                agent.history.note(at, &answer, app.interval);
                if !paused {
                    if let Some(part) = answer.part.take() {
                        agent.part = Some(part);
                        app.fleet.behind = true;
                    }
                    let nearest = answer.period;
                    if app.asked && answer.asked == app.period && nearest != answer.asked {
                        app.message =
                            Some((format!("only {nearest} is available so far"), app.now));
                    }
                    if index == app.shown || app.shown == agents {
                        app.asked = app.asked && answer.asked != app.period;
                    }
                    agent.answer = Some(*answer);
                }
            }
            clamp_focus(app);
            Vec::new()
        }
        Event::Failed { agent, at, error, retry, asked } => {
            app.now = app.now.max(at);
            if app.asked && app.shown == agent && asked == app.period && app.is_past() {
                // Stay where there is something to see.
                app.beyond = app.shown_limits();
                app.asked = false;
                app.period = app.shown_period();
                app.notify(error);
                return vec![Effect::Ask(app.period)];
            }
            if let Some(agent) = app.agents.get_mut(agent) {
                agent.failure = Some((error, at + retry.as_millis() as u64));
            }
            Vec::new()
        }
        Event::Ended => vec![Effect::Quit],
    }
}

/// The effect of a key on a text in the footer.
enum Edited {
    /// It changed the text or nothing.
    On,
    /// Enter: the text is complete.
    Done,
    /// Esc: the text is given up.
    GivenUp,
    /// A key that works everywhere.
    Effect(Effect),
}

/// Edits a text.
fn edit(text: &mut String, key: KeyEvent) -> Edited {
    match key.code {
        KeyCode::Enter => return Edited::Done,
        KeyCode::Esc => return Edited::GivenUp,
        KeyCode::Backspace => _ = text.pop(),
        KeyCode::Char(c) if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
            match action(key) {
                Some(Action::Quit) => return Edited::Effect(Effect::Quit),
                Some(Action::Redraw) => return Edited::Effect(Effect::Redraw),
                _ if c == 'u' => text.clear(),
                _ => {}
            }
        }
        KeyCode::Char(c) if !c.is_control() && text.len() < LONGEST_TEXT => text.push(c),
        _ => {}
    }
    Edited::On
}

/// Handles a key that edits the search text.
fn search(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    match edit(&mut app.search, key) {
        Edited::On => {}
        Edited::Done => app.searching = false,
        Edited::GivenUp => {
            app.searching = false;
            app.search.clear();
        }
        Edited::Effect(effect) => return vec![effect],
    }
    app.row = 0;
    Vec::new()
}

/// Handles a key that edits the time to go to.
fn go_to(app: &mut App, key: KeyEvent) -> Vec<Effect> {
    let Some(mut text) = app.going_to.take() else { return Vec::new() };
    match edit(&mut text, key) {
        Edited::On => app.going_to = Some(text),
        Edited::GivenUp => {}
        Edited::Effect(effect) => {
            app.going_to = Some(text);
            return vec![effect];
        }
        Edited::Done => match travel::range(&text, app.live_end(), app.past()) {
            Ok(period) => return ask(app, period),
            Err(error) => {
                app.going_to = Some(text);
                app.notify(error.to_string());
            }
        },
    }
    Vec::new()
}

fn apply(app: &mut App, action: Action) -> Vec<Effect> {
    match action {
        Action::NextScreen => switch_screen(app, app.screen.next()),
        Action::LastScreen => switch_screen(app, app.screen.last()),
        Action::Window(n) => return ask(app, Period::Window(n)),
        Action::Wider | Action::Narrower if app.is_past() => {
            return travel(app, travel::resized(app, action));
        }
        Action::Wider | Action::Narrower => {
            let n = if let Period::Window(n) = from(app) { n } else { 1 };
            let n = if action == Action::Wider {
                n.saturating_add(1)
            } else {
                n.saturating_sub(1).max(1)
            };
            return ask(app, Period::Window(n));
        }
        Action::Live => return ask(app, Period::Bucket(0)),
        Action::Older | Action::Newer if app.is_past() => {
            return travel(app, travel::next(app, action));
        }
        Action::Older if travel::is_oldest(app, from(app)) => {
            return travel(app, travel::next(app, action));
        }
        Action::Older => {
            let n = if let Period::Bucket(n) = from(app) { n.saturating_add(1) } else { 1 };
            return ask(app, Period::Bucket(n));
        }
        Action::Newer => {
            let n = if let Period::Bucket(n) = from(app) { n.saturating_sub(1) } else { 0 };
            return ask(app, Period::Bucket(n));
        }
        Action::GoTo | Action::Mark if app.agent().is_none() => {
            app.notify("the fleet has no ranges of time; show one of its daemons");
        }
        Action::GoTo => app.going_to = Some(String::new()),
        Action::Mark => match app.mark.take() {
            None => {
                app.mark = app.shown_limits();
                app.notify("marked; go to another time and press m to sum up all in between");
            }
            Some(mark) => return travel(app, travel::up_to_mark(app, mark)),
        },
        Action::Pause => app.paused = if app.paused.is_some() { None } else { Some(app.now) },
        Action::NextAgent => show(app, 1),
        Action::LastAgent => show(app, app.agents.len()),
        Action::Left => focus(app, app.focus.saturating_sub(1)),
        Action::Right => focus(app, app.focus + 1),
        Action::Up => up(app),
        Action::Down => down(app),
        Action::PageUp if app.zoomed => app.row = app.row.saturating_sub(page(app)),
        Action::PageDown if app.zoomed => app.row = app.row.saturating_add(page(app)),
        Action::First if app.zoomed => app.row = 0,
        Action::Last if app.zoomed => app.row = usize::MAX,
        Action::PageUp => focus(app, panel_in_line(app, -1)),
        Action::PageDown => focus(app, panel_in_line(app, 1)),
        Action::First => focus(app, 0),
        Action::Last => focus(app, usize::MAX),
        Action::Zoom => app.zoomed = !app.zoomed,
        Action::Search => app.searching = true,
        Action::Sort => {
            app.sort = if app.sort == Sort::Count { Sort::Name } else { Sort::Count };
            app.row = 0;
        }
        Action::Copy => return copy(app),
        Action::Units => {
            app.units = if app.units == Units::Exact { Units::Si } else { Units::Exact };
        }
        Action::Theme => {
            app.theme = app.theme.next();
            app.notify(format!("theme: {}", app.theme.name()));
        }
        Action::Redraw => return vec![Effect::Redraw],
        Action::Help => app.help = Some(0),
        Action::Back => {
            if app.search.is_empty() {
                app.zoomed = false;
            }
            app.search.clear();
            app.mark = None;
        }
        Action::Quit => return vec![Effect::Quit],
    }
    clamp_focus(app);
    Vec::new()
}

/// Returns the period that a step starts from: the requested one if unanswered, or else the one
/// shown.
fn from(app: &App) -> Period {
    if app.asked { app.period } else { app.shown_period() }
}

/// Requests a range, if there is one to request.
fn travel(app: &mut App, to: Option<Period>) -> Vec<Effect> {
    to.map_or_else(Vec::new, |period| ask(app, period))
}

/// Requests another period, limited to the minutes that are kept.
fn ask(app: &mut App, period: Period) -> Vec<Effect> {
    let periods = app.agents.iter().filter_map(|agent| Some(agent.answer.as_ref()?.app.app.kept()));
    let periods = periods.max().unwrap_or(u64::MAX).max(1);
    let allowed = match period {
        Period::Bucket(n) => Period::Bucket(n.min(periods - 1)),
        Period::Window(n) => Period::Window(n.min(periods)),
        Period::Range { .. } => period,
    };
    if allowed != period {
        app.notify(format!("the daemon keeps {periods} minutes (--periods)"));
    }
    app.period = allowed;
    app.asked = true;
    app.beyond = None;
    if app.paused.take().is_some() {
        app.notify("resumed");
    }
    vec![Effect::Ask(allowed)]
}

fn switch_screen(app: &mut App, screen: crate::screen::Screen) {
    app.screen = screen;
    (app.focus, app.row, app.zoomed) = (0, 0, false);
}

/// Shows the daemon this many places further on. The fleet follows the last daemon.
fn show(app: &mut App, places: usize) {
    if app.is_fleet() {
        app.shown = (app.shown + places) % (app.agents.len() + 1);
        (app.focus, app.row, app.zoomed) = (0, 0, false);
    }
}

fn focus(app: &mut App, to: usize) {
    app.focus = to;
    app.row = 0;
    clamp_focus(app);
}

/// Returns the panel this many rows of panels down or, if negative, up. Returns the focused one if
/// there is none.
fn panel_in_line(app: &App, lines: isize) -> usize {
    let grid = layout::grid(&panels(app), layout::abreast(app.size.0));
    let Some(line) = grid.iter().position(|line| line.contains(&app.focus)) else { return 0 };
    let place = app.focus - grid[line][0];
    let Some(to) = line.checked_add_signed(lines).and_then(|to| grid.get(to)) else {
        return app.focus;
    };
    to[place.min(to.len() - 1)]
}

/// Returns the number of rows on a page of a zoomed panel.
fn page(app: &App) -> usize {
    usize::from(layout::areas(app).body.height.saturating_sub(1)).max(1)
}

/// Shows the next page of the help, or closes it after the last one.
fn turn_page(app: &mut App) -> Vec<Effect> {
    let (abreast, lines) = layout::help(app);
    let next = app.help.unwrap_or(0) + usize::from(abreast * lines);
    app.help = Some(next).filter(|&next| next < BINDINGS.len());
    Vec::new()
}

fn up(app: &mut App) {
    if app.row > 0 {
        app.row -= 1;
    } else if !app.zoomed {
        let to = panel_in_line(app, -1);
        if to != app.focus {
            focus(app, to);
            app.row = usize::MAX;
            clamp_focus(app);
        }
    }
}

fn down(app: &mut App) {
    if app.row + 1 < layout::rows(app, &panels(app)) {
        app.row += 1;
    } else if !app.zoomed {
        let to = panel_in_line(app, 1);
        if to != app.focus {
            focus(app, to);
        }
    }
}

/// Limits the focus and the row to the panels that are shown.
fn clamp_focus(app: &mut App) {
    let panels = panels(app);
    app.focus = app.focus.min(panels.len().saturating_sub(1));
    app.row = app.row.min(layout::rows(app, &panels).saturating_sub(1));
}

fn copy(app: &mut App) -> Vec<Effect> {
    let panels = panels(app);
    let row = panels.get(app.focus).and_then(|panel| match &panel.content {
        Content::Table(table) => table.rows.get(app.row),
        _ => None,
    });
    let Some(row) = row else {
        app.notify("no row to copy here");
        return Vec::new();
    };
    let name = row.name.clone();
    app.notify(format!("copied {}", pktvisor_common::report::printable(&name)));
    vec![Effect::Copy(name)]
}

fn on_mouse(app: &mut App, mouse: MouseEvent) -> Vec<Effect> {
    match mouse.kind {
        MouseEventKind::ScrollUp => up(app),
        MouseEventKind::ScrollDown => down(app),
        MouseEventKind::Down(_) => match layout::hit(app, mouse.column, mouse.row) {
            Some(Target::Screen(screen)) => switch_screen(app, screen),
            Some(Target::Agent(agent)) => show(app, agent + app.agents.len() + 1 - app.shown),
            Some(Target::Row(panel, row)) => {
                focus(app, panel);
                app.row = row;
                clamp_focus(app);
            }
            None => {}
        },
        _ => {}
    }
    Vec::new()
}
