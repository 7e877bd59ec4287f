//! Tests on real files.

use pktvisor_common::time::Span;

use super::*;

const MINUTES: Kind<'_> =
    Kind { policy: "default", resolution: Resolution::Minute, detail: Detail::Full };

fn new(period: i64, form: &[u8]) -> New<'_> {
    let start = Timestamp::from_second(period);
    New { period, start, end: start + Span::from_seconds(60), covered: 60, form }
}

#[test]
fn periods_are_there_after_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    for period in [120, 60, 180] {
        database.put(MINUTES, new(period, &period.to_be_bytes())).unwrap();
    }
    for other in [
        Kind { resolution: Resolution::Hour, ..MINUTES },
        Kind { policy: "other", ..MINUTES },
        Kind { detail: Detail::Counters, ..MINUTES },
    ] {
        database.put(other, new(60, b"other")).unwrap();
    }
    database.put(MINUTES, new(120, b"again")).unwrap();
    drop(database);
    let database = Database::open(folder.path()).unwrap();
    let all = database.list(MINUTES, 0, 180).unwrap();
    let forms = all.iter().map(|stored| database.form(stored.id).unwrap().unwrap());
    assert_eq!(forms.collect::<Vec<_>>(), [60_i64.to_be_bytes().to_vec(), b"again".to_vec()]);
    assert_eq!(all[0].period, 60);
    assert_eq!(database.remove_before(MINUTES, 180, 9).unwrap(), 2);
    let oldest = database.oldest(MINUTES).unwrap().unwrap();
    assert_eq!(oldest.period, 180);
    database.remove(oldest.id).unwrap();
    assert!(database.oldest(MINUTES).unwrap().is_none());
}

#[test]
fn failed_transactions_store_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let failed: Result<()> = database.transaction(|| {
        database.put(MINUTES, new(60, b"a"))?;
        Err(DatabaseError::DiskFull)
    });
    assert!(failed.is_err());
    assert!(database.oldest(MINUTES).unwrap().is_none());
}

#[test]
fn files_of_others_are_refused_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let error = |expected: fn(&DatabaseError) -> bool| {
        let before = std::fs::read(&path).unwrap();
        let error = Database::open(folder.path()).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    };
    std::fs::write(&path, [b'x'; 8192]).unwrap();
    error(|error| matches!(error, DatabaseError::Damaged(_)));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    error(|error| matches!(error, DatabaseError::Foreign(_)));
    std::fs::remove_file(&path).unwrap();
    let newer = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 9");
    Connection::open(&path).unwrap().execute_batch(&newer).unwrap();
    error(|error| matches!(error, DatabaseError::Newer { found: 9, .. }));
}

#[test]
fn one_process_has_the_file_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Database::open(folder.path()).unwrap();
    let error = Database::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatabaseError::Busy(_)), "{error}");
}

#[test]
fn removed_periods_free_space() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let form = vec![7; 100_000];
    for period in 0..20 {
        database.put(MINUTES, new(60 * period, &form)).unwrap();
    }
    let full = database.bytes().unwrap();
    assert!(full > 2_000_000 && full < 20 * (100_000 + ROW_BYTES));
    assert_eq!(database.remove_before(MINUTES, 60 * 20, 10).unwrap(), 10);
    assert!(database.bytes().unwrap() < full * 6 / 10);
    database.shrink().unwrap();
    drop(database);
    let size = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(size < full * 6 / 10);
}
