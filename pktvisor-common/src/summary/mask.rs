//! Masks addresses for privacy: keeps their networks only.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::packet::IpVersion;

/// Lengths of the prefixes kept of IPv4 and IPv6 addresses: `24/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    v4: u8,
    v6: u8,
}

impl Mask {
    /// Masks the address of a network and shortens its prefix length to the mask's.
    pub fn network(self, address: IpAddr, prefix: u8) -> (IpAddr, u8) {
        match address {
            IpAddr::V4(v4) => {
                let kept =
                    v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                (IpAddr::V4(kept.into()), prefix.min(self.v4))
            }
            IpAddr::V6(v6) => {
                let bits = u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0);
                (IpAddr::V6((v6.to_bits() & bits).into()), prefix.min(self.v6))
            }
        }
    }

    /// Masks an address in network byte order.
    #[inline]
    pub fn apply(self, bytes: &[u8; 16], version: IpVersion) -> [u8; 16] {
        // An IPv4 address is in the first four bytes, followed by zeros.
        let length = if version == IpVersion::V4 { self.v4 } else { self.v6 };
        let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        (u128::from_be_bytes(*bytes) & bits).to_be_bytes()
    }
}

impl FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = |text: &str, most: u8| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|&length: &u8| digits && length <= most)
        };
        text.split_once('/')
            .and_then(|(v4, v6)| Some(Self { v4: length(v4, 32)?, v6: length(v6, 128)? }))
            .ok_or_else(|| {
                "expected two prefix lengths, for IPv4 (0 to 32) and IPv6 (0 to 128), such as 24/48"
                    .to_owned()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_to_their_prefixes() {
        let mask: Mask = "24/48".parse().unwrap();
        let mut v4 = [0; 16];
        v4[..4].copy_from_slice(&[192, 0, 2, 77]);
        assert_eq!(mask.apply(&v4, IpVersion::V4)[..4], [192, 0, 2, 0]);
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(mask.apply(&v6("2001:db8:1:2::3"), IpVersion::V6), v6("2001:db8:1::"));
        let network = |text: &str, prefix| mask.network(text.parse().unwrap(), prefix);
        assert_eq!(network("198.51.100.77", 32), ("198.51.100.0".parse().unwrap(), 24));
        assert_eq!(network("198.51.0.0", 16), ("198.51.0.0".parse().unwrap(), 16));
        assert_eq!(network("2001:db8:1:2::", 56), ("2001:db8:1::".parse().unwrap(), 48));
        let none: Mask = "0/0".parse().unwrap();
        assert_eq!(none.apply(&v6("2001:db8::1"), IpVersion::V6), [0; 16]);
        assert_eq!(none.network("192.0.2.1".parse().unwrap(), 24).0.to_string(), "0.0.0.0");
        for wrong in ["", "24", "24/", "/48", "33/48", "24/129", "-1/0", "+1/0", "24/48/1"] {
            assert!(wrong.parse::<Mask>().is_err(), "{wrong}");
        }
    }
}
