//! Capture files, and a folder for them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub const MICROSECOND: i64 = 1_000;
pub const MILLISECOND: i64 = 1_000_000;
pub const SECOND: i64 = 1_000_000_000;
/// Start of captures: a full minute of unix time, 2023-11-14 22:14:00.
pub const START: i64 = 1_700_000_040 * SECOND;

const LINK_ETHERNET: u32 = 1;

/// Packets for a capture file, with times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    pub packets: Vec<(i64, Vec<u8>)>,
}

impl Capture {
    pub fn push(&mut self, time: i64, frame: Vec<u8>) {
        self.packets.push((time, frame));
    }

    /// Sorts the packets by time. The sort is stable.
    pub fn sort(&mut self) {
        self.packets.sort_by_key(|&(time, _)| time);
    }

    /// Returns a pcap file with times in nanoseconds.
    pub fn pcap(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let le = |file: &mut Vec<u8>, number: u32| file.extend(number.to_le_bytes());
        for number in [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, LINK_ETHERNET] {
            le(&mut file, number);
        }
        for (time, frame) in &self.packets {
            let (seconds, nanoseconds) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
            let length = frame.len() as u32;
            for number in [seconds as u32, nanoseconds as u32, length, length] {
                le(&mut file, number);
            }
            file.extend(frame);
        }
        file
    }

    /// Returns a pcapng file with times in nanoseconds.
    pub fn pcapng(&self) -> Vec<u8> {
        let mut file = Vec::new();
        block(&mut file, 0x0a0d_0d0a, &[&0x1a2b_3c4du32.to_le_bytes(), &[1, 0, 0, 0], &[0xff; 8]]);
        // Option 9 of the interface is the resolution of times: 10^-9 s.
        let options: [u8; 12] = [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        block(&mut file, 1, &[&LINK_ETHERNET.to_le_bytes(), &[0; 4], &options]);
        for (time, frame) in &self.packets {
            let (high, low) = ((*time as u64 >> 32) as u32, *time as u32);
            let length = frame.len() as u32;
            let numbers = [0, high, low, length, length].map(u32::to_le_bytes).concat();
            block(&mut file, 6, &[&numbers, frame]);
        }
        file
    }
}

fn block(file: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let mut body = parts.concat();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = (body.len() as u32 + 12).to_le_bytes();
    file.extend(kind.to_le_bytes());
    file.extend(length);
    file.extend(body);
    file.extend(length);
}

/// A temporary folder for the files of a test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for the test"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of a file as text.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// Writes a file. Returns its path.
    pub fn store(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.path().join(name);
        fs::write(&path, bytes).expect("a file for the test");
        self.file(name)
    }
}
