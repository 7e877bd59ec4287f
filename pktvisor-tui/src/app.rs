//! What the dashboard knows, and how it is looked at.

use pktvisor_common::api::MetricsView;

use crate::client::Period;
use crate::event::{Answer, Millis};
use crate::fleet::{Fleet, Part};
use crate::history::History;
use crate::screen::Screen;
use crate::theme::Theme;

/// An answer that is older than this is stale, in milliseconds, with the interval added.
const STALE: Millis = 2_000;
/// How long a message stands, in milliseconds.
pub(crate) const MESSAGE: Millis = 4_000;

/// A daemon that is watched.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Where it is.
    pub(crate) address: String,
    /// What it said last.
    pub(crate) answer: Option<Answer>,
    /// When that was.
    pub(crate) answered: Option<Millis>,
    /// What it adds to the fleet, or why that can't be had.
    pub(crate) part: Option<Result<Part, String>>,
    /// Why it does not answer, and when it is asked again.
    pub(crate) failure: Option<(String, Millis)>,
    /// The last minutes.
    pub(crate) history: History,
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
    /// Whether that was not answered yet.
    pub(crate) asked: bool,
    /// Milliseconds between two answers.
    pub(crate) interval: Millis,
    /// Since when nothing new is shown.
    pub(crate) paused: Option<Millis>,
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
    /// The first key of the list of keys that is shown, where it is.
    pub(crate) help: Option<usize>,
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

    /// The daemons that are shown: one of them or all.
    pub(crate) fn shown_agents(&self) -> &[Agent] {
        self.agent().map_or(&self.agents[..], std::slice::from_ref)
    }

    /// How many daemons answer.
    pub(crate) fn answering(&self) -> usize {
        let answers = |agent: &&Agent| {
            agent.answer.is_some() && agent.stale(self.now, self.interval).is_none()
        };
        self.agents.iter().filter(answers).count()
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

    /// The period of what is shown, which can be nearer than the one that is asked for.
    pub(crate) fn shown_period(&self) -> Period {
        let shown = match self.agent() {
            Some(agent) => agent.answer.as_ref().map(|answer| answer.period),
            None => self.fleet.period,
        };
        shown.unwrap_or(self.period)
    }

    /// Tells something for some time.
    pub(crate) fn notify(&mut self, message: impl Into<String>) {
        self.message = Some((message.into(), self.now));
    }
}
