//! Events of the dashboard, and the effects that it requests.

use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};
use pktvisor_common::api::{AppMetrics, MetricsView, Rates};

use crate::client::Period;
use crate::fleet::Part;
use crate::past::Past;

/// Milliseconds since the start of the program.
pub(crate) type Millis = u64;

/// An event.
#[derive(Debug)]
pub(crate) enum Event {
    /// A key press or release.
    Key(KeyEvent),
    /// A mouse action.
    Mouse(MouseEvent),
    /// The size of the terminal has changed.
    Resized,
    /// The current time.
    Tick(Millis),
    /// An answer of a daemon.
    Answered { agent: usize, at: Millis, answer: Box<Answer> },
    /// A failed request to a daemon.
    Failed { agent: usize, at: Millis, error: String, retry: Duration, asked: Period },
    /// A signal, or the loss of the terminal: quit.
    Ended,
}

/// The answers of a daemon from one poll.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// Period of the view: the requested one or the nearest one available.
    pub(crate) period: Period,
    /// View of this period.
    pub(crate) view: MetricsView,
    /// Facts about a range, and its charts.
    pub(crate) past: Option<Past>,
    /// Paths that are missing in the view of an older daemon, such as `/dns/edns`.
    pub(crate) missing: Vec<String>,
    /// View of the live bucket.
    pub(crate) live: MetricsView,
    /// Rates of the last second.
    pub(crate) rates: Rates,
    /// State of the daemon.
    pub(crate) app: AppMetrics,
    /// The requested period.
    pub(crate) asked: Period,
    /// The daemon's part of the fleet, or the reason why it is missing. `None` if this poll did not
    /// fetch it.
    pub(crate) part: Option<Result<Part, String>>,
}

/// An effect that the dashboard requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Request this period from all daemons from now on.
    Ask(Period),
    /// Copy a text to the clipboard of the terminal.
    Copy(String),
    /// Redraw the whole terminal.
    Redraw,
    /// Quit.
    Quit,
}
