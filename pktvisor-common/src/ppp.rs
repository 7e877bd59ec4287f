//! Protocol numbers of PPP.

/// Returns the EtherType of what a PPP protocol number announces, `None` where there is none.
///
/// Numbers: IANA, "PPP DLL Protocol Numbers": IPv4 (RFC 1332), IPv6 (RFC 5072), MPLS unicast and
/// multicast (RFC 3032).
pub const fn ppp_ethertype(protocol: u16) -> Option<u16> {
    match protocol {
        0x0021 => Some(0x0800),
        0x0057 => Some(0x86dd),
        0x0281 => Some(0x8847),
        0x0283 => Some(0x8848),
        _ => None,
    }
}
