//! What the headers of one fragment say.

use pktvisor_common::packet::{
    IpVersion, MAX_EXTENSION_HEADERS, PROTOCOL_TCP, PROTOCOL_UDP, PacketBytes, PacketMeta,
};

const AUTHENTICATION: u8 = 51;
const FRAGMENT: u8 = 44;

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    /// Identification; 16 bits of it in IPv4.
    pub ident: u32,
    /// Protocol of the IPv4 header. In IPv6 only the first fragment knows it, and it is 0 here
    /// (RFC 8200 section 4.5).
    pub protocol: u8,
    pub ipv6: bool,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    pub key: Key,
    /// Protocol of what the datagram starts with, as this fragment has it.
    pub next_header: u8,
    /// Bytes of the datagram before this fragment; a multiple of 8.
    pub offset: u16,
    /// Whether more fragments follow behind this one.
    pub more: bool,
    /// The bytes captured.
    pub data: &'a [u8],
    /// Bytes behind `data` that were not.
    pub missing: usize,
}

impl<'a> Fragment<'a> {
    /// Reads the fragment in `packet`, of which `meta` is the walk. `None` if it is none of a UDP
    /// or TCP datagram, carries nothing, or its headers cannot be read.
    pub fn read(meta: &PacketMeta, packet: &'a [u8]) -> Option<Self> {
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
        // By its own length, also in a frame that was shortened. A frame can be longer, by padding.
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
    /// Where it ends in its datagram.
    pub fn end(&self) -> usize {
        usize::from(self.offset) + self.data.len() + self.missing
    }
}

/// Steps over the extension headers at `offset`, the first of which is of type `protocol`: the
/// protocol behind them and where it starts. Ends at a fragment header.
///
/// `None` if they cannot be read, or are more than [`MAX_EXTENSION_HEADERS`].
pub fn skip_extensions(
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

/// Whether `protocol` is a header that tells its length and what follows it: the IPv6 extension
/// headers after IANA's list but for fragment headers, in IPv4 the authentication header.
fn is_extension(protocol: u8, version: IpVersion) -> bool {
    protocol == AUTHENTICATION
        || version == IpVersion::V6 && matches!(protocol, 0 | 43 | 60 | 135 | 139 | 140)
}
