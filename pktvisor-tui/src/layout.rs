//! Where everything is on the terminal.

use pktvisor_common::report::losses;
use pktvisor_common::report::text::{fit, width};
use ratatui::layout::Rect;

use crate::app::App;
use crate::keys::BINDINGS;
use crate::panel::{Content, Panel};
use crate::screen::{Screen, panels};

/// Columns that a panel needs.
const PANEL: u16 = 38;
/// Columns between panels, and between screens and daemons.
const GAP: u16 = 2;
/// Panels abreast; more would be hard to follow.
const ABREAST: u16 = 5;
/// Columns of a daemon's tab at most, without blanks, and of the one for those before it.
const NAME: usize = 24;
const MORE: u16 = 3;
/// The smallest terminal.
pub(crate) const LEAST: (u16, u16) = (40, 10);

/// The parts of the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Areas {
    pub(crate) header: Rect,
    pub(crate) tabs: Rect,
    /// Without lines where nothing is lost.
    pub(crate) loss: Rect,
    pub(crate) body: Rect,
    pub(crate) footer: Rect,
}

/// The parts of a terminal of the app's size.
pub(crate) fn areas(app: &App) -> Areas {
    let (columns, lines) = app.size;
    let line = |at: u16, height: u16| Rect::new(0, at, columns, height);
    let lost = u16::from(app.view().is_some_and(|view| !losses(view).is_empty()));
    Areas {
        header: line(0, 1),
        tabs: line(1, 1),
        loss: line(2, lost),
        body: line(2 + lost, lines.saturating_sub(3 + lost)),
        footer: line(lines.saturating_sub(1), 1),
    }
}

/// Panels that fit abreast.
pub(crate) fn abreast(columns: u16) -> usize {
    ((columns + GAP) / (PANEL + GAP)).clamp(1, ABREAST).into()
}

/// Which panels stand in each line of panels.
pub(crate) fn grid(panels: &[Panel], abreast: usize) -> Vec<Vec<usize>> {
    let mut grid: Vec<Vec<usize>> = Vec::new();
    for (at, panel) in panels.iter().enumerate() {
        let alone = panel.wide || at > 0 && panels[at - 1].wide;
        match grid.last_mut() {
            Some(line) if !alone && line.len() < abreast => line.push(at),
            _ => grid.push(vec![at]),
        }
    }
    grid
}

/// Where panels are, so that the one in focus is wholly seen if that is possible.
pub(crate) fn place(app: &App, panels: &[Panel], body: Rect) -> Vec<(usize, Rect)> {
    if app.zoomed {
        return if app.focus < panels.len() { vec![(app.focus, body)] } else { Vec::new() };
    }
    let abreast = abreast(body.width);
    let grid = grid(panels, abreast);
    let height = |line: &[usize]| {
        line.iter().map(|&at| panels[at].height()).max().unwrap_or(0).try_into().unwrap_or(u16::MAX)
    };
    let heights: Vec<u16> = grid.iter().map(|line| height(line)).collect();
    let focus = grid.iter().position(|line| line.contains(&app.focus)).unwrap_or(0);
    let mut first = focus;
    let mut room = body.height.saturating_sub(heights.get(focus).copied().unwrap_or(0));
    while first > 0 && heights[first - 1] <= room {
        first -= 1;
        room -= heights[first];
    }
    let columns = (body.width - GAP * (abreast as u16 - 1)) / abreast as u16;
    let mut places = Vec::new();
    let mut top = body.y;
    for (line, needed) in grid.iter().zip(heights).skip(first) {
        let height = needed.min(body.bottom().saturating_sub(top));
        // A title and a row or two would not be worth it.
        if height < needed.min(5) {
            break;
        }
        for (place, &at) in line.iter().enumerate() {
            let (x, columns) = match panels[at].wide {
                true => (0, body.width),
                false => (place as u16 * (columns + GAP), columns),
            };
            places.push((at, Rect::new(x, top, columns, height)));
        }
        top += height;
    }
    places
}

/// The first row that is shown in a panel of so many lines.
pub(crate) fn first_row(app: &App, at: usize, panel: &Panel, lines: u16) -> usize {
    let room = usize::from(lines.saturating_sub(1)).max(1);
    match panel.content {
        _ if at != app.focus => 0,
        // A row of a table is chosen, facts are only scrolled.
        Content::Facts(_) => app.row,
        _ => (app.row + 1).saturating_sub(room),
    }
}

/// Columns of a key with its meaning.
pub(crate) const KEY: u16 = 39;

/// Keys abreast and one below the other, of the list of keys.
pub(crate) fn help(app: &App) -> (u16, u16) {
    let body = areas(app).body;
    let room = body.height.saturating_sub(2).max(1);
    let keys = BINDINGS.len() as u16;
    let abreast = keys.div_ceil(room).min(body.width.saturating_sub(2) / KEY).max(1);
    (abreast, keys.div_ceil(abreast).min(room))
}

/// Rows that can be chosen in the panel in focus, or lines that it can be scrolled to.
pub(crate) fn rows(app: &App, panels: &[Panel]) -> usize {
    match panels.get(app.focus).map(|panel| &panel.content) {
        Some(Content::Table(table)) => table.rows.len(),
        Some(Content::Facts(facts)) => {
            let places = place(app, panels, areas(app).body);
            let area = places.iter().find(|(at, _)| *at == app.focus).map(|(_, area)| area);
            let seen = area.map_or(0, |area| usize::from(area.height.saturating_sub(1)));
            facts.len().saturating_sub(seen) + 1
        }
        _ => 0,
    }
}

/// Names in the line of tabs, whether each is what is shown, and where each is.
pub(crate) fn tabs(app: &App) -> Vec<(String, bool, Target, Rect)> {
    let y = areas(app).tabs.y;
    let mut tabs = Vec::new();
    let mut x = 0;
    let mut add = |gap: u16, name: String, shown: bool, target: Target| {
        let columns = width(&name) as u16 + 2;
        tabs.push((format!(" {name} "), shown, target, Rect::new(x + gap, y, columns, 1)));
        x += gap + columns;
        x
    };
    for screen in Screen::ALL {
        add(0, screen.name().to_owned(), screen == app.screen, Target::Screen(screen));
    }
    if app.is_fleet() {
        let fleet = app.agents.len();
        let used = add(GAP, "Fleet".to_owned(), app.agent().is_none(), Target::Agent(fleet));
        let name = |at: usize| fit(&app.agents[at].address, NAME);
        // As many of those before the one that is shown are left out as its own tab needs.
        let columns = |first: usize, last: usize| -> usize {
            (first..=last).map(|at| width(&name(at)) + 2).sum()
        };
        let room = usize::from(app.size.0.saturating_sub(used + MORE));
        let shown = if app.agent().is_some() { app.shown } else { 0 };
        let first = (0..shown).find(|&first| columns(first, shown) <= room).unwrap_or(shown);
        if first > 0 {
            add(0, "…".to_owned(), false, Target::Agent(first - 1));
        }
        for at in first..fleet {
            add(0, name(at), app.shown == at, Target::Agent(at));
        }
    }
    // What has no room any more is hinted at.
    let end = app.size.0;
    if let Some(cut) = tabs.iter().position(|(_, _, _, area)| area.right() > end) {
        tabs.truncate(cut);
        if let Some((name, _, _, area)) = tabs.last_mut()
            && area.right() < end
        {
            name.push('…');
            area.width += 1;
        }
    }
    tabs
}

/// Something that can be pointed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Screen(Screen),
    /// A daemon, or the fleet behind the last one.
    Agent(usize),
    /// A panel and a row of it.
    Row(usize, usize),
}

/// What is at this place.
pub(crate) fn hit(app: &App, column: u16, line: u16) -> Option<Target> {
    let at = ratatui::layout::Position::new(column, line);
    let tab = tabs(app).into_iter().find(|(_, _, _, area)| area.contains(at));
    if let Some((_, _, target, _)) = tab {
        return Some(target);
    }
    let panels = panels(app);
    let places = place(app, &panels, areas(app).body);
    let &(panel, area) = places.iter().find(|(_, area)| area.contains(at))?;
    let row = match &panels[panel].content {
        Content::Table(_) => usize::from((line - area.y).saturating_sub(1)),
        _ => 0,
    };
    Some(Target::Row(panel, row + first_row(app, panel, &panels[panel], area.height)))
}
