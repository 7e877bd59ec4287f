//! Replays the corpora of the fuzz targets with a stable compiler.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[allow(unreachable_pub, reason = "the fuzz targets are a crate apart")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Runs a target on each file of a corpus.
fn replay(corpus: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut replayed = 0;
    for file in files {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        assert!(catch_unwind(|| run(&input)).is_ok(), "{}", path.display());
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty", folder.display());
}

#[test]
fn packet() {
    replay("packet", targets::packet::run);
}

#[test]
fn dns_scan() {
    replay("dns_scan", targets::dns_scan::run);
}

#[test]
fn tcp_stream() {
    replay("tcp_stream", targets::tcp_stream::run);
}

#[test]
fn defrag() {
    replay("defrag", targets::defrag::run);
}

#[test]
fn pcap_read() {
    replay("pcap_read", targets::capture::run);
}

#[test]
fn pcapng_read() {
    replay("pcapng_read", targets::capture::run);
}

#[test]
fn hostspec() {
    replay("hostspec", targets::hostspec::run);
}

#[test]
fn state() {
    replay("state", targets::state::run);
}
