//! Compressed captures and pipes.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use pktvisord::decode::block::Block;
use pktvisord::input::file::{CaptureReader, FileOptions, Truncation};

use super::support::{Order, Outcome, PcapNgWriter, PcapWriter, drain, read_all, store};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;

const COMPRESS: [Compress; 3] = [gzip, zstandard, xz];

fn capture() -> Vec<u8> {
    let mut writer = PcapWriter::ethernet();
    for number in 0..4_000_u32 {
        let bytes: Vec<_> =
            (0..900).map(|at| (number.wrapping_mul(at * at + 7) >> 5) as u8).collect();
        writer.packet(number, 0, 900, &bytes);
    }
    writer.bytes
}

#[test]
fn recognizes_compression_by_magic_number() {
    let plain = capture();
    let expected = read_all(&plain).complete();
    assert_eq!(expected.len(), 4_000);
    for compress in COMPRESS {
        assert_eq!(read_all(&compress(&plain)).complete(), expected);
        // Several members or frames. The first one ends within the file header.
        let parts = [&plain[..10], &plain[10..100_000], &[], &plain[100_000..]];
        let members: Vec<u8> = parts.iter().flat_map(|part| compress(part)).collect();
        assert_eq!(read_all(&members).complete(), expected);
    }
    let mut skippable = vec![0x53, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    skippable.extend(zstandard(&plain));
    assert_eq!(read_all(&skippable).complete(), expected);

    let mut writer = PcapNgWriter::new(Order::Big);
    writer.interface(1, 0, None, None).enhanced(0, 1, 1, &[1]);
    assert_eq!(read_all(&gzip(&writer.bytes)).complete().len(), 1);
}

#[test]
fn reads_truncated_compressed_data_up_to_the_cut() {
    let plain = capture();
    let expected = read_all(&plain).complete();
    for compress in COMPRESS {
        let compressed = compress(&plain);
        for cut in [compressed.len() / 2, compressed.len() - 1] {
            let outcome = read_all(&compressed[..cut]);
            assert!(outcome.error.is_none(), "{:?}", outcome.error);
            assert_eq!(outcome.packets, expected[..outcome.packets.len()]);
            let truncation = outcome.truncation.unwrap();
            assert_eq!(truncation.packet, outcome.packets.len() as u64 + 1);
            assert_eq!((truncation.byte - 24) / 916, outcome.packets.len() as u64);
        }
        for cut in 4..20 {
            let message = read_all(&compressed[..cut]).error.unwrap().to_string();
            assert!(message.contains(": truncated at byte 0, inside the file header"), "{message}");
        }
    }
}

#[test]
fn reads_damaged_compressed_data_up_to_the_damage() {
    let plain = capture();
    let expected = read_all(&plain).complete();
    let mut checked = zstd::Encoder::new(Vec::new(), 1).unwrap();
    checked.include_checksum(true).unwrap();
    checked.write_all(&plain).unwrap();
    // The checksum is at the end in zstd, before the length in gzip, and before the index in xz.
    for (mut compressed, format, from_end) in
        [(gzip(&plain), "gzip", 8), (checked.finish().unwrap(), "zstd", 1), (xz(&plain), "xz", 40)]
    {
        let checksum = compressed.len() - from_end;
        compressed[checksum] ^= 1;
        let outcome = read_all(&compressed);
        assert!(outcome.packets.len() >= 3_700, "{}", outcome.packets.len());
        assert_eq!(outcome.packets, expected[..outcome.packets.len()]);
        let message = outcome.error.unwrap().to_string();
        let start = format!(": cannot decompress the {format} data after byte ");
        assert!(message.contains(&start), "{message}");
        assert!(message.ends_with(&format!("; test the file with `{format} -t`")), "{message}");
    }
}

#[test]
fn refuses_windows_too_large_for_memory() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&capture()).unwrap();
    let message = read_all(&encoder.finish().unwrap()).error.unwrap().to_string();
    assert!(message.contains("cannot decompress the zstd data"), "{message}");

    // An xz stream states the size of its dictionary: 1 GiB, although it has hardly any content.
    let mut options = XzOptions::with_preset(0);
    options.lzma_options.dict_size = 1 << 30;
    let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(&capture()[..1_000]).unwrap();
    let message = read_all(&encoder.finish().unwrap()).error.unwrap().to_string();
    assert!(message.contains("cannot decompress the xz data"), "{message}");
}

#[test]
fn warns_about_bytes_after_the_end() {
    let plain = capture();
    let expected = read_all(&plain).complete();
    let tails: [&[u8]; 4] = [&[0; 512], &[0; 3], b"signature: none", &[0x1f]];
    for (number, compress) in COMPRESS.into_iter().enumerate() {
        for tail in tails {
            let starts_a_member = number == 0 && tail == [0x1f];
            if starts_a_member {
                continue;
            }
            let outcome = read_all(&[&compress(&plain)[..], tail].concat());
            // Zeros in multiples of 4 are valid padding in xz.
            let is_padding = number == 2 && tail.len() == 512;
            let warnings = outcome.warnings.clone();
            assert_eq!(outcome.complete(), expected);
            if is_padding {
                assert!(warnings.is_empty(), "{warnings:?}");
            } else {
                let bytes =
                    if tail.len() == 1 { "1 byte".into() } else { format!("{} bytes", tail.len()) };
                let expected = format!("ignored {bytes} after the end of the compressed data");
                assert_eq!(warnings, [expected]);
            }
        }
    }
    // Padding, then another stream.
    let parts = [&xz(&plain[..100_000])[..], &[0; 8], &xz(&plain[100_000..])].concat();
    assert_eq!(read_all(&parts).complete(), expected);
}

#[test]
fn warns_about_zeros_at_the_end() {
    let plain = capture();
    let expected = read_all(&plain).complete();
    let mut newer = PcapNgWriter::new(Order::Big);
    newer.interface(1, 0, None, None).enhanced(0, 1, 1, &[1]);
    for zeros in [4_usize, 15, 16, 512, 3_000_001] {
        for (bytes, packets) in [(&plain, expected.len()), (&newer.bytes, 1)] {
            let outcome = read_all(&[&bytes[..], &vec![0; zeros]].concat());
            let warnings = outcome.warnings.clone();
            assert_eq!(outcome.complete().len(), packets, "{zeros}");
            let expected = format!("ignored {zeros} zero bytes at the end");
            assert_eq!(warnings, [expected]);
        }
        // Not at the end: records of zero length in the middle, and an invalid block.
        let behind = PcapWriter::ethernet().packet(3, 0, 4, &[3; 4]).bytes.split_off(24);
        let records = zeros / 16;
        let whole = [&plain[..], &vec![0; records * 16], &behind].concat();
        let outcome = read_all(&whole);
        assert_eq!(outcome.packets.len(), expected.len() + records + 1);
        assert_eq!(outcome.packets.last().unwrap().bytes, [3; 4]);
        let error = read_all(&[&newer.bytes[..], &vec![0; zeros.max(12)], &[1; 40]].concat()).error;
        assert!(error.unwrap().to_string().contains(" zero bytes where a block should start"));
    }
}

#[test]
fn progress_counts_bytes_of_the_stored_file() {
    let compressed = gzip(&capture());
    let stored = store(&compressed);
    let mut reader = CaptureReader::open(&stored.path, &FileOptions::default()).unwrap();
    assert_eq!(reader.progress().total, Some(compressed.len() as u64));
    let mut block = Block::default();
    let mut before = 0;
    while reader.next_block(&mut block).unwrap() {
        let read = reader.progress().bytes_read;
        assert!(read >= before);
        before = read;
    }
    assert_eq!(before, compressed.len() as u64);
}

#[test]
fn delivers_packets_of_a_pipe_before_waiting_for_more() {
    let (reader, mut writer) = io::pipe().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    let mut capture = PcapWriter::ethernet();
    capture.packet(1, 0, 4, &[1; 4]);
    writer.write_all(&capture.bytes).unwrap();
    let mut capture = CaptureReader::open(&path, &FileOptions::default()).unwrap();
    assert_eq!(capture.progress().total, None);
    let mut block = Block::default();
    assert!(capture.next_block(&mut block).unwrap());
    assert_eq!(block.packets.len(), 1);

    // A record in three pieces.
    let mut record = PcapWriter::ethernet();
    record.packet(2, 0, 100_000, &vec![2; 100_000]);
    let bytes = record.bytes.split_off(24);
    let feed = thread::spawn(move || {
        for piece in [&bytes[..7], &bytes[7..90_000], &bytes[90_000..]] {
            writer.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        // The start of a record that never ends.
        writer.write_all(&bytes[..20]).unwrap();
    });
    let mut outcome = Outcome::default();
    drain(capture, &mut outcome);
    feed.join().unwrap();
    assert!(outcome.error.is_none());
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(outcome.packets[0].bytes, vec![2; 100_000]);
    let byte = 24 + 20 + 100_016 + 20;
    assert_eq!(outcome.truncation, Some(Truncation { byte, packet: 3 }));
}
