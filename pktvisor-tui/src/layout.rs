//! Layout of the terminal.

use pktvisor_common::report::losses;
use pktvisor_common::report::text::{fit, width};
use ratatui::layout::Rect;

use crate::app::App;
use crate::keys::BINDINGS;
use crate::panel::{Content, Panel};
use crate::screen::{Screen, panels};

/// Minimum width of a panel in columns.
const PANEL: u16 = 38;
/// Columns between panels, and between the tabs of screens and daemons.
const GAP: u16 = 2;
/// Maximum number of panels in a row. More would be hard to follow.
const ABREAST: u16 = 5;
/// Maximum columns of a daemon's tab without blanks, and columns of the tab `…` for daemons before.
const NAME: usize = 24;
const MORE: u16 = 3;
/// Minimum size of the terminal in columns and lines.
pub(crate) const LEAST: (u16, u16) = (40, 10);

/// Areas of the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Areas {
    pub(crate) header: Rect,
    pub(crate) tabs: Rect,
    /// Without height if nothing was lost.
    pub(crate) loss: Rect,
    pub(crate) body: Rect,
    pub(crate) footer: Rect,
}

/// Divides a terminal of the app's size into areas.
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

/// Returns the number of panels that fit in a row.
pub(crate) fn abreast(columns: u16) -> usize {
    ((columns + GAP) / (PANEL + GAP)).clamp(1, ABREAST).into()
}

/// Arranges panels in rows. Wide panels have a row of their own.
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

/// Places the panels so that the whole focused panel is visible if possible.
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
        // A title with one or two rows is not worth showing.
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

/// Returns the first visible row of a panel with this many lines.
pub(crate) fn first_row(app: &App, at: usize, panel: &Panel, lines: u16) -> usize {
    let room = usize::from(lines.saturating_sub(1)).max(1);
    match panel.content {
        _ if at != app.focus => 0,
        // A table keeps its selected row visible; facts only scroll.
        Content::Facts(_) => app.row,
        _ => (app.row + 1).saturating_sub(room),
    }
}

/// Columns of a key and its meaning in the help.
pub(crate) const KEY: u16 = 39;

/// Returns the columns and the rows of a page of the help, in keys.
pub(crate) fn help(app: &App) -> (u16, u16) {
    let body = areas(app).body;
    let room = body.height.saturating_sub(2).max(1);
    let keys = BINDINGS.len() as u16;
    let abreast = keys.div_ceil(room).min(body.width.saturating_sub(2) / KEY).max(1);
    (abreast, keys.div_ceil(abreast).min(room))
}

/// Returns the number of rows to select in the focused panel, or of lines to scroll it to.
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

/// Returns all tabs: name, whether it is selected, target, and area.
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
        // Skip as many daemons before the selected one as its tab needs to fit.
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
    // Mark that tabs were cut off.
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

/// A target of the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Screen(Screen),
    /// The index of a daemon. The number of daemons stands for the fleet.
    Agent(usize),
    /// The index of a panel and a row in it.
    Row(usize, usize),
}

/// Returns the target at a position.
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
