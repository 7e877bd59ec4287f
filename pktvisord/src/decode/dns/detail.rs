//! Rare parts of DNS messages, parsed with `hickory-proto`.

use std::net::IpAddr;

use hickory_proto::rr::rdata::opt;

/// A client subnet (RFC 7871): an address with the bits after the prefix cleared, and the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientSubnet {
    /// Network address.
    pub address: IpAddr,
    /// Source prefix length in bits.
    pub prefix: u8,
}

/// Parses the data of a client subnet option.
pub fn client_subnet(data: &[u8]) -> Option<ClientSubnet> {
    let subnet = opt::ClientSubnet::try_from(data).ok()?;
    let prefix = subnet.source_prefix();
    let address = match subnet.addr() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    };
    Some(ClientSubnet { address, prefix })
}
