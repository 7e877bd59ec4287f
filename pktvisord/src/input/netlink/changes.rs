//! Notifications of changes to interfaces, addresses, queueing disciplines and filters.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// Groups for interfaces, queueing disciplines and filters, IPv4 and IPv6 addresses (`RTMGRP_LINK`,
/// `_TC`, `_IPV4_IFADDR`, `_IPV6_IFADDR`).
const GROUPS: u32 = 0x1 | 0x8 | 0x10 | 0x100;
/// Time to wait for further changes after the first one.
const SETTLE: Duration = Duration::from_millis(50);

/// A socket on which the kernel reports changes.
///
/// The messages are not parsed: the kernel drops some when many come at once, and callers read the
/// current state of the interfaces anyway.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Subscribes to the changes.
    ///
    /// # Errors
    /// An I/O error if the socket cannot be opened or bound.
    pub fn listen() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Protocol 0 of this family is `NETLINK_ROUTE`.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Waits at most `patience` for a change. Returns true if there was one.
    pub fn wait(&self, patience: Duration) -> bool {
        let timeout =
            Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut sockets = [PollFd::new(&self.0, PollFlags::IN)];
        if !matches!(poll(&mut sockets, Some(&timeout)), Ok(1..)) {
            return false;
        }
        std::thread::sleep(SETTLE);
        let mut bytes = [0; 16_384];
        // An error means that no message is left, or that messages were lost, which is a change
        // too.
        while recv(&self.0, &mut bytes[..], RecvFlags::DONTWAIT).is_ok() {}
        true
    }
}
