//! All daemons merged into one summary.

use pktvisor_common::api::MetricsView;
use pktvisord::summary::Summary;
use pktvisord::summary::state::{StateError, decode, terms};

use crate::app::Agent;

/// The summary of all daemons: cardinalities and top lists are merged, not added.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Its view, once there is one.
    pub(crate) view: Option<MetricsView>,
    /// Why a daemon is not in it.
    pub(crate) error: Option<String>,
}

impl Fleet {
    /// Merges what the daemons said last.
    pub(crate) fn merge(&mut self, agents: &[Agent]) {
        self.error = None;
        let mut sum: Option<(Summary, _)> = None;
        for agent in agents {
            for state in &agent.states {
                let merged = match &mut sum {
                    Some((sum, terms)) => decode(state, terms).map(|other| sum.merge(&other)),
                    None => first(state).map(|first| sum = Some(first)),
                };
                if let Err(error) = merged {
                    self.error = Some(format!("{}: {error}", agent.address));
                }
            }
        }
        self.view = sum.map(|(sum, _)| sum.view());
    }
}

/// The first one says on what terms the others have to be made.
fn first(state: &[u8]) -> Result<(Summary, pktvisord::summary::state::Terms), StateError> {
    let terms = terms(state)?;
    Ok((decode(state, &terms)?, terms))
}
