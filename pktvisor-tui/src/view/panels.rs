//! Drawing of panels.

use pktvisor_common::report::number::{percent, share, si, time};
use pktvisor_common::report::text::{bar, fit, width};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Chart as Plot, Dataset, GraphType, Paragraph};

use crate::app::App;
use crate::layout::first_row;
use crate::panel::{Chart, Content, Fact, Panel, Table};
use crate::theme::{Theme, Tone};

/// Columns of ` 100.0%`.
const PERCENT: usize = 7;
/// Maximum columns of a bar.
const BAR: usize = 8;
/// Minimum columns of a bar if names and bars share at least [`LONG_NAME`] columns.
const SHORT_BAR: usize = 3;
const LONG_NAME: usize = 26;
/// Minimum number of series whose names have a line of their own.
const MANY: usize = 3;
/// Columns of a row's error in a zoomed table, shown if the table has more than [`WIDE`] columns.
const ERROR: usize = 8;
const WIDE: usize = 60;
/// Minimum time range of a chart in seconds.
const SPAN: f64 = 60.0;
/// Seconds of a day.
const DAY: i64 = 86_400;

pub(super) fn panel(app: &App, frame: &mut Frame<'_>, panel: &Panel, at: usize, area: Rect) {
    let [title, body] = [
        Rect { height: 1, ..area },
        Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area },
    ];
    frame.render_widget(heading(app, panel, at == app.focus, title.width.into()), title);
    let columns = usize::from(body.width);
    match &panel.content {
        Content::Facts(values) => {
            let first = first_row(app, at, panel, area.height);
            let lines = facts(app, values, panel.wide || app.zoomed, columns);
            let lines: Vec<_> = lines.into_iter().skip(first).collect();
            let seen = usize::from(body.height);
            frame.render_widget(Paragraph::new(lines), body);
            if first + seen < values.len() && body.height > 0 {
                let last = Rect { x: body.right() - 1, y: body.bottom() - 1, width: 1, height: 1 };
                frame.render_widget(Line::from(app.span(Tone::Warning, "↓")), last);
            }
        }
        Content::Table(values) => {
            let first = first_row(app, at, panel, area.height);
            let selected = (at == app.focus).then_some(app.row);
            frame.render_widget(Paragraph::new(table(app, values, first, selected, columns)), body);
        }
        Content::Chart(values) => chart(app, frame, values, body),
    }
}

/// Returns the title, the note, and a rule up to the end of the panel.
fn heading<'a>(app: &App, panel: &'a Panel, focused: bool, columns: usize) -> Line<'a> {
    let tone = if focused { Tone::Focus } else { Tone::Title };
    let mut spans = vec![app.span(tone, fit(&panel.title, columns))];
    if !panel.note.is_empty() {
        // In a wide panel the note may be a sentence. Cut it instead of leaving it out.
        let room =
            if panel.wide { columns.saturating_sub(width(&panel.title) + 1) } else { usize::MAX };
        spans.push(app.span(Tone::Plain, format!(" {}", fit(&panel.note, room))));
    }
    if let Content::Chart(Chart { series, unit }) = &panel.content
        && series.len() < MANY
    {
        for (at, line) in series.iter().enumerate() {
            let last = line.points.last().map_or(0.0, |point| point.1);
            spans.push(app.span(
                Tone::Series(at),
                format!("  {} {}{unit}", line.name, si(last.round() as u64)),
            ));
        }
    }
    let mut used = 0;
    spans.retain(|span| {
        let columns_of = width(&span.content);
        let fits = used == 0 || used + columns_of <= columns;
        used += if fits { columns_of } else { 0 };
        fits
    });
    let rule = columns.saturating_sub(used + 1);
    spans.push(app.span(Tone::Dim, format!(" {}", "─".repeat(rule))));
    Line::from(spans)
}

fn facts<'a>(app: &App, facts: &'a [Fact], wide: bool, columns: usize) -> Vec<Line<'a>> {
    let widest = |text: fn(&Fact) -> &str| facts.iter().map(|f| width(text(f))).max().unwrap_or(0);
    let names = widest(|fact| &fact.name).min(columns / 2);
    // Long values without a bar must not take the room of the bars.
    let of_shares = facts.iter().filter(|fact| fact.share.is_some());
    let values = of_shares.map(|fact| width(&fact.value)).max();
    let values = values.unwrap_or_else(|| widest(|fact| &fact.value));
    let values = values.min(columns.saturating_sub(names + 1));
    let line = |fact: &'a Fact| {
        let name = pad(fit(&fact.name, names), names);
        let room = columns.saturating_sub(names + 2);
        let value = if wide && fact.share.is_none() {
            format!("  {}", fit(&fact.value, room))
        } else {
            let values = if fact.share.is_some() { values } else { width(&fact.value).max(values) };
            let values = values.min(columns.saturating_sub(names + 1));
            let value = fit(&fact.value, values);
            format!(" {}{value}", " ".repeat(values.saturating_sub(width(&value))))
        };
        let mut used = names + width(&value);
        let mut spans = vec![app.span(Tone::Plain, name), app.span(fact.tone, value)];
        if let Some((part, whole)) = fact.share
            && used + PERCENT <= columns
        {
            let percent = percent(part, whole);
            spans.push(app.span(Tone::Dim, format!("{percent:>PERCENT$}")));
            used += PERCENT;
            if columns > used + 2 {
                let bar = bar(share(part, whole), (columns - used - 1).min(2 * BAR));
                spans.push(app.span(Tone::Bar, format!(" {bar}")));
            }
        }
        Line::from(spans)
    };
    facts.iter().map(line).collect()
}

fn table<'a>(
    app: &App,
    table: &'a Table,
    first: usize,
    selected: Option<usize>,
    columns: usize,
) -> Vec<Line<'a>> {
    if table.rows.is_empty() {
        let why = if table.all > 0 { "no row matches" } else { "none" };
        return vec![Line::from(app.span(Tone::Dim, why))];
    }
    let counts = table.rows.iter().map(|row| width(&row.text)).max().unwrap_or(0);
    let most = table.rows.iter().map(|row| row.count).max().unwrap_or(0);
    let shares = if table.whole > 0 { PERCENT } else { 0 };
    // Bars get the columns that names leave, and a minimum beside long names.
    let errors = if app.zoomed && columns > WIDE { ERROR } else { 0 };
    let room = columns.saturating_sub(counts + errors + shares + 1);
    let longest = table.rows.iter().map(|row| width(&fit(&row.name, room))).max().unwrap_or(0);
    let least = if room >= LONG_NAME { SHORT_BAR + 1 } else { 0 };
    let bars = (room - longest).clamp(least, BAR + 1);
    let names = room - bars;
    let line = |(at, row): (usize, &'a crate::panel::Row)| {
        let name = pad(fit(&row.name, names), names);
        let tone = if selected == Some(at) { Tone::Selected } else { Tone::Plain };
        let mut spans =
            vec![app.span(tone, name), app.span(Tone::Strong, format!(" {:>counts$}", row.text))];
        if errors > 0 {
            let error = if row.error > 0 { format!("±{}", si(row.error)) } else { String::new() };
            spans.push(app.span(Tone::Dim, format!("{error:>errors$}")));
        }
        if shares > 0 {
            let text = percent(row.count, table.whole);
            spans.push(app.span(Tone::Dim, format!("{text:>PERCENT$}")));
        }
        if bars > 1 {
            let bar = bar(share(row.count, most), bars - 1);
            spans.push(app.span(Tone::Bar, format!(" {bar}")));
        }
        Line::from(spans)
    };
    table.rows.iter().enumerate().skip(first).map(line).collect()
}

fn chart(app: &App, frame: &mut Frame<'_>, chart: &Chart, mut area: Rect) {
    // The names of many series do not fit beside the title.
    if chart.series.len() >= MANY && area.height > 0 {
        let mut spans = Vec::new();
        let columns = (usize::from(area.width) / chart.series.len()).max(1);
        for (at, series) in chart.series.iter().enumerate() {
            let text = pad(fit(&series.name, columns - 1), columns);
            spans.push(app.span(Tone::Series(at), text));
        }
        frame.render_widget(Line::from(spans), Rect { height: 1, ..area });
        (area.y, area.height) = (area.y + 1, area.height - 1);
    }
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let most = points().map(|point| point.1).fold(1.0, f64::max);
    let oldest = points().map(|point| point.0).fold(-SPAN, f64::min);
    let datasets = chart.series.iter().enumerate().map(|(at, series)| {
        Dataset::default()
            // Without colours, markers distinguish the series.
            .marker(match app.theme {
                Theme::Plain if at > 0 => Marker::Dot,
                _ => Marker::Braille,
            })
            .graph_type(GraphType::Line)
            .style(app.theme.style(Tone::Series(at)))
            .data(&series.points)
    });
    let label = |text: String| app.span(Tone::Dim, text);
    let x = Axis::default()
        .bounds([oldest, 0.0])
        .style(app.theme.style(Tone::Dim))
        .labels(times(app, oldest).map(label));
    let y = Axis::default()
        .bounds([0.0, most])
        .style(app.theme.style(Tone::Dim))
        .labels([label("0".to_owned()), label(si(most.round() as u64))]);
    let plot = Plot::new(datasets.collect()).x_axis(x).y_axis(y).legend_position(None);
    frame.render_widget(plot, area);
}

/// Returns the labels of the two ends of a time axis.
fn times(app: &App, oldest: f64) -> [String; 2] {
    match app.past() {
        Some(past) => {
            let from = past.to.saturating_add(oldest as i64);
            let is_short = past.to.saturating_sub(from) <= DAY;
            // The header has the year, and over a day the time is enough.
            let digits = if is_short { 11..16 } else { 5..16 };
            [from, past.to].map(|unix| {
                let time = time(unix);
                time.get(digits.clone()).unwrap_or(&time).to_owned()
            })
        }
        None => [format!("{oldest:.0} s"), "now".to_owned()],
    }
}

/// Pads a text with blanks.
fn pad(text: String, columns: usize) -> String {
    let blanks = columns.saturating_sub(width(&text));
    text + &" ".repeat(blanks)
}
