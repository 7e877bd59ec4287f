//! Summarizes a capture and prints the result.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use pktvisor_common::api::{MetricsView, Views};
use tracing::warn;

use super::error::{AppError, system};
use super::output;
use super::run::Run;
use crate::cli::exit;
use crate::config::Model;
use crate::input::file::FileInput;
use crate::input::{Input, Running};
use crate::store::Store;
use crate::time::utc;

/// Reads a whole capture and prints its summary.
///
/// # Errors
/// [`AppError`] if the capture cannot be read or the output cannot be written.
pub(super) fn summarize(run: &Run<'_>, input: FileInput) -> Result<u8, AppError> {
    let model = &run.config.model;
    let no_thread = system("cannot start a thread");
    // A single worker runs on this thread, and so does its store.
    let store = Arc::new(match input.parts() {
        1 => Store::inline(1, run.retention()),
        more => Store::start(more, run.retention()).map_err(&no_thread)?,
    });
    let mut running = input.start_unserved(run.context(&store)).map_err(&no_thread)?;
    // Options cannot change during the run.
    let (_, no_changes) = channel();
    let read = running.run(&no_changes);
    let (live, status) = (running.present().live, running.status());
    drop(running);
    store.settle();
    let interrupted = run.shutdown.asked();
    if !interrupted {
        report_left_out(model, &store);
    }
    print(model, status.complete(store.merged(&live, model.policy.periods.into()).view()))?;
    // After an interrupt, a pipe counts neither as truncated nor as complete.
    if interrupted {
        warn!("interrupted: the summary covers only the packets read so far");
        return Ok(exit::INTERRUPTED);
    }
    read.map(|()| exit::OK).map_err(AppError::from)
}

/// Warns of minutes that were dropped because only the newest are kept.
pub(super) fn report_left_out(model: &Model, store: &Store) {
    if let Some(left_out) = store.left_out() {
        warn!(
            "only the last {} minutes are summarized, without the time from {} to {}; use --summary to \
             summarize everything, or --periods N to keep more minutes",
            model.policy.periods,
            utc(left_out.start),
            utc(left_out.end),
        );
    }
}

fn print(model: &Model, view: MetricsView) -> Result<(), AppError> {
    let key = if model.policy.summary {
        "summary".to_owned()
    } else {
        format!("{}m", model.policy.periods)
    };
    let views = Views::from([(key, view)]);
    let to_stdout = model.report.output == Path::new("-");
    output::write(&views, &model.report).map_err(|source| AppError::Output {
        name: if to_stdout {
            "standard output".into()
        } else {
            model.report.output.display().to_string()
        },
        source,
    })
}
