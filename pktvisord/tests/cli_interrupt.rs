//! Signals while a pipe that is read stays open, and a log that cannot be written.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use pktvisor_common::api::Views;
use support::program::{pktvisord, run, signal, view, wait};
use support::traffic::{HOSTS, stored};

#[test]
fn a_log_that_cannot_be_written_changes_nothing() {
    let full = fs::File::create("/dev/full").unwrap();
    let output = pktvisord(&["absent"]).stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

/// Sends a signal to a program that reads a pipe which stays open: it prints what it read.
fn interrupted(name: &str) {
    let (_folder, file) = stored();
    let whole = view(&run(&["-H", HOSTS, &file]));
    let mut child = pktvisord(&["-H", HOSTS, "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&fs::read(&file).unwrap()).unwrap();
    // Time to read what is in the pipe; whatever is read by then has to be printed.
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
    assert_eq!(stderr, " WARN interrupted: this is what was read so far\n");
    let views: Views = serde_json::from_str(&stdout).unwrap();
    assert_eq!(views["5m"].packets.total, whole.packets.total);
}

#[test]
fn an_interrupt_prints_what_was_read() {
    interrupted("INT");
}

#[test]
fn a_termination_prints_what_was_read() {
    interrupted("TERM");
}

#[test]
fn a_pipe_is_served_while_it_is_open() {
    let (_folder, file) = stored();
    let args = ["-H", HOSTS, "--replay=max", "-l", "127.0.0.1", "-p", "0", "-"];
    let mut child = pktvisord(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&fs::read(file).unwrap()).unwrap();
    // Nothing more comes, but the pipe stays open.
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, "TERM");
    let code = wait(&mut child, Duration::from_secs(5));
    drop(child.kill());
    drop(stdin);
    assert_eq!(code, Some(0));
}
