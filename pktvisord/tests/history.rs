//! The history on disk, as the program writes it.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pktvisor_common::api::{AppMetrics, History, Range};
use pktvisor_common::summary::{Summary, state};
use rusqlite::{Connection, OpenFlags};
use support::capture::{Folder, SECOND, START};
use support::program::{Server, run};
use support::random::Random;
use support::traffic::traffic;

/// Minutes of the capture: hours begin and end within it.
const MINUTES: i64 = 150;
const GRACE: Duration = Duration::from_secs(20);

/// Stores a capture. Returns its path and its number of packets.
fn stored(folder: &Folder) -> (String, u64) {
    let traffic = traffic(11, 40_000, START, MINUTES * 60 * SECOND);
    let packets = traffic.capture.packets.len() as u64;
    (folder.store("traffic.pcap", &traffic.capture.pcap()), packets)
}

/// Replays a capture into a history. Returns the daemon at the end of it, its history, and the number of
/// packets.
fn replayed(folder: &Folder) -> (Server, PathBuf, u64) {
    let (file, sent) = stored(folder);
    let history = folder.path().join("history");
    fs::create_dir(&history).unwrap();
    let server = Server::start(&["--replay=max", "--history", history.to_str().unwrap(), &file]);
    server.wait_for_end();
    (server, history, sent)
}

/// The summaries of a history by resolution and period.
type Periods = BTreeMap<(i64, i64), Summary>;

/// Reads all periods of a history, and checks that the file is sound.
fn read(folder: &Path) -> Periods {
    let file = folder.join("history.db");
    let database = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut select =
        database.prepare("SELECT resolution, period, form FROM period WHERE full").unwrap();
    let rows =
        select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, Vec<u8>>(2)?)));
    rows.unwrap()
        .map(|row| {
            let (key, form) = row.unwrap();
            let form = zstd::bulk::decompress(&form, state::MAX_BYTES).unwrap();
            let terms = state::terms(&form).unwrap();
            (key, state::decode(&form, &terms).unwrap().summary)
        })
        .collect()
}

fn packets<'a>(periods: impl Iterator<Item = &'a Summary>) -> u64 {
    periods.map(|summary| summary.totals.total()).sum()
}

/// Returns the periods of a resolution in seconds.
fn of(periods: &Periods, resolution: i64) -> impl Iterator<Item = (i64, &Summary)> {
    let all = periods.range((resolution, i64::MIN)..=(resolution, i64::MAX));
    all.map(|(&(_, period), summary)| (period, summary))
}

#[test]
fn replayed_capture_is_stored_as_minutes_and_hours() {
    let folder = Folder::new();
    let (server, history, sent) = replayed(&folder);
    let (code, log) = server.stop("INT", GRACE);
    assert_eq!(code, Some(0), "{log}");
    let periods = read(&history);
    let minutes = || of(&periods, 60).map(|(_, minute)| minute);
    // The last minute has not ended, and is stored too.
    assert_eq!(packets(minutes()), sent);
    assert_eq!(minutes().count() as i64, MINUTES);
    let last = of(&periods, 60).last().unwrap().0;
    let over = last.div_euclid(3_600) * 3_600;
    let hours = of(&periods, 3_600);
    let within = of(&periods, 60).filter(|(minute, _)| *minute < over);
    assert_eq!(packets(hours.map(|(_, hour)| hour)), packets(within.map(|(_, minute)| minute)));
    assert!(of(&periods, 3_600).count() >= 2);
}

#[test]
fn ranges_are_served_from_memory_and_disk() {
    let folder = Folder::new();
    let (server, _, sent) = replayed(&folder);
    let path = |rest: &str| format!("/api/v1/metrics/range?from=-1d{rest}");
    let whole: Range = server.json(&path(""));
    let part = &whole.parts[0];
    assert_eq!(part.metrics.packets.total, sent);
    assert!(part.full && part.covered.abs_diff(MINUTES as u64 * 60) <= 60, "{}", part.covered);
    let series: Range = server.json(&path("&step=10m"));
    let sum: u64 = series.parts.iter().map(|part| part.metrics.packets.total).sum();
    assert_eq!((sum, series.step), (sent, Some(600)));
    assert!(series.parts.len() as i64 >= MINUTES / 10);
    let first = &series.parts[0];
    let one: Range =
        server.json(&format!("/api/v1/metrics/range?from={}&to={}", first.from_ts, first.to_ts));
    assert_eq!(one.parts[0].metrics.dns.wire_packets, first.metrics.dns.wire_packets);
    assert!(one.parts[0].full && !first.full && first.metrics.dns.top_qname2.is_empty());
    let stored: History = server.json("/api/v1/history");
    let disk = stored.disk.unwrap();
    let seconds: Vec<u64> = disk.resolutions.iter().map(|one| one.seconds).collect();
    assert_eq!(
        (&seconds[..2], disk.state.lost_minutes, &disk.state.problem),
        (&[60, 3_600][..], 0, &None)
    );
    assert!(stored.memory_from_ts.unwrap() > disk.resolutions[0].from_ts);
    let state = server.json::<AppMetrics>("/api/v1/metrics/app").app.history.unwrap();
    assert!(state.bytes > 10_000 && state.bytes <= disk.state.bytes, "{state:?}");
    let exposition = String::from_utf8(server.get("/metrics").1).unwrap();
    for line in ["pktvisor_history_ok 1", "pktvisor_history_lost_minutes_total 0"] {
        assert!(exposition.lines().any(|found| found.starts_with(line)), "{line}");
    }
    for (query, reason) in [
        ("", "missing field `from`"),
        ("?from=soon", "is not a time"),
        ("?from=-1h&step=1s", "whole minutes"),
        ("?from=now", "must start before"),
        ("?from=-1h&until=now", "unknown field `until`"),
        ("?from=%FF", "is not a time"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/metrics/range{query}"));
        let body = String::from_utf8(body).unwrap();
        assert!(status == 400 && body.contains(reason), "{query}: {body}");
    }
    assert_eq!(server.get("/api/v1/metrics/range?from=1&to=2").0, 404);
}

/// The file of a service names its history. A capture that is replayed on the same host is none of it.
#[test]
fn a_replay_is_not_stored_in_the_history_of_a_service() {
    let folder = Folder::new();
    let (file, _) = stored(&folder);
    let history = folder.path().join("history");
    fs::create_dir(&history).unwrap();
    let config = format!("[history]\ndir = {:?}\n", history.to_str().unwrap());
    let config = folder.store("pktvisord.toml", config.as_bytes());
    let server = Server::start(&["--config", &config, "--replay=max", &file]);
    server.wait_for_end();
    let log = server.log_so_far();
    assert!(log.contains("not stored in the history of the configuration file"), "{log}");
    assert!(server.json::<History>("/api/v1/history").disk.is_none());
    let summary = run(&["--history", history.to_str().unwrap(), &file]);
    assert_eq!(summary.code, Some(0), "{}", summary.stderr);
    assert!(summary.stderr.contains("the summary of a file is not stored"), "{}", summary.stderr);
    assert_eq!(fs::read_dir(&history).unwrap().count(), 0);
}

/// Live capture: the windows continue after a restart.
#[test]
fn windows_continue_after_a_restart() {
    if !support::has_rights() {
        return support::tool::skipped("live capture needs root");
    }
    let folder = Folder::new();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let arguments = ["--history", folder.path().to_str().unwrap(), "lo"];
    let server = Server::start(&arguments);
    // It sees its own requests.
    let packets = |server: &Server| {
        std::thread::sleep(Duration::from_millis(1_100));
        server.view("/api/v1/metrics/window/1").packets.total
    };
    let before = (0..3).map(|_| packets(&server)).max().unwrap();
    assert!(before > 0);
    assert_eq!(server.stop("TERM", GRACE).0, Some(0));
    let server = Server::start(&arguments);
    let log = server.log_so_far();
    assert!(log.contains("the history continues with"), "{log}");
    let range: Range = server.json("/api/v1/metrics/range?from=-5m");
    assert!(range.parts[0].metrics.packets.total >= before, "{before}");
}

/// Minutes are stored again by each run, which replaces them.
#[test]
fn killed_daemon_leaves_a_history_that_is_whole_up_to_a_minute() {
    let folder = Folder::new();
    let (file, _) = stored(&folder);
    let history = folder.path().join("history");
    fs::create_dir(&history).unwrap();
    let mut random = Random::new(3);
    let mut whole: Periods = Periods::new();
    let rounds = std::env::var("PKTVISOR_KILLS").map_or(8, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let server =
            Server::start(&["--replay=3000", "--history", history.to_str().unwrap(), &file]);
        std::thread::sleep(Duration::from_millis(random.below(2_500)));
        // This kills the process.
        drop(server);
        let periods = read(&history);
        let minutes: Vec<i64> = of(&periods, 60).map(|(period, _)| period).collect();
        assert!(
            minutes.windows(2).all(|pair| pair[1] == pair[0] + 60),
            "round {round}: a minute is missing: {minutes:?}"
        );
        for (key, before) in &whole {
            let now = periods.get(key).map(|summary| summary.totals.total());
            assert_eq!(now, Some(before.totals.total()), "round {round}: {key:?}");
        }
        whole = periods;
    }
    assert!(of(&whole, 60).count() > 2);
}

/// Starts the daemon on a history that it cannot use. Returns its log.
fn log_of(history: &Path, file: &str) -> String {
    let server = Server::start(&["--replay=max", "--history", history.to_str().unwrap(), file]);
    server.wait_for_end();
    let (code, log) = server.stop("INT", GRACE);
    assert_eq!(code, Some(0), "{log}");
    log
}

#[test]
fn capture_goes_on_without_a_usable_history() {
    let folder = Folder::new();
    let (file, _) = stored(&folder);
    let log = log_of(&folder.path().join("absent"), &file);
    assert!(log.contains("cannot use the history") && log.contains("absent"), "{log}");

    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    let bytes = vec![b'x'; 9_000];
    fs::write(damaged.join("history.db"), &bytes).unwrap();
    let log = log_of(&damaged, &file);
    assert!(log.contains("history.db is damaged; capture goes on without it"), "{log}");
    assert_eq!(fs::read(damaged.join("history.db")).unwrap(), bytes, "it is as it was");

    let kept = folder.path().join("kept");
    fs::create_dir(&kept).unwrap();
    log_of(&kept, &file);
    let before = read(&kept).len();
    let database = Connection::open(kept.join("history.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let log = log_of(&kept, &file);
    assert!(log.contains("a newer release wrote"), "{log}");
    assert_eq!(read(&kept).len(), before);
}

/// A file system of 1 MiB that fills up.
#[test]
fn full_disk_stops_the_history_and_nothing_else() {
    if !support::has_rights() {
        return support::tool::skipped("mounting a file system needs root");
    }
    let folder = Folder::new();
    let (file, _) = stored(&folder);
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |args: &[&str]| {
        let done = std::process::Command::new(args[0]).args(&args[1..]).status().unwrap();
        assert!(done.success(), "{args:?}");
    };
    let path = disk.to_str().unwrap();
    mount(&["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path]);
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o777)).unwrap();
    let log = log_of(&disk, &file);
    // SQLite needs room to read.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in ["history.db", "history.db-wal"] {
        if disk.join(file).exists() {
            fs::copy(disk.join(file), copy.join(file)).unwrap();
        }
    }
    mount(&["umount", path]);
    let periods = read(&copy);
    assert!(log.contains("cannot write the history: the disk is full; capture goes on"), "{log}");
    assert!(log.contains("are missing in the history"), "{log}");
    assert!(of(&periods, 60).count() > 5, "the stored minutes remain");
}
