//! Writes classic capture files (draft-ietf-opsawg-pcap): little-endian, microseconds, Ethernet.

use std::io::{self, Write};

/// Snap length in the file header. No packet is longer.
const SNAP_LENGTH: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;

/// Writes the file header.
pub(super) fn write_header(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    out.write_all(&2_u16.to_le_bytes())?;
    out.write_all(&4_u16.to_le_bytes())?;
    out.write_all(&[0; 8])?;
    out.write_all(&SNAP_LENGTH.to_le_bytes())?;
    out.write_all(&LINKTYPE_ETHERNET.to_le_bytes())
}

/// Writes a packet with its time in nanoseconds of unix time.
pub(super) fn write_packet(out: &mut impl Write, time: u64, frame: &[u8]) -> io::Result<()> {
    let length = frame.len() as u32;
    let mut header = [0; 16];
    header[..4].copy_from_slice(&((time / 1_000_000_000) as u32).to_le_bytes());
    header[4..8].copy_from_slice(&((time % 1_000_000_000 / 1000) as u32).to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..].copy_from_slice(&length.to_le_bytes());
    out.write_all(&header)?;
    out.write_all(frame)
}
