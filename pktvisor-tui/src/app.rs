//! The state of the dashboard.

use pktvisor_common::api::MetricsView;
use pktvisor_common::moment::Moment;

use crate::client::Period;
use crate::event::{Answer, Millis};
use crate::fleet::{Fleet, Part};
use crate::history::History;
use crate::past::Past;
use crate::screen::Screen;
use crate::theme::Theme;

/// Age in milliseconds beyond the interval from which an answer is stale.
const STALE: Millis = 2_000;
/// Time in milliseconds that a message is shown.
pub(crate) const MESSAGE: Millis = 4_000;

/// The state of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Address of the daemon.
    pub(crate) address: String,
    /// The last answer.
    pub(crate) answer: Option<Answer>,
    /// Time of the last answer. It advances while the display is paused.
    pub(crate) answered: Option<Millis>,
    /// The daemon's part of the fleet, or the reason why it is missing.
    pub(crate) part: Option<Result<Part, String>>,
    /// The current failure, and the time of the next attempt.
    pub(crate) failure: Option<(String, Millis)>,
    /// History of the last minutes.
    pub(crate) history: History,
}

impl Agent {
    /// Returns an agent that has not answered yet.
    pub(crate) fn new(address: String) -> Self {
        Self { address, ..Self::default() }
    }

    /// Returns the age of the last answer in milliseconds if it is stale.
    pub(crate) fn stale(&self, now: Millis, interval: Millis) -> Option<Millis> {
        let age = now.saturating_sub(self.answered?);
        (age > interval + STALE || self.failure.is_some()).then_some(age)
    }
}

/// Order of the rows of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Count,
    Name,
}

/// Format of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Units {
    /// All digits.
    #[default]
    Exact,
    /// Three digits and an SI prefix.
    Si,
}

/// The whole state.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// All daemons.
    pub(crate) agents: Vec<Agent>,
    /// Index of the daemon that is shown. The number of daemons stands for the fleet.
    pub(crate) shown: usize,
    /// The merged summary of all daemons.
    pub(crate) fleet: Fleet,
    pub(crate) screen: Screen,
    /// The requested period.
    pub(crate) period: Period,
    /// True after the user requested a period, until its answer has arrived.
    pub(crate) asked: bool,
    /// Interval between two answers, in milliseconds.
    pub(crate) interval: Millis,
    /// Time at which the display was paused.
    pub(crate) paused: Option<Millis>,
    /// Index of the focused panel.
    pub(crate) focus: usize,
    /// Selected row of the focused panel.
    pub(crate) row: usize,
    pub(crate) zoomed: bool,
    /// Search text: tables show only rows that contain it.
    pub(crate) search: String,
    /// True while keys edit the search text.
    pub(crate) searching: bool,
    /// The time to go to, while keys edit it.
    pub(crate) going_to: Option<String>,
    /// The marked range in Unix seconds, with which the next one is summed up.
    pub(crate) mark: Option<(i64, i64)>,
    /// The last requested range without data. The keys `[` and `]` continue from it.
    pub(crate) beyond: Option<(i64, i64)>,
    pub(crate) sort: Sort,
    pub(crate) units: Units,
    pub(crate) theme: Theme,
    /// Index of the first key in the help, if it is open.
    pub(crate) help: Option<usize>,
    pub(crate) now: Millis,
    /// Message in the footer, and the time of its start.
    pub(crate) message: Option<(String, Millis)>,
    /// Columns and lines of the terminal.
    pub(crate) size: (u16, u16),
}

impl App {
    /// Returns the state of a dashboard for these daemons.
    pub(crate) fn new(
        addresses: Vec<String>,
        period: Period,
        interval: Millis,
        theme: Theme,
    ) -> Self {
        let agents: Vec<Agent> = addresses.into_iter().map(Agent::new).collect();
        // A fleet starts with its overview.
        let shown = if agents.len() > 1 { agents.len() } else { 0 };
        Self { agents, shown, period, interval, theme, ..Self::default() }
    }

    /// Returns the daemon that is shown; `None` for the fleet.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.agents.get(self.shown)
    }

    /// Returns the daemons that are shown: one, or all for the fleet.
    pub(crate) fn shown_agents(&self) -> &[Agent] {
        self.agent().map_or(&self.agents[..], std::slice::from_ref)
    }

    /// Returns the number of daemons that answer.
    pub(crate) fn answering(&self) -> usize {
        let answers = |agent: &&Agent| {
            agent.answer.is_some() && agent.stale(self.now, self.interval).is_none()
        };
        self.agents.iter().filter(answers).count()
    }

    /// Returns true if there are several daemons.
    pub(crate) fn is_fleet(&self) -> bool {
        self.agents.len() > 1
    }

    /// Returns the view that the screen shows: the last one of the daemon, or the merged one of the
    /// fleet.
    pub(crate) fn view(&self) -> Option<&MetricsView> {
        match self.agent() {
            Some(agent) => agent.answer.as_ref().map(|answer| &answer.view),
            None => self.fleet.view.as_ref(),
        }
    }

    /// Returns the facts of the range that is shown, if it is one.
    pub(crate) fn past(&self) -> Option<&Past> {
        self.agent()?.answer.as_ref()?.past.as_ref()
    }

    /// Returns the period that is shown. It can be nearer than the requested one.
    pub(crate) fn shown_period(&self) -> Period {
        let shown = match self.agent() {
            Some(agent) => agent.answer.as_ref().map(|answer| answer.period),
            None => self.fleet.period,
        };
        shown.unwrap_or(self.period)
    }

    /// Returns true if a range is shown or requested.
    pub(crate) fn is_past(&self) -> bool {
        let requested = if self.asked { self.period } else { self.shown_period() };
        matches!(requested, Period::Range { .. })
    }

    /// Returns the end of the live minute of the daemon that is shown, in Unix seconds; 0 if unknown.
    pub(crate) fn live_end(&self) -> i64 {
        let answer = self.agent().and_then(|agent| agent.answer.as_ref());
        let period = answer.map(|answer| &answer.live.period);
        period.map_or(0, |period| period.start_ts.saturating_add_unsigned(period.length))
    }

    /// Returns the limits of the shown period in Unix seconds, whole minutes. A requested range counts as
    /// shown, so that the user can press keys faster than answers arrive.
    pub(crate) fn shown_limits(&self) -> Option<(i64, i64)> {
        if self.beyond.is_some() {
            return self.beyond;
        }
        if let (true, Period::Range { from: Moment::At(from), to: Moment::At(to) }) =
            (self.asked, self.period)
        {
            return Some((from, to));
        }
        if let Some(past) = self.past() {
            return Some((past.from, past.to));
        }
        let period = &self.view()?.period;
        let end = period.minute.saturating_add(1).saturating_mul(60);
        Some((period.start_ts.div_euclid(60).saturating_mul(60), end))
    }

    /// Shows a message for [`MESSAGE`] milliseconds.
    pub(crate) fn notify(&mut self, message: impl Into<String>) {
        self.message = Some((message.into(), self.now));
    }
}
