//! What the dashboard knows, and how it is looked at.

use std::collections::{BTreeMap, VecDeque};

use pktvisor_common::api::{MetricsView, Process, RatesInOut, TopEntry};
use pktvisor_common::report::{Loss, losses};

use crate::client::Period;
use crate::event::{Answer, Millis};
use crate::fleet::Fleet;
use crate::screen::Screen;
use crate::theme::Theme;

/// Seconds that charts go back.
pub(crate) const HISTORY: usize = 300;
/// Seconds over which rates are made from counts, which are those of whole seconds.
const SPAN: i64 = 5;
/// An answer that is older than this is stale, in milliseconds, with the interval added.
const STALE: Millis = 2_000;
/// How long a message stands, in milliseconds.
pub(crate) const MESSAGE: Millis = 4_000;

/// What was measured within a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Millis,
    pub(crate) packets_in: f64,
    pub(crate) packets_out: f64,
    /// Neither in nor out.
    pub(crate) packets_neither: f64,
    pub(crate) bits_in: f64,
    pub(crate) bits_out: f64,
    pub(crate) bits_neither: f64,
    pub(crate) dns: f64,
    /// Replies by response code, the most frequent ones.
    pub(crate) rcodes: BTreeMap<String, f64>,
    /// Questions by type, the most frequent ones.
    pub(crate) qtypes: BTreeMap<String, f64>,
    /// Losses by reason.
    pub(crate) losses: BTreeMap<String, f64>,
    /// Percent of a processor that the daemon takes.
    pub(crate) cpu_pct: f64,
}

/// A daemon that is watched.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Where it is.
    pub(crate) address: String,
    /// What it said last.
    pub(crate) answer: Option<Answer>,
    /// When that was.
    pub(crate) answered: Option<Millis>,
    /// The byte forms of its buckets, of which the fleet is merged.
    pub(crate) states: Vec<Vec<u8>>,
    /// Why it does not answer, and when it is asked again.
    pub(crate) failure: Option<(String, Millis)>,
    /// The last minutes.
    pub(crate) history: VecDeque<Sample>,
    /// The live bucket and the cost of an answer before, and when it came.
    before: Option<(Millis, MetricsView, Process)>,
}

impl Agent {
    /// An agent that has not been asked yet.
    pub(crate) fn new(address: String) -> Self {
        Self { address, ..Self::default() }
    }

    /// For how long there has been no answer, in milliseconds, where that is too long.
    pub(crate) fn stale(&self, now: Millis, interval: Millis) -> Option<Millis> {
        let age = now.saturating_sub(self.answered?);
        (age > interval + STALE || self.failure.is_some()).then_some(age)
    }

    /// Notes the rates of an answer.
    pub(crate) fn note(&mut self, at: Millis, answer: &Answer) {
        let (packets, bytes) = (&answer.rates.packets, &answer.rates.bytes);
        let neither = |rates: &RatesInOut| {
            rates.total.saturating_sub(rates.inbound.saturating_add(rates.outbound)) as f64
        };
        let mut sample = Sample {
            at,
            packets_in: packets.inbound as f64,
            packets_out: packets.outbound as f64,
            packets_neither: neither(packets),
            bits_in: bytes.inbound as f64 * 8.0,
            bits_out: bytes.outbound as f64 * 8.0,
            bits_neither: neither(bytes) * 8.0,
            dns: answer.rates.dns.total as f64,
            ..Sample::default()
        };
        let end = |view: &MetricsView| view.period.start_ts + view.period.length as i64;
        let seconds =
            self.before.as_ref().map_or(0, |(_, before, _)| end(&answer.live) - end(before));
        if seconds >= SPAN
            && let Some((answered, before, process)) = &self.before
        {
            let live = &answer.live;
            let same = before.period.minute == live.period.minute;
            let rate = |now: u64, then: u64| {
                // A new bucket starts at 0.
                now.saturating_sub(if same { then } else { 0 }) as f64 / seconds as f64
            };
            let tops = |now: &[TopEntry], then: &[TopEntry]| {
                let entry = |entry: &TopEntry| {
                    let then = then.iter().find(|then| then.name == entry.name);
                    (entry.name.clone(), rate(entry.estimate, then.map_or(0, |then| then.estimate)))
                };
                now.iter().map(entry).collect()
            };
            sample.rcodes = tops(&live.dns.top_rcode, &before.dns.top_rcode);
            sample.qtypes = tops(&live.dns.top_qtype, &before.dns.top_qtype);
            let then = losses(before);
            let loss = |loss: Loss| {
                let then = then.iter().find(|then| then.name == loss.name);
                let rate = rate(loss.count, then.map_or(0, |then| then.count));
                (loss.name, rate)
            };
            sample.losses = losses(live).into_iter().map(loss).collect();
            let used = answer.app.app.process.cpu_seconds - process.cpu_seconds;
            let elapsed = at.saturating_sub(*answered).max(1) as f64 / 1_000.0;
            sample.cpu_pct = (used / elapsed * 100.0).max(0.0);
        } else if let Some(last) = self.history.back() {
            let last = last.clone();
            sample.rcodes = last.rcodes;
            sample.qtypes = last.qtypes;
            sample.losses = last.losses;
            sample.cpu_pct = last.cpu_pct;
        }
        if !(0..SPAN).contains(&seconds) || self.before.is_none() {
            self.before = Some((at, answer.live.clone(), answer.app.app.process));
        }
        self.history.push_back(sample);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }
}

/// How rows of a table are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Count,
    Name,
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Units {
    /// All digits.
    #[default]
    Exact,
    /// Three digits and a prefix.
    Si,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// The daemons.
    pub(crate) agents: Vec<Agent>,
    /// Which of them is shown; as many as there are is all of them, the fleet.
    pub(crate) shown: usize,
    /// All of them merged.
    pub(crate) fleet: Fleet,
    pub(crate) screen: Screen,
    /// What is asked for.
    pub(crate) period: Period,
    /// Milliseconds between two answers.
    pub(crate) interval: Millis,
    pub(crate) paused: bool,
    /// The panel that keys go to, of those of the screen.
    pub(crate) focus: usize,
    /// The row in it.
    pub(crate) row: usize,
    pub(crate) zoomed: bool,
    /// What rows of tables have to contain.
    pub(crate) search: String,
    /// Whether keys go to it.
    pub(crate) searching: bool,
    pub(crate) sort: Sort,
    pub(crate) units: Units,
    pub(crate) theme: Theme,
    pub(crate) help: bool,
    pub(crate) now: Millis,
    /// Something to be told for some time, and since when.
    pub(crate) message: Option<(String, Millis)>,
    /// Columns and lines of the terminal.
    pub(crate) size: (u16, u16),
}

impl App {
    /// A dashboard of these daemons.
    pub(crate) fn new(
        addresses: Vec<String>,
        period: Period,
        interval: Millis,
        theme: Theme,
    ) -> Self {
        let agents: Vec<Agent> = addresses.into_iter().map(Agent::new).collect();
        // The overview of a fleet comes first.
        let shown = if agents.len() > 1 { agents.len() } else { 0 };
        Self { agents, shown, period, interval, theme, ..Self::default() }
    }

    /// The daemon that is shown; `None` for the fleet.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.agents.get(self.shown)
    }

    /// Whether there are several daemons.
    pub(crate) fn is_fleet(&self) -> bool {
        self.agents.len() > 1
    }

    /// What the screen is made from: the last answer of the daemon that is shown, or all of them
    /// merged.
    pub(crate) fn view(&self) -> Option<&MetricsView> {
        match self.agent() {
            Some(agent) => agent.answer.as_ref().map(|answer| &answer.view),
            None => self.fleet.view.as_ref(),
        }
    }

    /// Tells something for some time.
    pub(crate) fn tell(&mut self, message: impl Into<String>) {
        self.message = Some((message.into(), self.now));
    }
}
