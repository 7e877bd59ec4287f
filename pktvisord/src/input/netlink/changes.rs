//! Notices of changes to interfaces, their addresses, queueing disciplines and filters.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// Interfaces, queueing disciplines and filters, IPv4 and IPv6 addresses (`RTMGRP_LINK`, `_TC`,
/// `_IPV4_IFADDR`, `_IPV6_IFADDR`).
const GROUPS: u32 = 0x1 | 0x8 | 0x10 | 0x100;
/// How long changes that come together are waited for.
const SETTLE: Duration = Duration::from_millis(50);

/// A socket on which the kernel tells of changes.
///
/// What it tells is not read: messages get lost when many come at once, and the interfaces have to
/// be looked at as they are then anyway.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Starts to listen.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn listen() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Protocol 0 of the family is `NETLINK_ROUTE`.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Waits for a change, at most so long. Returns whether there was one.
    pub fn wait(&self, patience: Duration) -> bool {
        let timeout =
            Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut sockets = [PollFd::new(&self.0, PollFlags::IN)];
        if !matches!(poll(&mut sockets, Some(&timeout)), Ok(1..)) {
            return false;
        }
        std::thread::sleep(SETTLE);
        let mut bytes = [0; 16_384];
        // An error is the end of what there is, or says that messages were lost: a change too.
        while recv(&self.0, &mut bytes[..], RecvFlags::DONTWAIT).is_ok() {}
        true
    }
}
