//! Capture files. For any content, the packets read lie within their block, and reading ends.

use std::cell::RefCell;
use std::io::Write;

use pktvisord::decode::block::Block;
use pktvisord::input::file::{CaptureReader, FileOptions};

/// Maximum bytes read from one input. A short input can decompress to far more than is useful here.
const MAX_OCTETS: usize = 16 << 20;

thread_local! {
    /// Shared by all inputs, because a new block costs more than most inputs do.
    static BLOCK: RefCell<Block> = RefCell::default();
}

/// Reads the input as a capture file, with and without `strict`.
pub fn run(data: &[u8]) {
    BLOCK.with_borrow_mut(|block| check(data, block));
}

fn check(data: &[u8], block: &mut Block) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a temporary file takes octets");
    let mut read = |strict| {
        let options = FileOptions { strict, ..FileOptions::default() };
        let mut reader = match CaptureReader::open(file.path(), &options) {
            Ok(reader) => reader,
            Err(error) => return (0, Some(error.to_string())),
        };
        let (mut packets, mut octets) = (0, 0);
        loop {
            match reader.next_block(block) {
                Ok(true) if octets < MAX_OCTETS => {}
                Ok(_) => break,
                Err(error) => return (packets, Some(error.to_string())),
            }
            assert!(!block.packets.is_empty());
            for record in &block.packets {
                assert!(record.captured <= record.wire_len);
                octets += block.packet(record).len();
                packets += 1;
            }
        }
        (packets, reader.truncation().map(|truncation| format!("{truncation:?}")))
    };
    let (lenient, strict) = (read(false), read(true));
    // libFuzzer's timer interrupts reads of libpcap. Signals of the daemon do not (`SA_RESTART`).
    let is_interrupted = |error: &Option<String>| {
        error.as_ref().is_some_and(|error| error.contains("Interrupted system call"))
    };
    if is_interrupted(&lenient.1) || is_interrupted(&strict.1) {
        return;
    }
    let alike = lenient.0 == strict.0 && lenient.1.is_some() == strict.1.is_some();
    assert!(alike, "{lenient:?} leniently, {strict:?} strictly");
}
