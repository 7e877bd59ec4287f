//! What happens to the dashboard, and what it wants done.

use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};
use pktvisor_common::api::{AppMetrics, MetricsView, Rates};

use crate::client::Period;
use crate::fleet::Part;

/// Milliseconds since the start.
pub(crate) type Millis = u64;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal has another size.
    Resized,
    /// Time has passed.
    Tick(Millis),
    /// An agent has answered.
    Answered { agent: usize, at: Millis, answer: Box<Answer> },
    /// An agent has not.
    Failed { agent: usize, at: Millis, error: String, retry: Duration },
    /// A signal asks for the end.
    Ended,
}

/// What an agent says at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The period of the view: the one asked for, or the nearest there is.
    pub(crate) period: Period,
    /// Its view.
    pub(crate) view: MetricsView,
    /// What the daemon left out of the view, which an older one does: paths such as `/dns/edns`.
    pub(crate) missing: Vec<String>,
    /// The view of the live bucket.
    pub(crate) live: MetricsView,
    /// The last second.
    pub(crate) rates: Rates,
    /// The daemon.
    pub(crate) app: AppMetrics,
    /// The period that was asked for.
    pub(crate) asked: Period,
    /// What it adds to the fleet, or why that can't be had, where it was asked for this time.
    pub(crate) part: Option<Result<Part, String>>,
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask all agents for this period from now on.
    Ask(Period),
    /// Put a text into the clipboard of the terminal.
    Copy(String),
    /// Draw all of the terminal anew.
    Redraw,
    /// End.
    Quit,
}
