//! Signals while the pipe on standard input stays open, and a log that cannot be written.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use pktvisor_common::api::Views;
use support::program::{pktvisord, run, signal, view, wait};
use support::traffic::{HOSTS, stored};

#[test]
fn ignores_unwritable_log() {
    let full = fs::File::create("/dev/full").unwrap();
    let output = pktvisord(&["absent"]).stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

/// Sends a signal to a daemon that reads a pipe which stays open. The daemon must print a summary
/// of what it has read.
fn interrupted(name: &str) {
    let (_folder, file) = stored();
    let whole = view(&run(&["-H", HOSTS, &file]));
    let mut child = pktvisord(&["-H", HOSTS, "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&fs::read(&file).unwrap()).unwrap();
    // Time to read the pipe. Everything read by then must be printed.
    std::thread::sleep(Duration::from_millis(700));
    signal(&child, name);
    let code = wait(&mut child, Duration::from_secs(5));
    if code.is_none() {
        child.kill().unwrap();
    }
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    drop(stdin);
    assert_eq!(code, Some(130), "{stderr}");
    assert_eq!(stderr, " WARN interrupted: the summary covers only the packets read so far\n");
    let views: Views = serde_json::from_str(&stdout).unwrap();
    assert_eq!(views["5m"].packets.total, whole.packets.total);
}

#[test]
fn sigint_prints_what_was_read() {
    interrupted("INT");
}

#[test]
fn sigterm_prints_what_was_read() {
    interrupted("TERM");
}

#[test]
fn sigterm_ends_replay_of_open_pipe() {
    let (_folder, file) = stored();
    let args = ["-H", HOSTS, "--replay=max", "-l", "127.0.0.1", "-p", "0", "-"];
    let mut child = pktvisord(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&fs::read(file).unwrap()).unwrap();
    // The pipe stays open but empty.
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, "TERM");
    let code = wait(&mut child, Duration::from_secs(5));
    drop(child.kill());
    drop(stdin);
    assert_eq!(code, Some(0));
}
