//! PPP protocol numbers (IANA, Point-to-Point Protocol Field Assignments).

/// Returns the EtherType that corresponds to a PPP protocol number, or `None` if it is neither IP
/// nor MPLS.
///
/// IPv4 is 0x0021, IPv6 is 0x0057 (RFC 5072), MPLS is 0x0281 and 0x0283 (RFC 3032).
#[inline(always)]
pub const fn ppp_ethertype(protocol: u16) -> Option<u16> {
    match protocol {
        0x0021 => Some(0x0800),
        0x0057 => Some(0x86dd),
        0x0281 => Some(0x8847),
        0x0283 => Some(0x8848),
        _ => None,
    }
}
