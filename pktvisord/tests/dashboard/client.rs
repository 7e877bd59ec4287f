//! The dashboard program without a terminal.

use std::process::{Command, Output};

use pktvisor_common::api::{Range, Views};

use crate::support::{live, program, serve, serve_single};

fn pktvisor(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

/// Returns standard output of a run that must succeed.
fn printed(arguments: &[&str]) -> String {
    let output = pktvisor(arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the exit code and standard error of a run that must fail.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = pktvisor(arguments);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn shows_widest_available_window() {
    let server = serve();
    let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
    let report = printed(&["-H", &host, "-p", &port]);
    assert!(
        report.starts_with(&format!("pktvisord at {}, window 3\n", server.address)),
        "{report}"
    );
    // Standard output is not a terminal here.
    assert!(!report.contains('\x1b'), "{report}");
}

#[test]
fn shows_single_summary() {
    let server = serve_single();
    let address = server.address.to_string();
    for arguments in [vec!["--report"], vec![], vec!["--once"], vec!["--json"]] {
        let text = printed(&[arguments.clone(), vec![address.as_str()]].concat());
        let total = if arguments == ["--json"] { "3006" } else { "3,006" };
        assert!(text.contains(total), "{arguments:?}: {text}");
    }
}

#[test]
fn shows_requested_bucket_or_window() {
    let server = serve();
    let address = server.address.to_string();
    let report = printed(&[&address, "--bucket", "2"]);
    assert!(report.starts_with(&format!("pktvisord at {address}, bucket 2\n")), "{report}");
    assert!(report.contains("PACKETS  1,003"), "{report}");
    let report = printed(&[&format!("http://{address}/"), "--window", "1"]);
    assert!(report.starts_with(&format!("pktvisord at {address}, window 1\n")), "{report}");
    assert!(report.contains("PACKETS  1,001"), "{report}");
}

/// The daemon has 2023-03-28 10:40, 10:41 and the live minute 10:42.
#[test]
fn shows_ranges_of_time() {
    let server = serve();
    let address = server.address.to_string();
    let report = printed(&[&address, "--from", "2023-03-28 10:40", "--to", "2023-03-28 10:42"]);
    let title = format!("pktvisord at {address}, 2023-03-28 10:40 to 10:42 UTC (2min)\n");
    assert!(report.starts_with(&title), "{report}");
    assert!(report.contains("PACKETS  2,005"), "{report}");
    let json = printed(&[&address, "--from", "-1h", "--json"]);
    let range: Range = serde_json::from_str(&json).unwrap();
    assert_eq!(range.parts[0].metrics.packets.total, 3_006);
    let frame = printed(&[&address, "--from", "-1h", "--once"]);
    assert!(frame.contains("2023-03-28 10:40 to 10:43 UTC (3min)"), "{frame}");
    let (code, error) = failure(&[&address, "--from", "2020-01-01", "--to", "2020-01-02"]);
    assert_eq!(code, 4);
    assert!(error.contains("no data of this range"), "{error}");
    let (code, error) = failure(&[&address, "--from", "yesterday"]);
    assert!(code == 2 && error.contains("\"yesterday\" is not a time"), "{error}");
    assert_eq!(failure(&[&address, "--to", "-1h"]).0, 2);
    assert_eq!(failure(&[&address, "--from", "-1h", "--window", "3"]).0, 2);
}

#[test]
fn json_is_that_of_the_daemon() {
    let server = serve();
    let json = printed(&["--json", "--bucket", "1", &server.address.to_string()]);
    let views: Views = serde_json::from_str(&json).unwrap();
    assert_eq!(views["1m"], *live().bucket(1).unwrap());
}

#[test]
fn reports_errors_of_the_daemon() {
    let server = serve();
    let address = server.address.to_string();
    assert_eq!(
        failure(&["--window", "9", &address]),
        (
            4,
            format!(
                "pktvisor: {address} answered 400: the period is out of range; \
             expected window/1 to window/5\n"
            )
        )
    );
    assert_eq!(
        failure(&["--bucket", "4", &address]),
        (
            4,
            format!(
                "pktvisor: {address} answered 404: the period is not available yet; \
             available: bucket/0 to bucket/2\n"
            )
        )
    );
}

#[test]
fn prints_one_frame_of_the_dashboard() {
    let server = serve();
    let address = server.address.to_string();
    let frame = printed(&["--once", &address]);
    assert!(frame.starts_with(&format!(" {address}  last 3 minutes")), "{frame}");
    for part in ["Overview", "Packets 3,006", "QName2", "DNS UDP ports"] {
        assert!(frame.contains(part), "no {part} in {frame}");
    }
    assert!(!frame.contains('\x1b'), "{frame}");
    assert!(printed(&["--once", "--color", "always", &address]).contains("\x1b["));
    // The same daemon twice makes a fleet in which everything counts twice.
    let fleet = printed(&["--once", &address, &format!("http://{address}")]);
    assert!(fleet.contains("2 of 2 answer"), "{fleet}");
    assert!(fleet.contains("Packets 6,012"), "{fleet}");
}
