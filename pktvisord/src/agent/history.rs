//! Opens the history, if the options name a folder for it.

use std::io;
use std::sync::Arc;

use tracing::{error, info};

use super::run::Run;
use crate::store::Store;
use crate::store::feed::{PolicyName, WhenFull};
use crate::store::history::{QUEUE, Repeats, SharedHistory, Writer};
use crate::time::{SECONDS_OF_MINUTE, wall_clock};

/// Opens the history and restores the minutes of an earlier run that the store still keeps. Returns `None`
/// if the options name no folder, or if only the file does and a capture is replayed: its minutes are not
/// those of the service that the file is for. An unusable history stays unchanged, and capture continues.
pub(super) fn open(run: &Run<'_>, store: &Store) -> Option<Arc<SharedHistory>> {
    let config = &run.config.model.history;
    let folder = config.history_dir.as_deref()?;
    if run.config.model.input.replay.is_some() && run.config.takes_history_from_file() {
        info!(
            "the replay is not stored in the history of the configuration file; name one with --history"
        );
        return None;
    }
    let is_replay = run.config.model.input.replay.is_some();
    let repeats = if is_replay { Repeats::Replace } else { Repeats::Add };
    let policy = PolicyName::DEFAULT.as_str();
    let history = SharedHistory::open(folder, policy, config.keep(), repeats);
    if let Some(problem) = history.problem() {
        error!("cannot use the history: {problem}; capture goes on without it");
    } else if !is_replay {
        restore(run, store, &history);
    }
    Some(Arc::new(history))
}

fn restore(run: &Run<'_>, store: &Store, history: &SharedHistory) {
    let kept = run.retention();
    if kept.single {
        return;
    }
    let to = (wall_clock().minute() + 1) * SECONDS_OF_MINUTE;
    let from = to - kept.periods as i64 * SECONDS_OF_MINUTE;
    match history.minutes((from, to), kept.periods, &run.settings.counted()) {
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
    let settings = Arc::clone(&run.settings);
    Writer::start(Arc::clone(history), move || settings.counted(), closed).map(Some)
}
