//! Opens the history, if the options name a folder for it.

use std::io;
use std::sync::Arc;

use tracing::{error, info};

use super::run::Run;
use crate::store::Store;
use crate::store::feed::{PolicyName, WhenFull};
use crate::store::history::{Counted, QUEUE, SharedHistory, Writer};
use crate::time::{SECONDS_OF_MINUTE, wall_clock};

/// Opens the history and restores the minutes of an earlier run that the store still keeps. Returns `None`
/// if the options name no folder. A history that cannot be used is left as it is, and capture goes on.
pub(super) fn open(run: &Run<'_>, store: &Store) -> Option<Arc<SharedHistory>> {
    let config = &run.config.model.history;
    let folder = config.history_dir.as_deref()?;
    let history = SharedHistory::open(folder, PolicyName::DEFAULT.as_str(), config.keep());
    match history.problem() {
        Some(problem) => {
            error!("cannot use the history: {problem}; capture goes on without it");
        }
        None => restore(run, store, &history),
    }
    Some(Arc::new(history))
}

fn restore(run: &Run<'_>, store: &Store, history: &SharedHistory) {
    let kept = run.retention();
    if kept.single {
        return;
    }
    let from = (wall_clock().minute() + 1 - kept.periods as i64) * SECONDS_OF_MINUTE;
    match history.minutes(from, &Counted::now(&run.settings)) {
        Ok(minutes) => {
            if !minutes.is_empty() {
                info!("the history continues with {} minutes", minutes.len());
            }
            store.restore(minutes);
        }
        Err(problem) => error!("cannot read the history: {problem}"),
    }
}

/// Starts to store the minutes that close from now on. Returns `None` without a usable history.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(super) fn write(
    run: &Run<'_>,
    store: &Store,
    history: Option<&Arc<SharedHistory>>,
    when_full: WhenFull,
) -> io::Result<Option<Writer>> {
    let Some(history) = history.filter(|history| history.is_open()) else { return Ok(None) };
    let closed = store.subscribe(QUEUE, when_full);
    Writer::start(Arc::clone(history), Arc::clone(&run.settings), closed).map(Some)
}
