//! The program with files, pipes and terminals.

mod support;

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use pktvisor_common::api::Views;
use serde_json::Value;
use support::program::{PATIENCE, pktvisord, run, view, wait};
use support::tool::skipped;
use support::traffic::{HOSTS, stored};

const ESCAPE: char = '\x1b';

#[test]
fn json_is_one_line_or_pretty() {
    let (_folder, file) = stored();
    let short = run(&["-H", HOSTS, &file]);
    assert_eq!(short.stdout.lines().count(), 1);
    let pretty = run(&["-H", HOSTS, "--pretty", &file]);
    assert!(pretty.stdout.starts_with("{\n  \"5m\": {\n"), "{}", pretty.stdout);
    assert_eq!(view(&short), view(&pretty));
}

/// In a folder that others may write to, a link could lead anywhere.
#[test]
fn root_follows_no_link_but_its_own_output() {
    let (folder, file) = stored();
    let (target, link) = (folder.store("precious", b"precious"), folder.file("link"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let through = run(&["--summary", "-o", &link, &file]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(through.code, Some(4), "{}", through.stderr);
        assert!(through.stderr.contains("does not follow"), "{}", through.stderr);
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
    let shared = format!("/dev/shm/pktvisor-test-{}", std::process::id());
    if rustix::process::geteuid().is_root() && std::os::unix::fs::symlink(&target, &shared).is_ok()
    {
        let through = run(&["--summary", "-o", &shared, &file]);
        fs::remove_file(&shared).unwrap();
        assert_eq!(through.code, Some(4), "a folder of everybody below /dev");
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
    let piped = run(&["--summary", "-o", "/dev/stdout", &file]);
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    assert!(piped.stdout.starts_with("{\"summary\":"));
    let kept = fs::File::create(folder.file("kept")).unwrap();
    let status = pktvisord(&["--summary", "-o", "/dev/stdout", &file]).stdout(kept).status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read_to_string(folder.file("kept")).unwrap(), piped.stdout);
}

#[test]
fn writes_output_to_a_file() {
    let (folder, file) = stored();
    let printed = run(&["-H", HOSTS, "--summary", "--workers", "1", &file]);
    let output = folder.file("summary.json");
    // A previous file is replaced.
    fs::write(&output, "x".repeat(100_000)).unwrap();
    let args = ["-H", HOSTS, "--summary", "--workers", "1", "-o", &output, &file];
    let written = run(&args);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""));
    let written = fs::read_to_string(output).unwrap();
    assert_eq!(written, printed.stdout);
    let views: Views = serde_json::from_str(&written).unwrap();
    assert!(views.contains_key("summary"));
}

#[test]
fn report_has_no_colour_without_a_terminal() {
    let (folder, file) = stored();
    let report = run(&["-H", HOSTS, "--format", "text", &file]);
    assert_eq!(report.code, Some(0));
    assert!(report.stdout.starts_with("5m\n") && !report.stdout.contains(ESCAPE));
    assert!(report.stdout.lines().all(|line| line.chars().count() <= 100));
    let output = folder.file("report.txt");
    run(&["-H", HOSTS, "--format", "text", "-o", &output, &file]);
    assert_eq!(fs::read_to_string(output).unwrap(), report.stdout);
}

/// Runs the program on a terminal of its own. `environment` and `args` are words for a shell.
/// Returns the output on the terminal, or `None` without script(1).
fn on_a_terminal(environment: &str, args: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_pktvisord");
    let command = format!("{environment} '{program}' {args}");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
    match script.stdin(Stdio::null()).output() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            skipped(&format!("script(1), which makes terminals: {error}"));
            None
        }
    }
}

#[test]
fn terminal_gets_colour_and_pretty_json() {
    let (_folder, file) = stored();
    let run = |environment, format| {
        on_a_terminal(environment, &format!("-q -H {HOSTS} --format {format} '{file}'"))
    };
    let Some(report) = run("", "text") else { return };
    assert!(report.contains("\x1b["), "{report}");
    let plain = run("NO_COLOR=1", "text").unwrap();
    assert!(!plain.contains(ESCAPE) && plain.contains("PACKETS"), "{plain}");
    assert!(run("NO_COLOR=", "text").unwrap().contains("\x1b["), "empty is as if it were not set");
    let json = run("", "json").unwrap();
    assert!(json.starts_with("{\r\n  \"5m\": {\r\n") && !json.contains(ESCAPE), "{json}");
}

#[test]
fn log_can_be_json() {
    let (folder, file) = stored();
    let bytes = fs::read(&file).unwrap();
    let cut = folder.store("cut.pcap", &bytes[..bytes.len() - 1]);
    let done = run(&["-v", "--log-format", "json", &cut]);
    assert_eq!(done.code, Some(0));
    let lines: Vec<Value> =
        done.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let warning = lines.iter().find(|line| line["level"] == "WARN").expect("a warning");
    assert!(warning["message"].as_str().unwrap().contains("truncated at byte"), "{warning}");
    assert!(lines.iter().all(|line| line["timestamp"].is_string()));
    let done = run(&["--log-format", "json", "absent"]);
    let error: Value = serde_json::from_str(&done.stderr).expect("one line of JSON");
    assert_eq!((done.code, &error["level"]), (Some(3), &"ERROR".into()));
}

#[test]
fn closed_reader_is_no_error() {
    let (_folder, file) = stored();
    for args in [&["--format", "text", &file][..], &[&file], &["--help"]] {
        let mut child = pktvisord(args).spawn().unwrap();
        // Close the read end before anything is written.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn reports_full_disk() {
    let (_folder, file) = stored();
    let full = || fs::File::create("/dev/full").unwrap();
    let output = pktvisord(&[&file]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("cannot write to standard output: No space left"), "{stderr}");
}

#[test]
fn reads_named_pipe() {
    let (folder, file) = stored();
    let pipe = folder.file("pipe.pcap");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let bytes = fs::read(&file).unwrap();
    let to = pipe.clone();
    let writer = std::thread::spawn(move || fs::write(to, bytes).unwrap());
    let mut child = pktvisord(&["-H", HOSTS, &pipe]).spawn().unwrap();
    if wait(&mut child, PATIENCE).is_none() {
        child.kill().unwrap();
    }
    writer.join().unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let views: Views = serde_json::from_str(&stdout).unwrap();
    assert_eq!(views["5m"].packets, view(&run(&["-H", HOSTS, &file])).packets);
}
