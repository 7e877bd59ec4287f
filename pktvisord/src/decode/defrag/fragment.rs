//! Parses the headers of a fragment.

use pktvisor_common::packet::{
    IpVersion, MAX_EXTENSION_HEADERS, PROTOCOL_TCP, PROTOCOL_UDP, PacketBytes, PacketMeta,
};

const AUTHENTICATION: u8 = 51;
const FRAGMENT: u8 = 44;

/// The values that the fragments of a datagram share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    /// Identification: 16 bits in IPv4, 32 bits in IPv6.
    pub ident: u32,
    /// Protocol in the IPv4 header. It is 0 for IPv6, where only the first fragment knows it (RFC 8200
    /// section 4.5).
    pub protocol: u8,
    pub ipv6: bool,
}

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub key: Key,
    /// Protocol of the datagram's first header, as given in this fragment.
    pub next_header: u8,
    /// Offset in the datagram in bytes; a multiple of 8.
    pub offset: u16,
    /// True if fragments follow after this one.
    pub more: bool,
    /// Captured bytes.
    pub data: &'a [u8],
    /// Number of bytes after `data` that were not captured.
    pub missing: usize,
}

impl<'a> Fragment<'a> {
    /// Parses the fragment in `packet`, whose walk is `meta`. Returns `None` if it belongs to no UDP or TCP
    /// datagram, is empty, or its headers cannot be read.
    pub(super) fn read(meta: &PacketMeta, packet: &'a [u8]) -> Option<Self> {
        let ip = usize::from(meta.l3_offset);
        let (start, end, next_header, position, more, ident) = match meta.version {
            IpVersion::None => return None,
            IpVersion::V4 => {
                let header: [u8; 20] = packet.read(ip)?;
                let start = ip + usize::from(header[0] & 0x0f) * 4;
                let end = ip + usize::from(u16::from_be_bytes([header[2], header[3]]));
                let position = u16::from_be_bytes([header[6], header[7]]);
                let ident = u16::from_be_bytes([header[4], header[5]]).into();
                (start, end, header[9], position << 3, position & 0x2000 != 0, ident)
            }
            IpVersion::V6 => {
                let header: [u8; 40] = packet.read(ip)?;
                let end = ip + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
                let (FRAGMENT, at) = skip_extensions(packet, ip + 40, header[6], IpVersion::V6)?
                else {
                    return None;
                };
                let [next_header, _, high, low, ident @ ..] = packet.read::<8>(at)?;
                let position = u16::from_be_bytes([high, low]);
                let ident = u32::from_be_bytes(ident);
                (at + 8, end, next_header, position & 0xfff8, position & 1 != 0, ident)
            }
        };
        // Use the length in the IP header, also if the capture truncated the frame. Frames can have padding.
        let len = end.checked_sub(start).filter(|len| *len > 0)?;
        let captured = packet.get(start..).unwrap_or_default();
        let data = &captured[..captured.len().min(len)];
        let ipv6 = meta.version == IpVersion::V6;
        let transport = matches!(next_header, PROTOCOL_TCP | PROTOCOL_UDP);
        (transport || is_extension(next_header, meta.version)).then_some(Self {
            key: Key {
                src: meta.src,
                dst: meta.dst,
                ident,
                protocol: if ipv6 { 0 } else { next_header },
                ipv6,
            },
            next_header,
            offset: position,
            more,
            data,
            missing: len - data.len(),
        })
    }
}

impl Fragment<'_> {
    /// Returns the offset of its end in the datagram.
    pub(super) fn end(&self) -> usize {
        usize::from(self.offset) + self.data.len() + self.missing
    }
}

/// Steps over the extension headers at `offset`, the first of which is of type `protocol`. Returns the
/// protocol after them and its offset. Stops at a fragment header.
///
/// Returns `None` if they cannot be read, or if there are more than [`MAX_EXTENSION_HEADERS`].
pub(super) fn skip_extensions(
    bytes: &[u8],
    mut offset: usize,
    mut protocol: u8,
    version: IpVersion,
) -> Option<(u8, usize)> {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(protocol, version) {
            return Some((protocol, offset));
        }
        let [next, len] = bytes.read(offset)?;
        offset += if protocol == AUTHENTICATION {
            (usize::from(len) + 2) * 4
        } else {
            (usize::from(len) + 1) * 8
        };
        protocol = next;
    }
    (!is_extension(protocol, version)).then_some((protocol, offset))
}

/// Returns true if `protocol` is a header that contains its length and the next protocol. In IPv6 these
/// are the extension headers on IANA's list except fragment headers, in IPv4 the authentication header.
fn is_extension(protocol: u8, version: IpVersion) -> bool {
    protocol == AUTHENTICATION
        || version == IpVersion::V6 && matches!(protocol, 0 | 43 | 60 | 135 | 139 | 140)
}
