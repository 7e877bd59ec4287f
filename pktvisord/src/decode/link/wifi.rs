//! 802.11 data frames and LLC.

use pktvisor_common::packet::{ETHERTYPE_IPV4, PacketBytes};

/// Frame control: the type. Only data frames are read.
const TYPE: u8 = 0x0c;
const DATA: u8 = 0x08;
/// Subtypes of data frames: without data, and with QoS control.
const NULL: u8 = 0x40;
const QOS: u8 = 0x80;
/// Flags: to and from a distribution system, encrypted, with HT control.
const BOTH_SYSTEMS: u8 = 0x03;
const PROTECTED: u8 = 0x40;
const ORDER: u8 = 0x80;
/// QoS control: the frame is an A-MSDU, which holds several frames.
const AMSDU: u8 = 0x80;
/// Length of the addresses and the length field of a subframe.
const SUBFRAME_LEN: usize = 14;

/// Parses the first packet of an unencrypted data frame (IEEE 802.11-2020, 9.2 and 9.3.2); other frames
/// have none. `padded` says that the header is padded to a multiple of 4 bytes.
pub(super) fn data(frame: &[u8], padded: bool) -> Option<(u16, usize)> {
    let [control, flags] = frame.read(0)?;
    if control & (TYPE | NULL) != DATA || flags & PROTECTED != 0 {
        return Some((0, 0));
    }
    let mut offset = if flags & BOTH_SYSTEMS == BOTH_SYSTEMS { 30 } else { 24 };
    let mut several = false;
    if control & QOS != 0 {
        let [qos] = frame.read(offset)?;
        several = qos & AMSDU != 0;
        offset += if flags & ORDER != 0 { 6 } else { 2 };
    }
    if padded {
        offset = offset.next_multiple_of(4);
    }
    llc(frame, if several { offset + SUBFRAME_LEN } else { offset })
}

/// Parses LLC with SNAP (RFC 1042), bridged Ethernet (RFC 2684), or IP itself.
pub(super) fn llc(packet: &[u8], offset: usize) -> Option<(u16, usize)> {
    match packet.read(offset)? {
        [0xaa, 0xaa, 0x03] => {
            let protocol = u16::from_be_bytes(packet.read(offset + 6)?);
            match (packet.read(offset + 3)?, protocol) {
                ([0, 0, 0 | 0xf8], ethertype) => Some((ethertype, offset + 8)),
                // Two bytes of padding, then an Ethernet frame.
                ([0, 0x80, 0xc2], 1 | 7) => {
                    Some((u16::from_be_bytes(packet.read(offset + 22)?), offset + 24))
                }
                _ => Some((0, offset + 8)),
            }
        }
        [0x06, 0x06, 0x03] => Some((ETHERTYPE_IPV4, offset + 3)),
        _ => Some((0, offset + 3)),
    }
}
