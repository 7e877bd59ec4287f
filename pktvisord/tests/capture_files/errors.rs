//! Errors for files that cannot be read.

use std::path::Path;

use pktvisord::input::file::{CaptureReader, FileOptions, Problem};
use pktvisord::input::target::{Target, resolve};

use super::support::{MICROSECONDS, Order, PcapWriter, read, read_all, store};

fn message(bytes: &[u8]) -> String {
    let error = read_all(bytes).error.expect("an error");
    error.problem.to_string()
}

#[test]
fn rejects_files_that_are_not_captures() {
    assert_eq!(message(b""), "is empty; even a capture without packets has a file header");
    assert!(message(b"\x1f").starts_with("not a capture file: only 1 bytes; "));
    assert!(message(b"Sir, I have a bicycle to sell, and no packets.").starts_with(
        "not a capture file: libpcap: unknown file format; supported formats are pcap and pcapng"
    ));
    for cut in 4..24 {
        let header = PcapWriter::ethernet().bytes;
        let expected = format!("truncated at byte {cut}, inside the file header");
        assert!(message(&header[..cut]).starts_with(&expected));
    }
}

#[test]
fn reports_files_that_cannot_be_opened() {
    let open = |path: &Path| match CaptureReader::open(path, &FileOptions::default()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    };
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path());
    assert!(matches!(error.problem, Problem::Directory));
    assert_eq!(
        error.to_string(),
        format!("{}: is a directory; name a capture file", folder.path().display())
    );
    let error = open(&folder.path().join("absent"));
    assert!(error.to_string().contains("cannot open: No such file"), "{error}");
}

#[test]
fn names_unsupported_link_types() {
    for (link, name) in [
        (189, "link type 189 (USB_LINUX: USB with Linux header) is not supported"),
        (60_000, "link type 60000 is not supported"),
    ] {
        let mut writer = PcapWriter::new(Order::Little, MICROSECONDS, (2, 4), link);
        let outcome = read_all(&writer.bytes);
        assert!(outcome.warnings.is_empty() && outcome.complete().is_empty());
        writer.packet(1, 0, 4, &[1; 4]).packet(2, 0, 4, &[1; 4]);
        let outcome = read_all(&writer.bytes);
        assert_eq!((outcome.unread, outcome.packets.len()), (2, 0));
        let expected = format!("ignored 2 packets, the first is packet 1: {name}");
        assert!(outcome.warnings[0].starts_with(&expected), "{:?}", outcome.warnings);
        outcome.complete();
    }
}

#[test]
fn concatenated_captures_end_where_the_second_starts() {
    for first in Order::BOTH {
        for second in Order::BOTH {
            let [first, second] = [first, second].map(|order| {
                let mut writer = PcapWriter::new(order, MICROSECONDS, (2, 4), 1);
                writer.packet(1_700_000_000, 0, 4, &[1; 4]).packet(1_700_000_001, 0, 4, &[1; 4]);
                writer.bytes
            });
            let outcome = read_all(&[first, second].concat());
            assert_eq!(outcome.packets.len(), 2);
            let message = outcome.error.unwrap().problem.to_string();
            assert!(message.starts_with("corrupt at byte 64, packet 3: another capture starts"));
        }
    }
}

#[test]
fn strict_turns_truncation_into_an_error() {
    let mut writer = PcapWriter::ethernet();
    writer.packet(1, 1, 4, &[1; 4]).packet(1, 1, 4, &[1; 4]);
    writer.bytes.pop();
    let outcome = read(&writer.bytes, &FileOptions { strict: true, ..FileOptions::default() });
    assert_eq!(outcome.packets.len(), 1);
    let error = outcome.error.unwrap();
    assert_eq!(error.problem.to_string(), "truncated at byte 63, in packet 2");
}

#[test]
fn resolves_targets() {
    assert_eq!(resolve("-").unwrap(), Target::Stdin);
    assert_eq!(resolve("any").unwrap(), Target::Any);
    let stored = store(&PcapWriter::ethernet().bytes);
    let path = stored.path.to_str().unwrap();
    assert_eq!(resolve(path).unwrap(), Target::File(stored.path.clone()));
    assert_eq!(resolve("lo").unwrap(), Target::Interfaces(vec!["lo".to_owned()]));
    let address = "127.0.0.1";
    let expected = Target::Address(address.parse().unwrap(), "lo".to_owned());
    assert_eq!(resolve(address).unwrap(), expected);
}

#[test]
fn error_for_unknown_target_lists_what_was_tried() {
    let stored = store(b"no capture");
    let path = stored.path.to_str().unwrap();
    let message = resolve(path).unwrap_err().to_string();
    let expected = format!("{path}: not a capture file: libpcap: ");
    assert!(message.starts_with(&expected), "{message}");
    // For an existing file, the error does not list interfaces and addresses of this host.
    assert!(!message.contains("interfaces ") && !message.contains("127.0.0.1"), "{message}");

    let message = resolve("eth99").unwrap_err().to_string();
    assert!(message.starts_with("eth99: no such file; "), "{message}");
    assert!(message.contains("lo (127.0.0.1"), "{message}");

    let message = resolve("203.0.113.77").unwrap_err().to_string();
    assert!(message.contains("no interface of this host has this address"), "{message}");
}
