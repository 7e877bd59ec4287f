//! Merges all daemons into one summary.

use pktvisor_common::api::MetricsView;
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::across::AcrossKeys;
use pktvisor_common::summary::state::{Decoded, Keyed, StateError, Terms, decode, terms};

use crate::app::Agent;
use crate::client::Period;
use crate::event::Millis;
use crate::guard::guarded;

/// Minimum milliseconds between two merges, because merging delays the keyboard.
const OFTEN: Millis = 1_000;

/// A daemon's part of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The requested period.
    pub(crate) asked: Period,
    terms: Terms,
    sums: AcrossKeys,
    /// Sections and counters that only one of the two releases knows.
    left_out: Vec<String>,
}

impl Part {
    /// Merges the states of a daemon's buckets, at least one, the newest first. Each state is
    /// decoded before the next one is requested.
    ///
    /// # Errors
    /// Fails if a state cannot be fetched or decoded.
    pub(crate) fn of(
        asked: Period,
        states: impl IntoIterator<Item = Result<Vec<u8>, String>>,
    ) -> Result<Self, String> {
        let text = |error: StateError| error.to_string();
        let mut made_on = None;
        let mut sums = AcrossKeys::default();
        let mut left_out = Vec::new();
        let mut newer: Option<(Keyed, Summary)> = None;
        for state in states {
            let state = state?;
            let terms = match made_on.take() {
                Some(terms) => terms,
                None => terms(&state).map_err(text)?,
            };
            let Decoded { summary, keyed, left_out: not_known } =
                decode(&state, &terms).map_err(text)?;
            left_out = not_known;
            made_on = Some(terms);
            // If a minute ended between two requests, it is in both answers and complete in the
            // later one.
            let minute = summary.minute;
            match newer.replace((keyed, summary)) {
                Some((keyed, newer)) if newer.minute != minute => sums.add(keyed, &newer),
                _ => {}
            }
        }
        let (Some(terms), Some((keyed, oldest))) = (made_on, newer) else {
            return Err("no buckets".to_owned());
        };
        sums.add(keyed, &oldest);
        Ok(Self { asked, terms, sums, left_out })
    }
}

/// The summary of all daemons. Cardinalities and top lists are merged, not added.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// View of the summary, once there is one.
    pub(crate) view: Option<MetricsView>,
    /// Period of the view.
    pub(crate) period: Option<Period>,
    /// Number of daemons in the summary.
    pub(crate) merged: usize,
    /// Reasons why other daemons are missing.
    pub(crate) problems: Vec<String>,
    /// True if a new part has arrived since the last merge.
    pub(crate) behind: bool,
    at: Millis,
}

impl Fleet {
    /// Merges the parts of the daemons that answer, if a merge is due.
    pub(crate) fn merge(&mut self, agents: &[Agent], asked: Period, now: Millis, interval: Millis) {
        let due = self.view.is_none() || now >= self.at.saturating_add(OFTEN);
        if !self.behind || !due {
            return;
        }
        (self.behind, self.at) = (false, now);
        self.problems.clear();
        // Daemons whose summaries panic when they are merged.
        let mut unfit = Vec::new();
        let (sum, merged) = loop {
            let answering = agents.iter().enumerate();
            let answering = answering.filter(|(_, agent)| agent.stale(now, interval).is_none());
            let parts = answering.filter(|(at, _)| !unfit.contains(at));
            match self.sum(parts, asked) {
                Ok(sum) => break sum,
                Err(at) => unfit.push(at),
            }
        };
        // The previous view stays until a part of the requested period arrives.
        if let Some(sum) = sum {
            if sum.keys() > 1 {
                let problem = "different fleet keys; distinct counts are ranges";
                self.problems.push(format!("{} {problem}", sum.keys()));
            }
            match guarded(|| sum.view()) {
                Ok(view) => (self.view, self.period, self.merged) = (view, Some(asked), merged),
                Err(problem) => self.problems.push(format!("the fleet: {problem}")),
            }
        }
    }

    /// Merges the parts that fit together. Returns the sum and the number of parts.
    ///
    /// # Errors
    /// Returns the index of a daemon whose part panics. Merge again without it.
    fn sum<'a>(
        &mut self,
        agents: impl Iterator<Item = (usize, &'a Agent)>,
        asked: Period,
    ) -> Result<(Option<AcrossKeys>, usize), usize> {
        let mut sum: Option<(AcrossKeys, &Terms)> = None;
        let mut merged = 0;
        for (at, agent) in agents {
            let mut problem = |problem: &str| {
                let problem = format!("{}: {problem}", agent.address);
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            };
            let part = match &agent.part {
                Some(Ok(part)) if part.asked == asked => part,
                Some(Err(error)) => {
                    problem(error);
                    continue;
                }
                _ => continue,
            };
            match &mut sum {
                Some((_, terms)) if part.terms != **terms => {
                    problem(
                        "not merged: its DNS ports, mask or name options differ from the first",
                    );
                    continue;
                }
                Some((sum, _)) => {
                    if let Err(error) = guarded(|| sum.merge(&part.sums)) {
                        problem(&error);
                        return Err(at);
                    }
                }
                None => sum = Some((part.sums.clone(), &part.terms)),
            }
            merged += 1;
            if !part.left_out.is_empty() {
                problem(&format!("other release; not merged: {}", part.left_out.join(", ")));
            }
        }
        Ok((sum.map(|(sum, _)| sum), merged))
    }
}
