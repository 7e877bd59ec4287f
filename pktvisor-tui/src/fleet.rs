//! All daemons merged into one summary.

use pktvisor_common::api::MetricsView;
use pktvisord::summary::Summary;
use pktvisord::summary::state::{Decoded, StateError, Terms, decode, terms};

use crate::app::Agent;
use crate::client::Period;
use crate::event::Millis;

/// How often the fleet is merged at most, in milliseconds: it takes the keyboard's time.
const OFTEN: Millis = 1_000;

/// What a daemon adds to the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The period that was asked for.
    pub(crate) asked: Period,
    terms: Terms,
    summary: Summary,
    /// What this release, or that of the daemon, does not know.
    left_out: Vec<String>,
}

impl Part {
    /// The buckets of a daemon, of which there is one at least, from the newest on. Each is taken in
    /// before the next one is asked for.
    ///
    /// # Errors
    /// Where one can't be had, or is no summary.
    pub(crate) fn of(
        asked: Period,
        states: impl IntoIterator<Item = Result<Vec<u8>, String>>,
    ) -> Result<Self, String> {
        let text = |error: StateError| error.to_string();
        let (mut made_on, mut sum) = (None, None);
        let mut left_out = Vec::new();
        let mut newer: Option<Summary> = None;
        for state in states {
            let state = state?;
            let terms = match made_on.take() {
                Some(terms) => terms,
                None => terms(&state).map_err(text)?,
            };
            let Decoded { summary, left_out: not_known } = decode(&state, &terms).map_err(text)?;
            left_out = not_known;
            made_on = Some(terms);
            // Where a minute has ended between two of them it is in both, and whole in the later one.
            let minute = summary.minute;
            add(&mut sum, newer.replace(summary).filter(|newer| newer.minute != minute));
        }
        add(&mut sum, newer);
        let (Some(terms), Some(summary)) = (made_on, sum) else {
            return Err("it has no buckets".to_owned());
        };
        Ok(Self { asked, terms, summary, left_out })
    }
}

/// Adds to what has been added up.
fn add(sum: &mut Option<Summary>, summary: Option<Summary>) {
    match (sum, summary) {
        (Some(sum), Some(summary)) => sum.merge(&summary),
        (sum, Some(summary)) => *sum = Some(summary),
        (_, None) => {}
    }
}

/// The summary of all daemons: cardinalities and top lists are merged, not added.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Its view, once there is one.
    pub(crate) view: Option<MetricsView>,
    /// What its period is.
    pub(crate) period: Option<Period>,
    /// How many daemons are in it.
    pub(crate) merged: usize,
    /// Why others are not.
    pub(crate) problems: Vec<String>,
    /// Whether a daemon has said something since.
    pub(crate) behind: bool,
    at: Millis,
}

impl Fleet {
    /// Merges what the daemons that answer have said of the period, where that is due.
    pub(crate) fn merge(&mut self, agents: &[Agent], asked: Period, now: Millis, interval: Millis) {
        let due = self.view.is_none() || now >= self.at.saturating_add(OFTEN);
        if !self.behind || !due {
            return;
        }
        (self.behind, self.at) = (false, now);
        self.problems.clear();
        let mut sum: Option<(Summary, &Terms)> = None;
        let mut merged = 0;
        for agent in agents.iter().filter(|agent| agent.stale(now, interval).is_none()) {
            match (&agent.part, &mut sum) {
                (Some(Err(error)), _) => self.problems.push(format!("{}: {error}", agent.address)),
                (Some(Ok(part)), _) if part.asked != asked => {}
                (Some(Ok(part)), Some((_, terms))) if part.terms != **terms => {
                    let problem = "its ports, names or seed are not those of the first";
                    self.problems.push(format!("{}: {problem}", agent.address));
                }
                (Some(Ok(part)), sum) => {
                    match sum {
                        Some((sum, _)) => sum.merge(&part.summary),
                        None => *sum = Some((part.summary.clone(), &part.terms)),
                    }
                    merged += 1;
                    if !part.left_out.is_empty() {
                        let names = part.left_out.join(", ");
                        let problem = format!("another release; not merged: {names}");
                        self.problems.push(format!("{}: {problem}", agent.address));
                    }
                }
                (None, _) => {}
            }
        }
        // Until one has said something of another period, the one before stays.
        if let Some((sum, _)) = sum {
            (self.view, self.period, self.merged) = (Some(sum.view()), Some(asked), merged);
        }
    }
}
