//! The addresses of interfaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{AF_INET, AF_INET6, IFA_ADDRESS, IFA_LOCAL, RTM_GETADDR, RTM_NEWADDR};

use super::{Requests, attributes, number};

/// Size of `struct ifaddrmsg`, in bytes.
const FIXED: usize = 8;

impl Requests {
    /// Lists the addresses, each with the index of its interface.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn addresses(&self) -> io::Result<Vec<(u32, IpAddr)>> {
        self.dump(RTM_GETADDR, &[0; FIXED], read)
    }
}

fn read(kind: u16, payload: &[u8]) -> Option<(u32, IpAddr)> {
    if kind != RTM_NEWADDR {
        return None;
    }
    let family = i32::from(*payload.first()?);
    let index = number(payload, 4)?;
    let mut address = None;
    for attribute in attributes(payload, FIXED) {
        let value = attribute.value();
        let parsed = match family {
            AF_INET => value.first_chunk().map(|bytes| Ipv4Addr::from_octets(*bytes).into()),
            AF_INET6 => value.first_chunk().map(|bytes| Ipv6Addr::from_octets(*bytes).into()),
            _ => None,
        };
        match attribute.kind() {
            // If there is an `IFA_LOCAL`, `IFA_ADDRESS` is the address of the peer.
            IFA_LOCAL => return Some((index, parsed?)),
            IFA_ADDRESS => address = parsed,
            _ => {}
        }
    }
    Some((index, address?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::netlink::put;

    #[test]
    fn local_end_of_point_to_point_link_is_the_address() {
        let mut message = vec![0; FIXED];
        message[0] = AF_INET as u8;
        message[4..8].copy_from_slice(&9u32.to_ne_bytes());
        put(&mut message, IFA_ADDRESS, &[192, 0, 2, 2]);
        let own = |message: &[u8]| read(RTM_NEWADDR, message);
        assert_eq!(own(&message), Some((9, [192, 0, 2, 2].into())));
        put(&mut message, IFA_LOCAL, &[192, 0, 2, 1]);
        assert_eq!(own(&message), Some((9, [192, 0, 2, 1].into())));
        for length in 0..message.len() {
            let _ = own(&message[..length]);
        }
    }

    #[test]
    fn loopback_has_an_address() {
        let addresses = Requests::open().unwrap().addresses().unwrap();
        assert!(addresses.iter().any(|(_, address)| address.is_loopback()), "{addresses:?}");
    }
}
