//! The history as the writer and the server share it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pktvisor_common::summary::Summary;

use tracing::error;

use super::{
    Counted, Detail, History, HistoryError, Keep, Part, Repeats, Resolution, Result, Stored, form,
    unpack,
};
use crate::store::feed::Closed;

/// A history, or the reason why there is none.
#[derive(Debug)]
pub(crate) struct SharedHistory {
    folder: PathBuf,
    keep: Keep,
    /// Locked while the writer stores or merges a period and while a reader reads bytes, but not while a
    /// reader decodes them.
    history: Option<Mutex<History>>,
    /// Bytes of the file that are in use.
    bytes: AtomicU64,
    /// Minutes that the history lacks.
    lost: AtomicU64,
    /// Why the last minute could not be stored or merged, or why the history cannot be used.
    problem: Mutex<Option<String>>,
}

/// The extent of the periods of one resolution and detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of stored parts of periods.
    pub(crate) parts: u64,
    /// Bytes of their forms.
    pub(crate) bytes: u64,
    /// Start of the oldest period in Unix seconds.
    pub(crate) oldest: i64,
    /// End of the newest one in Unix seconds.
    pub(crate) newest: i64,
}

impl SharedHistory {
    /// Opens the history in a folder. An unusable one stays unchanged, and [`Self::problem`] gives the
    /// reason.
    pub(crate) fn open(folder: &Path, policy: &'static str, keep: Keep, repeats: Repeats) -> Self {
        let (history, problem) = match History::open(folder, policy, keep, repeats) {
            Ok(history) => (Some(Mutex::new(history)), None),
            Err(problem) => (None, Some(problem.to_string())),
        };
        let shared = Self {
            folder: folder.to_owned(),
            keep,
            history,
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            problem: Mutex::new(problem),
        };
        shared.measure();
        shared
    }

    /// Notes the bytes in use, so that nobody has to wait for the file to know them.
    fn measure(&self) {
        let bytes = self.locked().and_then(|history| history.database.bytes().ok());
        self.bytes.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the bounds.
    pub(crate) fn keep(&self) -> Keep {
        self.keep
    }

    /// Returns true if it can be used.
    pub(crate) fn is_open(&self) -> bool {
        self.history.is_some()
    }

    fn locked(&self) -> Option<MutexGuard<'_, History>> {
        // Each change of the file is a transaction, so a panic elsewhere does no harm.
        self.history.as_ref().map(|history| history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores a closed minute, merges the hours and days that are over with it, and removes expired periods.
    /// Does nothing without a usable history. [`Self::problem`] describes a failure.
    ///
    /// # Errors
    /// [`HistoryError`] if the minute cannot be stored.
    pub(super) fn add(&self, closed: &Closed, counted: &Counted) -> Result<()> {
        let stored = self.locked().map_or(Ok(()), |history| history.add(closed, counted));
        // Readers get their turn in between.
        let kept_up = self.locked().map_or(Ok(()), |history| history.keep_up(closed));
        self.measure();
        let problem = stored.as_ref().err().or(kept_up.as_ref().err()).map(HistoryError::to_string);
        let mut noted = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(()), Some(problem)) = (&stored, &problem)
            && noted.as_ref() != Some(problem)
        {
            error!("cannot merge hours and days of the history: {problem}; minutes are stored");
        }
        *noted = problem;
        stored
    }

    /// Returns why the last minute could not be stored, or why the history cannot be used.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts minutes that are lost to the history. Returns how many were lost since the start.
    pub(super) fn lose(&self, minutes: u64) -> u64 {
        self.lost.fetch_add(minutes, Ordering::Relaxed) + minutes
    }

    /// Returns the number of minutes lost to the history since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the file that are in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Lists the periods of a resolution that start from `from` on and before `to`, in Unix seconds, oldest
    /// first.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be read.
    pub(crate) fn list(
        &self,
        resolution: Resolution,
        detail: Detail,
        from: i64,
        to: i64,
    ) -> Result<Vec<Stored>> {
        self.locked().map_or(Ok(Vec::new()), |history| history.list(resolution, detail, from, to))
    }

    /// Returns the extent of a resolution, or `None` without periods.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be read.
    pub(crate) fn extent(&self, resolution: Resolution, detail: Detail) -> Result<Option<Extent>> {
        let Some(history) = self.locked() else { return Ok(None) };
        Ok(history.database.extent(history.kind(resolution, detail))?)
    }

    /// Returns the start of the oldest period of a resolution and the end of the newest one, in Unix seconds,
    /// or `None` if there is none.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be read.
    pub(crate) fn limits(
        &self,
        resolution: Resolution,
        detail: Detail,
    ) -> Result<Option<(i64, i64)>> {
        let Some(history) = self.locked() else { return Ok(None) };
        let kind = history.kind(resolution, detail);
        let oldest = history.database.oldest(kind)?;
        let newest = history.database.newest(kind, i64::MAX)?;
        let end = |newest: Stored| newest.period.saturating_add(resolution.seconds());
        Ok(oldest.zip(newest).map(|(oldest, newest)| (oldest.period, end(newest))))
    }

    /// Reads a period. Returns `None` if it is gone or damaged.
    ///
    /// # Errors
    /// [`HistoryError`] if the file cannot be read.
    pub(crate) fn read(&self, stored: &Stored) -> Result<Option<Part>> {
        let Some(history) = self.locked() else { return Ok(None) };
        let form = form(&history.database, stored)?;
        drop(history);
        Ok(form.and_then(|form| unpack(&form, stored)))
    }

    /// Returns the newest minutes of a time, see [`History::minutes`].
    ///
    /// # Errors
    /// [`HistoryError`] if they cannot be read.
    pub(crate) fn minutes(
        &self,
        time: (i64, i64),
        most: usize,
        counted: &Counted,
    ) -> Result<Vec<Summary>> {
        self.locked().map_or(Ok(Vec::new()), |history| history.minutes(time, most, counted))
    }
}
