//! The screens and their panels.

mod dns;
mod fleet;
mod health;
mod network;
mod overview;

use std::collections::BTreeMap;

use pktvisor_common::api::{Quantiles, TopEntry, Xact};
use pktvisor_common::report::number::{self, micros};

use crate::app::{App, Sort, Units};
use crate::history::{ByName, Sample};
use crate::panel::{Chart, Fact, Panel, Row, Series, Table};
use crate::theme::Tone;

/// A screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Screen {
    #[default]
    Overview,
    Dns,
    Network,
    Health,
}

impl Screen {
    /// All screens, in order.
    pub(crate) const ALL: [Self; 4] = [Self::Overview, Self::Dns, Self::Network, Self::Health];

    /// Returns the name of the screen.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Dns => "DNS",
            Self::Network => "Network",
            Self::Health => "Health",
        }
    }

    /// Returns the next screen.
    pub(crate) fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    /// Returns the previous screen.
    pub(crate) fn last(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }
}

/// Name of the direction neither in nor out.
const NEITHER: &str = "unknown";

/// Value of a sample in a chart.
type Value = fn(&Sample) -> f64;

/// Returns the panels of the selected screen: none before the first answer, except on *Health*.
pub(crate) fn panels(app: &App) -> Vec<Panel> {
    let mut panels = match app.screen {
        Screen::Health => health::panels(app),
        _ if app.view().is_none() => Vec::new(),
        Screen::Overview => overview::panels(app),
        Screen::Dns => dns::panels(app),
        Screen::Network => network::panels(app),
    };
    if app.agent().is_none() && app.screen == Screen::Overview {
        panels.insert(0, fleet::panel(app));
    }
    let answer = app.agent().and_then(|agent| agent.answer.as_ref());
    for fact in panels.iter_mut().flat_map(Panel::facts_mut) {
        if let (Some(field), Some(answer)) = (fact.field, answer)
            && answer.missing.iter().any(|missing| is_in(field, missing))
        {
            fact.absent();
        }
    }
    panels
}

/// Returns true if a JSON path equals `other` or lies below it.
fn is_in(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl App {
    /// Formats a count in the selected units.
    fn count(&self, n: u64) -> String {
        match self.units {
            Units::Exact => number::count(n),
            Units::Si => number::si(n),
        }
    }

    /// Formats bytes in the selected units.
    fn bytes(&self, n: u64) -> String {
        match self.units {
            Units::Exact => number::count(n),
            Units::Si => number::bytes(n),
        }
    }

    /// Formats a distinct count, or its bounds if they differ.
    fn distinct(&self, at_least: u64, at_most: Option<u64>) -> String {
        match at_most.filter(|&at_most| at_most > at_least) {
            Some(at_most) => format!("{}–{}", self.count(at_least), self.count(at_most)),
            None => self.count(at_least),
        }
    }

    /// Returns a count as a part of a whole.
    fn part(&self, name: &str, part: u64, whole: u64) -> Fact {
        Fact::new(name, self.count(part)).of(part, whole)
    }

    /// Returns a top list by count.
    fn top(&self, title: &str, entries: &[TopEntry], whole: u64) -> Panel {
        self.table(title, entries, whole, |n| self.count(n))
    }

    /// Returns a top list by bytes.
    fn top_bytes(&self, title: &str, entries: &[TopEntry], whole: u64) -> Panel {
        self.table(title, entries, whole, |n| self.bytes(n))
    }

    fn table(
        &self,
        title: &str,
        entries: &[TopEntry],
        whole: u64,
        text: impl Fn(u64) -> String,
    ) -> Panel {
        let wanted = self.search.to_lowercase();
        let row = |entry: &TopEntry| Row {
            name: entry.name.clone(),
            count: entry.estimate,
            text: text(entry.estimate),
            error: entry.error.unwrap_or(0),
        };
        let matches = |row: &Row| row.name.to_lowercase().contains(&wanted);
        let mut rows: Vec<Row> = entries.iter().map(row).filter(matches).collect();
        match self.sort {
            Sort::Count => rows.sort_by_key(|row| std::cmp::Reverse(row.count)),
            Sort::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        let panel = Panel::table(title, Table { rows, whole, all: entries.len() });
        let error = entries.iter().filter_map(|entry| entry.error).max().unwrap_or(0);
        if error > 0 { panel.note(format!("±{}", number::si(error))) } else { panel }
    }

    /// Returns a chart of fixed values of the samples.
    fn chart(&self, title: &str, unit: &'static str, series: &[(&str, Value)]) -> Panel {
        // Leave out an empty series of packets with neither direction.
        let is = |series: &Series| series.points.iter().any(|point| point.1 > 0.0);
        let series = series
            .iter()
            .map(|(name, value)| Series {
                name: (*name).to_owned(),
                points: self.points(|s| Some(value(s))),
            })
            .filter(|series| series.name != NEITHER || is(series));
        Panel::chart(title, Chart { series: series.collect(), unit })
    }

    /// Returns the values of the daemon that is shown, or the sums over the fleet.
    fn points(&self, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
        let now = self.paused.unwrap_or(self.now) as f64;
        let seconds = |at: u64| (at as f64 - now) / 1_000.0;
        if let Some(past) = self.past() {
            let end = past.to as f64;
            let point = |sample: &Sample| Some((sample.at as f64 / 1_000.0 - end, value(sample)?));
            return past.samples.iter().filter_map(point).collect();
        }
        let mut points: Vec<(f64, f64)> = match self.agent() {
            Some(agent) => {
                let point = |sample: &Sample| Some((seconds(sample.at), value(sample)?));
                agent.history.samples.iter().filter_map(point).collect()
            }
            None => self.sums(value).map(|(at, sum)| (seconds(at), sum)).collect(),
        };
        points.retain(|point| point.0 <= 0.0);
        points
    }

    /// Returns the sums over all daemons. Daemons answer at different times, so time is divided
    /// into slots of one interval. A daemon without an answer in a slot counts with the slot
    /// before. Unfinished slots are left out.
    fn sums(&self, value: impl Fn(&Sample) -> Option<f64>) -> impl Iterator<Item = (u64, f64)> {
        let slot = self.interval.max(1_000);
        let mut daemons: Vec<BTreeMap<u64, f64>> = Vec::new();
        let mut end = self.now / slot;
        for agent in &self.agents {
            let samples = &agent.history.samples;
            let values = samples.iter().filter_map(|s| Some((s.at / slot, value(s)?)));
            daemons.push(values.collect());
            if let Some(last) = samples.back()
                && agent.stale(self.now, self.interval).is_none()
            {
                end = end.min(last.at / slot);
            }
        }
        let first = daemons.iter().filter_map(|values| Some(*values.first_key_value()?.0)).min();
        (first.unwrap_or(end)..end).filter_map(move |at| {
            let values = daemons.iter().filter_map(|values| {
                values.get(&at).or_else(|| values.get(&at.checked_sub(1)?)).copied()
            });
            values.reduce(|sum, value| sum + value).map(|sum| ((at + 1) * slot, sum))
        })
    }

    /// Returns a chart of the largest named series of the samples.
    fn chart_by_name(
        &self,
        title: &str,
        unit: &'static str,
        of: fn(&Sample) -> &ByName<f64>,
    ) -> Panel {
        const MOST: usize = 4;
        let mut sums = BTreeMap::<&str, f64>::new();
        let agents = self.shown_agents().iter();
        let samples: Vec<&Sample> = match self.past() {
            Some(past) => past.samples.iter().collect(),
            None => agents.flat_map(|agent| &agent.history.samples).collect(),
        };
        for (name, value) in samples.into_iter().flat_map(of) {
            *sums.entry(name).or_default() += value;
        }
        let mut names: Vec<(&str, f64)> = sums.into_iter().filter(|(_, sum)| *sum > 0.0).collect();
        names.sort_by(|a, b| b.1.total_cmp(&a.1));
        let series = names.iter().take(MOST).map(|(name, _)| Series {
            name: pktvisor_common::report::printable(name),
            // Rates that are not known yet are left out, not shown as 0.
            points: self.points(|sample| match of(sample) {
                rates if rates.is_empty() => None,
                rates => Some(rates.get(*name).copied().unwrap_or(0.0)),
            }),
        });
        Panel::chart(title, Chart { series: series.collect(), unit })
    }
}

/// Returns charts of packets and bits over time.
fn traffic(app: &App) -> [Panel; 2] {
    let packets: [(&str, Value); 3] = [
        ("in", |sample| sample.packets_in),
        ("out", |sample| sample.packets_out),
        (NEITHER, |sample| sample.packets_neither),
    ];
    let bits: [(&str, Value); 3] = [
        ("in", |sample| sample.bits_in),
        ("out", |sample| sample.bits_out),
        (NEITHER, |sample| sample.bits_neither),
    ];
    [app.chart("Packets", "/s", &packets), app.chart("Bits", "b/s", &bits)]
}

/// Returns the tone of a count that should be 0.
fn warn(n: u64) -> Tone {
    if n > 0 { Tone::Warning } else { Tone::Plain }
}

/// Returns queries and replies that are not part of an answered transaction.
fn unpaired(app: &App, xact: &Xact) -> [Fact; 5] {
    let counts = &xact.counts;
    [
        Fact::new("timed out", app.count(counts.timed_out))
            .tone(warn(counts.timed_out))
            .field("/dns/xact/counts/timed_out"),
        Fact::new("unreachable", app.count(counts.unreachable))
            .tone(warn(counts.unreachable))
            .field("/dns/xact/counts/unreachable"),
        Fact::new("orphans", app.count(counts.orphans)).field("/dns/xact/counts/orphans"),
        Fact::new("duplicates", app.count(counts.duplicates)).field("/dns/xact/counts/duplicates"),
        Fact::new("open", app.count(xact.open)).field("/dns/xact/open"),
    ]
}

/// Returns the quantiles of a distribution.
fn quantiles(name: &str, quantiles: Option<Quantiles>, text: impl Fn(u64) -> String) -> Fact {
    let values = |q: Quantiles| [q.p50, q.p90, q.p95, q.p99].map(text).join(" ");
    Fact::new(name, quantiles.map_or_else(|| "—".to_owned(), values))
}

/// Returns the transactions by direction: counts and latencies.
fn directions(app: &App, xact: &Xact) -> Vec<Fact> {
    let all = [("in", &xact.inbound), ("out", &xact.outbound), (NEITHER, &xact.unknown)];
    let shown = || all.into_iter().filter(|(name, side)| *name != NEITHER || side.total > 0);
    let counts = shown().map(|(name, side)| app.part(name, side.total, xact.counts.total));
    let latencies =
        shown().map(|(name, side)| quantiles(&format!("time {name}"), side.quantiles_us, micros));
    counts.chain(latencies).collect()
}
