//! Polling threads, one for each daemon, so that the keyboard never waits for the network.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use pktvisor_common::api::MetricsView;
use pktvisor_common::moment::Moment;

use crate::address::Address;
use crate::client::{Client, Error, Fetched, Period};
use crate::credentials::Credentials;
use crate::event::{Answer, Event, Millis};
use crate::fleet::Part;
use crate::guard::guarded;
use crate::past::Past;

/// Maximum wait after failures.
const LONGEST: Duration = Duration::from_secs(30);
/// Number of answers from one fetch of states for the fleet to the next.
const STATES: u64 = 5;

/// Handle of a polling thread.
pub(crate) struct Poller(Sender<Period>);

/// Parameters of a polling thread.
pub(crate) struct Poll {
    /// Index of the daemon.
    pub(crate) agent: usize,
    pub(crate) address: Address,
    pub(crate) credentials: Credentials,
    pub(crate) interval: Duration,
    /// True if states for the fleet are fetched too.
    pub(crate) fleet: bool,
    /// Start time of the program.
    pub(crate) start: Instant,
}

impl Poller {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start(
        poll: Poll,
        period: Period,
        events: Sender<Event>,
    ) -> std::io::Result<Self> {
        let (sender, periods) = channel();
        std::thread::Builder::new()
            .name("poll".to_owned())
            .spawn(move || poll.run(period, &periods, &events))?;
        Ok(Self(sender))
    }

    /// Requests another period at once and from now on.
    pub(crate) fn ask(&self, period: Period) {
        // The thread runs until the program ends.
        let _ = self.0.send(period);
    }
}

impl Poll {
    fn run(self, mut period: Period, periods: &Receiver<Period>, events: &Sender<Event>) {
        let client = Client::new(&self.address, &self.credentials);
        let (mut answers, mut failures, mut found) = (0, 0, None);
        let mut known = None;
        loop {
            let asked = Instant::now();
            let asked_for = guarded(|| {
                ask(&client, period, found, &mut known).map_err(|error| error.to_string())
            });
            let (event, wait) = match asked_for.flatten() {
                Ok(mut answer) => {
                    if self.fleet && answers % STATES == 0 {
                        answer.part = Some(guarded(|| fetch_part(&client, &answer)).flatten());
                    }
                    (answers, failures, found) = (answers + 1, 0, Some(answer.period));
                    let (agent, at) = (self.agent, self.now());
                    (Event::Answered { agent, at, answer: Box::new(answer) }, self.interval)
                }
                Err(error) => {
                    let retry = (self.interval * 2_u32.pow(failures)).min(LONGEST);
                    failures = (failures + 1).min(8);
                    let (agent, at) = (self.agent, self.now());
                    (Event::Failed { agent, at, error, retry, asked: period }, retry)
                }
            };
            if events.send(event).is_err() {
                return;
            }
            // If several requests have arrived, the last one counts.
            match periods.recv_timeout(wait.saturating_sub(asked.elapsed())) {
                Ok(asked) => {
                    period = periods.try_iter().last().unwrap_or(asked);
                    answers = 0;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn now(&self) -> Millis {
        self.start.elapsed().as_millis() as Millis
    }
}

/// A range and its charts, which are fetched once if the range is over.
pub(crate) type Known = Option<Fetched>;

/// Fetches everything that the screens show. `found` is the period that was available last time,
/// `known` the range that was fetched last.
pub(crate) fn ask(
    client: &Client<'_>,
    period: Period,
    found: Option<Period>,
    known: &mut Known,
) -> Result<Answer, Error> {
    let app = client.app()?;
    let (fetched, live) = if let Period::Range { .. } = period {
        let live = client.fetch(Period::Bucket(0))?.view;
        (fetch_range(client, period, &live, known)?, live)
    } else {
        let found = found.filter(|found| !matches!(found, Period::Range { .. }));
        let fetched = client.fetch_nearest(period, app.app.kept(), found)?;
        let live = match fetched.period {
            Period::Bucket(0) | Period::Window(1) => fetched.view.clone(),
            _ => client.fetch(Period::Bucket(0))?.view,
        };
        (fetched, live)
    };
    let same = app.app.version == env!("CARGO_PKG_VERSION");
    Ok(Answer {
        period: fetched.period,
        missing: if same { Vec::new() } else { fetched.missing() },
        view: fetched.view,
        past: fetched.past,
        live,
        rates: client.rates()?,
        app,
        asked: period,
        part: None,
    })
}

/// Fetches a range and its charts, or returns those that are known if the range is over.
fn fetch_range(
    client: &Client<'_>,
    period: Period,
    live: &MetricsView,
    known: &mut Known,
) -> Result<Fetched, Error> {
    let is_fixed = matches!(period, Period::Range { from: Moment::At(_), to: Moment::At(_) });
    let is_over = |past: &Past| past.to <= live.period.start_ts;
    if let Some(known) = known
        && is_fixed
        && known.period == period
        && known.past.as_ref().is_some_and(is_over)
    {
        return Ok(known.clone());
    }
    let mut fetched = client.fetch(period)?;
    if let Some(past) = &mut fetched.past {
        let (from, to, step) = past.chart();
        past.take_samples(&client.series(from, to, step)?);
    }
    *known = Some(fetched.clone());
    Ok(fetched)
}

/// Fetches the daemon's part of the fleet, after it has answered.
///
/// # Errors
/// Fails if a state cannot be fetched or decoded.
pub(crate) fn fetch_part(client: &Client<'_>, answer: &Answer) -> Result<Part, String> {
    let buckets = match answer.period {
        Period::Bucket(n) => n..n.saturating_add(1),
        Period::Window(n) => 0..n,
        Period::Range { .. } => {
            return Err("the fleet has no ranges of time; show one of its daemons".to_owned());
        }
    };
    let state = |n| client.state(n).map_err(|error| error.to_string());
    Part::of(answer.asked, buckets.map(state))
}
