//! The command line, and servers that are not pktvisord.

use std::io::{Read, Write};
use std::process::{Command, Output};

fn pktvisor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pktvisor")).args(arguments).output().unwrap()
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
fn reports_unreachable_daemon() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(
        failure(&[&address.to_string()]),
        (3, format!("pktvisor: {address} refused the connection: is pktvisord running there?\n"))
    );
    let (code, message) = failure(&["nowhere.invalid"]);
    assert_eq!(code, 3);
    assert!(message.starts_with("pktvisor: cannot reach nowhere.invalid:10853: "), "{message}");
}

/// Runs against a server that answers every request with `status` and `body`.
fn failure_with(status: u16, body: &str) -> (i32, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let (code, message) = failure(&[&address, "--bucket", "0"]);
    server.join().unwrap();
    (code, message.replace(&address, "ADDRESS"))
}

#[test]
fn reports_server_that_is_not_pktvisord() {
    let (code, message) = failure_with(200, "[]");
    assert_eq!(code, 4);
    assert!(message.starts_with("pktvisor: ADDRESS answered 200, but not like pktvisord: "));
    let (code, message) = failure_with(200, "{}");
    assert_eq!(code, 4);
    assert!(message.contains("invalid length 0, expected one view"), "{message}");
    let (code, message) = failure_with(404, "<html>");
    assert_eq!(code, 4);
    assert!(message.starts_with("pktvisor: ADDRESS answered 404, but not like pktvisord: "));
}

#[test]
fn escapes_control_characters_in_errors() {
    let (code, message) = failure_with(500, r#"{"error": "a\u001b[2J\u202e"}"#);
    assert_eq!((code, &*message), (4, "pktvisor: ADDRESS answered 500: a\\u{1b}[2J\\u{202e}\n"));
}

#[test]
fn reports_wrong_usage() {
    for arguments in [
        &["--window", "1", "--bucket", "1"][..],
        &["--window", "x"],
        &["sensor", "-p", "1"],
        &["ftp://sensor"],
        &["sensor:x"],
    ] {
        let (code, message) = failure(arguments);
        assert_eq!(code, 2, "{message}");
    }
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!(printed(&["--help"]));
}
