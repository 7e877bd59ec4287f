//! HOST: the addresses whose traffic the daemon divides into in and out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use pktvisor_common::abi::{RangeV4, RangeV6};
pub use pktvisor_common::direction::Direction;
use pktvisor_common::packet::{IpVersion, PacketMeta};

/// The networks that make up HOST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSpec {
    v4: Vec<Network<u32>>,
    v6: Vec<Network<u128>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network<T> {
    address: T,
    mask: T,
}

impl HostSpec {
    /// Returns true if there are no networks.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Returns true if an IPv4 address, in network byte order, is in HOST.
    #[inline]
    pub fn contains_v4(&self, address: [u8; 4]) -> bool {
        let address = u32::from_be_bytes(address);
        self.v4.iter().any(|network| address & network.mask == network.address)
    }

    /// Returns true if an IPv6 address, in network byte order, is in HOST.
    #[inline]
    pub fn contains_v6(&self, address: [u8; 16]) -> bool {
        let address = u128::from_be_bytes(address);
        self.v6.iter().any(|network| address & network.mask == network.address)
    }

    /// Returns the direction of a packet.
    #[inline]
    pub fn direction(&self, meta: &PacketMeta) -> Direction {
        let (from_host, to_host) = match meta.version {
            IpVersion::V4 => {
                let first_four = |[a, b, c, d, ..]: [u8; 16]| [a, b, c, d];
                (self.contains_v4(first_four(meta.src)), self.contains_v4(first_four(meta.dst)))
            }
            IpVersion::V6 => (self.contains_v6(meta.src), self.contains_v6(meta.dst)),
            IpVersion::None => (false, false),
        };
        Direction::of(from_host, to_host)
    }

    /// Returns true if the source of a packet is in HOST.
    #[inline]
    pub fn has_source(&self, meta: &PacketMeta) -> bool {
        match meta.version {
            IpVersion::V4 => {
                let [a, b, c, d, ..] = meta.src;
                self.contains_v4([a, b, c, d])
            }
            IpVersion::V6 => self.contains_v6(meta.src),
            IpVersion::None => false,
        }
    }

    /// Returns the IPv4 networks.
    pub fn ranges_v4(&self) -> impl Iterator<Item = RangeV4> + '_ {
        self.v4.iter().map(|network| RangeV4 {
            address: network.address.to_be_bytes(),
            mask: network.mask.to_be_bytes(),
        })
    }

    /// Returns the IPv6 networks.
    pub fn ranges_v6(&self) -> impl Iterator<Item = RangeV6> + '_ {
        self.v6.iter().map(|network| RangeV6 {
            address: network.address.to_be_bytes(),
            mask: network.mask.to_be_bytes(),
        })
    }

    /// Adds a single address.
    pub fn insert(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let network = Network { address: address.to_bits(), mask: u32::MAX };
                if !self.v4.contains(&network) {
                    self.v4.push(network);
                }
            }
            IpAddr::V6(address) => {
                let network = Network { address: address.to_bits(), mask: u128::MAX };
                if !self.v6.contains(&network) {
                    self.v6.push(network);
                }
            }
        }
    }

    /// Adds the loopback addresses, 127.0.0.0/8 and `::1`: every one of them reaches this host.
    pub fn insert_loopback(&mut self) {
        let network =
            Network { address: Ipv4Addr::LOCALHOST.to_bits() & 0xff00_0000, mask: 0xff00_0000 };
        if !self.v4.contains(&network) {
            self.v4.push(network);
        }
        self.insert(Ipv6Addr::LOCALHOST.into());
    }

    fn add(&mut self, part: &str) -> Result<(), HostSpecProblem> {
        let (address, length) = match part.split_once('/') {
            Some((address, length)) => (address.trim(), Some(length.trim())),
            None => (part, None),
        };
        match address.parse().map_err(|_| HostSpecProblem::Address)? {
            IpAddr::V4(address) => {
                let length = prefix_length(length, Ipv4Addr::BITS)?;
                let mask = u32::MAX.checked_shl(Ipv4Addr::BITS - length).unwrap_or(0);
                self.v4.push(Network { address: address.to_bits() & mask, mask });
            }
            IpAddr::V6(address) => {
                let length = prefix_length(length, Ipv6Addr::BITS)?;
                let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - length).unwrap_or(0);
                self.v6.push(Network { address: address.to_bits() & mask, mask });
            }
        }
        Ok(())
    }
}

/// Parses the length of a prefix, at most `bits`. Without a length it is `bits`.
fn prefix_length(length: Option<&str>, bits: u32) -> Result<u32, HostSpecProblem> {
    let Some(length) = length else {
        return Ok(bits);
    };
    // `parse` alone would accept a sign.
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    match length.parse() {
        Ok(length) if digits && length <= bits => Ok(length),
        _ => Err(HostSpecProblem::PrefixLength { bits }),
    }
}

/// Parses networks in CIDR form, separated by commas: `192.168.0.0/24,10.0.0.1,2001:db8::/32`. An
/// address without a prefix length is a network of one address; bits after the prefix are ignored.
impl FromStr for HostSpec {
    type Err = HostSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut spec = Self::default();
        for part in text.split(',').map(str::trim) {
            let added = if part.is_empty() { Err(HostSpecProblem::Empty) } else { spec.add(part) };
            added.map_err(|problem| HostSpecError {
                text: text.to_owned(),
                part: part.to_owned(),
                problem,
            })?;
        }
        Ok(spec)
    }
}

/// An invalid HOSTSPEC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct HostSpecError {
    text: String,
    part: String,
    problem: HostSpecProblem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostSpecProblem {
    Empty,
    Address,
    PrefixLength { bits: u32 },
}

impl fmt::Display for HostSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, part, problem } = self;
        match problem {
            HostSpecProblem::Empty => write!(f, "`{text}` has an empty part")?,
            HostSpecProblem::Address => write!(f, "`{part}` does not start with an IP address")?,
            HostSpecProblem::PrefixLength { bits } => {
                write!(f, "`{part}` does not end in a prefix length from 0 to {bits}")?;
            }
        }
        f.write_str("; expected networks in CIDR notation, such as 192.168.0.0/24,2001:db8::/32")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meta(version: IpVersion, src: [u8; 16], dst: [u8; 16]) -> PacketMeta {
        PacketMeta { version, src, dst, ..PacketMeta::default() }
    }

    fn v4(address: [u8; 4]) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&address);
        bytes
    }

    #[test]
    fn direction_is_relative_to_host() {
        let spec: HostSpec = "192.168.0.0/24, 10.0.0.1 ,2001:db8::/32".parse().unwrap();
        let host = v4([192, 168, 0, 7]);
        let other_host = v4([10, 0, 0, 1]);
        let remote = v4([10, 0, 0, 2]);
        let direction = |src, dst| spec.direction(&meta(IpVersion::V4, src, dst));
        assert_eq!(direction(remote, host), Direction::In);
        assert_eq!(direction(host, remote), Direction::Out);
        assert_eq!(direction(host, other_host), Direction::In);
        assert_eq!(direction(remote, remote), Direction::Unknown);
        let host = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(spec.direction(&meta(IpVersion::V6, host, [0; 16])), Direction::Out);
        assert_eq!(spec.direction(&meta(IpVersion::V6, [0; 16], host)), Direction::In);
        assert_eq!(spec.direction(&meta(IpVersion::None, host, host)), Direction::Unknown);
    }

    #[test]
    fn ipv4_network_does_not_match_ipv6() {
        let spec: HostSpec = "0.0.0.0/0".parse().unwrap();
        assert!(spec.contains_v4([255; 4]));
        assert!(!spec.contains_v6([0; 16]));
        assert!(!spec.is_empty());
        assert!(HostSpec::default().is_empty());
    }

    #[test]
    fn errors_name_the_invalid_part() {
        for (text, message) in [
            ("", "`` has an empty part"),
            ("10.0.0.1,", "`10.0.0.1,` has an empty part"),
            ("10.0.0.1,localhost", "`localhost` does not start with an IP address"),
            ("10.0.0", "`10.0.0` does not start with an IP address"),
            ("10.0.0.0/33", "`10.0.0.0/33` does not end in a prefix length from 0 to 32"),
            ("10.0.0.0/+8", "`10.0.0.0/+8` does not end in a prefix length from 0 to 32"),
            ("10.0.0.0/", "`10.0.0.0/` does not end in a prefix length from 0 to 32"),
            ("::/129", "`::/129` does not end in a prefix length from 0 to 128"),
        ] {
            let error = text.parse::<HostSpec>().unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    /// Compares bit by bit.
    fn shares_prefix(network: &[u8], address: &[u8], length: u8) -> bool {
        (0..usize::from(length)).all(|bit| {
            let of = |bytes: &[u8]| bytes[bit / 8] >> (7 - bit % 8) & 1;
            of(network) == of(address)
        })
    }

    proptest! {
        #[test]
        fn v4_network_matches_shared_prefix(
            network: [u8; 4],
            length in 0..=32_u8,
            address: [u8; 4],
            kept in 0..=32_u32,
        ) {
            // Half the addresses share a prefix of random length with the network.
            let mask = u32::MAX.checked_shl(32 - kept).unwrap_or(0);
            let near = (u32::from_be_bytes(network) & mask)
                | (u32::from_be_bytes(address) & !mask);
            let text = format!("{}/{length}", Ipv4Addr::from(network));
            let spec: HostSpec = text.parse().unwrap();
            for address in [address, near.to_be_bytes()] {
                let expected = shares_prefix(&network, &address, length);
                prop_assert_eq!(spec.contains_v4(address), expected);
            }
        }

        #[test]
        fn v6_network_matches_shared_prefix(
            network: [u8; 16],
            length in 0..=128_u8,
            address: [u8; 16],
            kept in 0..=128_u32,
        ) {
            let mask = u128::MAX.checked_shl(128 - kept).unwrap_or(0);
            let near = (u128::from_be_bytes(network) & mask)
                | (u128::from_be_bytes(address) & !mask);
            let text = format!("::ffff, {} / {length}", Ipv6Addr::from(network));
            let spec: HostSpec = text.parse().unwrap();
            for address in [address, near.to_be_bytes()] {
                let expected = shares_prefix(&network, &address, length);
                prop_assert_eq!(spec.contains_v6(address), expected);
            }
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in "\\PC*") {
            let _ = text.parse::<HostSpec>();
        }

        #[test]
        fn nearly_valid_text_does_not_panic(text in "[0-9a-f:./, ]{0,40}") {
            let _ = text.parse::<HostSpec>();
        }
    }
}
