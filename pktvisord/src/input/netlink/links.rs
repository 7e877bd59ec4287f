//! The interfaces of this network namespace.

use std::io;

use libc::{
    IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_PARENT_DEV_NAME, IFLA_STATS64, RTM_GETLINK, RTM_NEWLINK,
};

use super::{Requests, attributes, long, number, text};
use crate::input::interface::{Interface, LinkLayer};

/// Size of `struct ifinfomsg`, in bytes.
const FIXED: usize = 16;

impl Requests {
    /// Lists the interfaces, sorted by index.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn links(&self) -> io::Result<Vec<Interface>> {
        let mut links = self.dump(RTM_GETLINK, &[0; FIXED], read)?;
        links.sort_unstable_by_key(|link| link.index);
        Ok(links)
    }

    /// Returns the interface with this index, or `None` if there is none.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn link(&self, index: u32) -> io::Result<Option<Interface>> {
        let mut body = [0; FIXED];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut found = None;
        let answer = self.get(RTM_GETLINK, &body, &mut |kind, payload| {
            found = read(kind, payload).or(found.take());
        });
        match answer {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }
}

/// Parses an interface from a message. Returns `None` if the message is about something else.
fn read(kind: u16, payload: &[u8]) -> Option<Interface> {
    if kind != RTM_NEWLINK {
        return None;
    }
    let family = *payload.first()?;
    // Bridges list their ports again under a family of their own.
    if family != libc::AF_UNSPEC as u8 {
        return None;
    }
    let arphrd = u16::from_ne_bytes(*payload.get(2..)?.first_chunk()?);
    let (index, flags) = (number(payload, 4)?, number(payload, 8)?);
    let mut interface = Interface {
        index,
        up: flags & libc::IFF_UP as u32 != 0,
        link: LinkLayer::of(arphrd),
        loopback: arphrd == libc::ARPHRD_LOOPBACK,
        ..Interface::default()
    };
    let mut elsewhere = false;
    for attribute in attributes(payload, FIXED) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => interface.name = text(value),
            IFLA_ADDRESS => interface.address = value.to_vec(),
            IFLA_MASTER => interface.master = number(value, 0),
            IFLA_LINK => interface.lower = number(value, 0).filter(|&at| at != 0 && at != index),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_PARENT_DEV_NAME => interface.physical = true,
            IFLA_STATS64 => {
                interface.received = long(value, 0).unwrap_or(0);
                interface.sent = long(value, 8).unwrap_or(0);
            }
            IFLA_LINKINFO => {
                let of = |info: u16| {
                    attributes(value, 0)
                        .find(|nested| nested.kind() == info)
                        .map(|nested| text(nested.value()))
                };
                interface.kind = of(IFLA_INFO_KIND).unwrap_or_default();
            }
            _ => {}
        }
    }
    if elsewhere {
        interface.lower = None;
    }
    Some(interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_loopback() {
        let requests = Requests::open().unwrap();
        let links = requests.links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.link, lo.loopback, lo.physical), (LinkLayer::Ethernet, true, false));
        assert_eq!(requests.link(lo.index).unwrap().map(|link| link.name), Some("lo".to_owned()));
        assert_eq!(requests.link(0x7fff_fff0).unwrap(), None);
    }

    #[test]
    fn truncated_messages_do_not_panic() {
        let mut message = vec![0; FIXED];
        super::super::put(&mut message, IFLA_IFNAME, b"eth\xff0\0");
        super::super::put(&mut message, IFLA_MASTER, &7u32.to_ne_bytes());
        for length in 0..message.len() {
            let _ = read(RTM_NEWLINK, &message[..length]);
        }
        let read = read(RTM_NEWLINK, &message).unwrap();
        assert_eq!((read.name.as_str(), read.master), ("eth\u{fffd}0", Some(7)));
    }
}
