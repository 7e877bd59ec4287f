//! The file of the history: closed periods, by policy, resolution and start.
//!
//! It is an SQLite database in WAL mode: a transaction is whole or absent after the process is killed
//! (<https://www.sqlite.org/wal.html>), deleted pages are used again, and other tools can read it.

use std::path::{Path, PathBuf};

use pktvisor_common::time::Timestamp;
use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};

use super::shared::Extent;

/// Name of the file in the folder of the history.
const FILE: &str = "history.db";
/// Marks the file as a history of pktvisor: `PKTV`.
const APPLICATION: i32 = 0x504b_5456;
/// Version of the tables. A newer release adds to it and brings older files up to date.
const VERSION: i32 = 1;
/// Memory for pages in KiB. Periods are read once, so that a cache is of little use.
const CACHE_KIB: i32 = 256;
/// Bytes that the write-ahead log is cut to.
const LOG_BYTES: i64 = 4 << 20;
/// Maximum unused pages given back at once, 64 MiB: more would hold up the next minutes.
const FREED_PAGES: i32 = 16_384;
/// Bytes of a row besides its form: columns, index entries and the unused part of the last page.
pub(super) const ROW_BYTES: u64 = 4_500;

/// The length of the periods of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolution {
    /// Minutes, as they were closed.
    Minute,
    /// Hours, in UTC.
    Hour,
    /// Days, in UTC.
    Day,
}

impl Resolution {
    /// All resolutions, finest first.
    pub(crate) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Returns the length of a period.
    pub(crate) fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// Returns the start of the period that a moment lies in, in Unix seconds.
    pub(crate) fn start_of(self, second: i64) -> i64 {
        second.div_euclid(self.seconds()) * self.seconds()
    }
}

impl ToSql for Resolution {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.seconds().into())
    }
}

/// The form of a stored period. The history stores both, because charts over many periods need no lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Everything.
    Full,
    /// Counters, rates and histograms: neither top lists nor distinct counts.
    Counters,
}

/// A stored period, without its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Number of the row.
    pub(crate) id: i64,
    /// Start of the period in Unix seconds.
    pub(crate) period: i64,
    /// Start of the counting. A restart makes two parts of a minute.
    pub(crate) start: Timestamp,
    /// End of the counting.
    pub(crate) end: Timestamp,
    /// Seconds for which packets were counted.
    pub(crate) covered: u64,
}

impl Detail {
    /// Both, the larger first.
    pub(crate) const ALL: [Self; 2] = [Self::Full, Self::Counters];
}

impl ToSql for Detail {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((*self == Self::Full).into())
    }
}

/// The periods of a policy that are alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind<'a> {
    pub(super) policy: &'a str,
    pub(super) resolution: Resolution,
    pub(super) detail: Detail,
}

impl Stored {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            period: row.get("period")?,
            start: Timestamp::from_nanos(row.get("start")?),
            end: Timestamp::from_nanos(row.get("end")?),
            covered: row.get::<_, i64>("covered")? as u64,
        })
    }
}

/// A period to store.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) period: i64,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) covered: u64,
    pub(super) form: &'a [u8],
}

/// Why the history cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// The file is damaged, or something else than a database.
    #[error("{0} is damaged")]
    Damaged(PathBuf),
    /// The file is a database of another program.
    #[error("{0} is a database of another program")]
    Foreign(PathBuf),
    /// The file was written by a newer release.
    #[error("a newer release wrote {path} (version {found}, this release knows {VERSION})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its tables.
        found: i32,
    },
    /// Another process has locked the file.
    #[error("{0} is in use by another process")]
    Busy(PathBuf),
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The file or its folder cannot be written.
    #[error("cannot write {0}: it is read-only")]
    ReadOnly(PathBuf),
    /// Any other failure.
    #[error("{path}: {error}")]
    Other {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        error: rusqlite::Error,
    },
}

/// The open file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

type Result<T> = std::result::Result<T, DatabaseError>;

impl Database {
    /// Opens the file in a folder, or creates it.
    ///
    /// # Errors
    /// [`DatabaseError`], after which the file is as it was before.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags);
        let connection = connection.map_err(|error| explain(&path, error))?;
        let database = Self { connection, path };
        database.prepare()?;
        Ok(database)
    }

    /// Checks the file and creates its tables if they are missing.
    fn prepare(&self) -> Result<()> {
        let number = |name: &str| -> Result<i32> {
            self.explained(|db| db.pragma_query_value(None, name, |row| row.get(0)))
        };
        let (application, version) = (number("application_id")?, number("user_version")?);
        let tables: i64 = self.explained(|db| {
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        })?;
        if application != APPLICATION && (application != 0 || tables > 0) {
            return Err(DatabaseError::Foreign(self.path.clone()));
        }
        if version > VERSION {
            return Err(DatabaseError::Newer { path: self.path.clone(), found: version });
        }
        // Only one process may write, and none has to share memory with it.
        self.explained(|db| {
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            if tables == 0 {
                db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            }
            db.pragma_update(None, "journal_mode", "WAL")?;
            // A lost minute after a power failure is acceptable, a damaged file is not.
            db.pragma_update(None, "synchronous", "NORMAL")?;
            db.pragma_update(None, "cache_size", -CACHE_KIB)?;
            db.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
            db.execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS period (
                     id INTEGER PRIMARY KEY,
                     policy TEXT NOT NULL,
                     resolution INTEGER NOT NULL,
                     period INTEGER NOT NULL,
                     start INTEGER NOT NULL,
                     \"end\" INTEGER NOT NULL,
                     covered INTEGER NOT NULL,
                     \"full\" INTEGER NOT NULL,
                     form BLOB NOT NULL,
                     UNIQUE (policy, resolution, \"full\", period, start)
                 ) STRICT;
                 PRAGMA application_id = {APPLICATION};
                 PRAGMA user_version = {VERSION};
                 COMMIT;"
            ))
        })
    }

    /// Stores a period. One of the same kind and start is replaced.
    ///
    /// # Errors
    /// [`DatabaseError`] if it cannot be written.
    pub(super) fn put(&self, kind: Kind<'_>, new: New<'_>) -> Result<()> {
        let Kind { policy, resolution, detail } = kind;
        let New { period, start, end, covered, form } = new;
        self.explained(|db| {
            let mut insert = db.prepare_cached(
                "INSERT OR REPLACE INTO period (policy, resolution, period, start, \"end\", covered, \"full\", form)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let (start, end) = (start.as_nanos(), end.as_nanos());
            let covered = covered as i64;
            insert
                .execute(params![policy, resolution, period, start, end, covered, detail, form])?;
            Ok(())
        })
    }

    /// Lists the periods of a kind that start from `from` on and before `to`, in Unix seconds, oldest first.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn list(&self, kind: Kind<'_>, from: i64, to: i64) -> Result<Vec<Stored>> {
        let Kind { policy, resolution, detail } = kind;
        self.explained(|db| {
            let mut select = db.prepare_cached(
                "SELECT id, period, start, \"end\", covered FROM period
                 WHERE policy = ?1 AND resolution = ?2 AND \"full\" = ?3 AND period >= ?4 AND period < ?5
                 ORDER BY period, start",
            )?;
            let rows =
                select.query_map(params![policy, resolution, detail, from, to], Stored::of)?;
            rows.collect()
        })
    }

    /// Returns the oldest period of a kind.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn oldest(&self, kind: Kind<'_>) -> Result<Option<Stored>> {
        self.oldest_before(kind, i64::MAX)
    }

    /// Returns the oldest period of a kind, if it starts before `before`, in Unix seconds.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn oldest_before(&self, kind: Kind<'_>, before: i64) -> Result<Option<Stored>> {
        self.first(kind, before, "period, start")
    }

    /// Returns the newest period of a kind that starts before `before`, in Unix seconds.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn newest(&self, kind: Kind<'_>, before: i64) -> Result<Option<Stored>> {
        self.first(kind, before, "period DESC, start DESC")
    }

    fn first(&self, kind: Kind<'_>, before: i64, order: &str) -> Result<Option<Stored>> {
        let Kind { policy, resolution, detail } = kind;
        self.explained(|db| {
            let mut select = db.prepare_cached(&format!(
                "SELECT id, period, start, \"end\", covered FROM period
                 WHERE policy = ?1 AND resolution = ?2 AND \"full\" = ?3 AND period < ?4
                 ORDER BY {order} LIMIT 1",
            ))?;
            select.query_row(params![policy, resolution, detail, before], Stored::of).optional()
        })
    }

    /// Returns the extent of a kind; `None` without periods.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn extent(&self, kind: Kind<'_>) -> Result<Option<Extent>> {
        let Kind { policy, resolution, detail } = kind;
        self.explained(|db| {
            let mut select = db.prepare_cached(
                "SELECT count(*), sum(length(form)), min(period), max(period) FROM period
                 WHERE policy = ?1 AND resolution = ?2 AND \"full\" = ?3 HAVING count(*) > 0",
            )?;
            let extent = |row: &Row<'_>| {
                Ok(Extent {
                    parts: row.get::<_, i64>(0)? as u64,
                    bytes: row.get::<_, i64>(1)? as u64,
                    oldest: row.get(2)?,
                    newest: row.get::<_, i64>(3)?.saturating_add(resolution.seconds()),
                })
            };
            select.query_row(params![policy, resolution, detail], extent).optional()
        })
    }

    /// Returns the form of a period; `None` if it is gone.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn form(&self, id: i64) -> Result<Option<Vec<u8>>> {
        self.explained(|db| {
            let mut select = db.prepare_cached("SELECT form FROM period WHERE id = ?1")?;
            select.query_row([id], |row| row.get(0)).optional()
        })
    }

    /// Removes a period.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be written.
    pub(super) fn remove(&self, id: i64) -> Result<()> {
        self.explained(|db| {
            db.prepare_cached("DELETE FROM period WHERE id = ?1")?.execute([id])?;
            Ok(())
        })
    }

    /// Removes the oldest periods of a kind that start before `before`, at most `most`. Returns how many they
    /// were.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be written.
    pub(super) fn remove_before(&self, kind: Kind<'_>, before: i64, most: u32) -> Result<usize> {
        let Kind { policy, resolution, detail } = kind;
        self.explained(|db| {
            let mut delete = db.prepare_cached(
                "DELETE FROM period WHERE id IN (
                     SELECT id FROM period
                     WHERE policy = ?1 AND resolution = ?2 AND \"full\" = ?3 AND period < ?4
                     ORDER BY period LIMIT ?5
                 )",
            )?;
            delete.execute(params![policy, resolution, detail, before, most])
        })
    }

    /// Runs `change` in one transaction: all of it is stored, or nothing.
    ///
    /// # Errors
    /// The error of `change`, or [`DatabaseError`] if it cannot be stored.
    pub(super) fn transaction<T, E: From<DatabaseError>>(
        &self,
        change: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.explained(|db| db.execute_batch("BEGIN IMMEDIATE"))?;
        let result = change().and_then(|done| {
            self.explained(|db| db.execute_batch("COMMIT"))?;
            Ok(done)
        });
        if result.is_err() {
            // SQLite may already have rolled it back.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        result
    }

    /// Returns the bytes of the pages in use.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be read.
    pub(super) fn bytes(&self) -> Result<u64> {
        let number = |name: &str| -> Result<i64> {
            self.explained(|db| db.pragma_query_value(None, name, |row| row.get(0)))
        };
        let pages = number("page_count")? - number("freelist_count")?;
        Ok((pages * number("page_size")?) as u64)
    }

    /// Gives unused pages back to the file system.
    ///
    /// # Errors
    /// [`DatabaseError`] if the file cannot be written.
    pub(super) fn shrink(&self) -> Result<()> {
        // Each step frees one page.
        self.explained(|db| db.pragma(None, "incremental_vacuum", FREED_PAGES, |_| Ok(())))
    }

    /// Damages the form of a period.
    #[cfg(test)]
    pub(super) fn damage(&self, id: i64) {
        let damage = "UPDATE period SET form = zeroblob(length(form)) WHERE id = ?1";
        self.connection.execute(damage, [id]).unwrap();
    }

    fn explained<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        ask(&self.connection).map_err(|error| explain(&self.path, error))
    }
}

/// Converts an error of SQLite to one that the operator understands.
fn explain(path: &Path, error: rusqlite::Error) -> DatabaseError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DatabaseError::Damaged(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DatabaseError::Busy(path),
        Some(ErrorCode::DiskFull) => DatabaseError::DiskFull,
        Some(ErrorCode::ReadOnly) => DatabaseError::ReadOnly(path),
        _ => DatabaseError::Other { path, error },
    }
}

#[cfg(test)]
mod tests;
