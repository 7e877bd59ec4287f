//! Requests to the kernel's network configuration (rtnetlink(7)).
//!
//! Interfaces and addresses come from netlink, because sysfs may show those of another network
//! namespace, as under `nsenter --net`.
//!
//! * [`changes`] notifies of changes.
//! * [`links`] lists interfaces.
//! * [`addresses`] lists the addresses of interfaces.
//! * [`filters`] lists and removes filters of the queueing discipline clsact.

pub mod addresses;
pub mod changes;
pub mod filters;
pub mod links;

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlaBuffer, NlasIterator,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with, sockopt,
};

/// Size of a netlink message header, in bytes.
const HEADER: usize = 16;
/// Size of the receive buffer, in bytes: the kernel sends at most 32 KiB of a dump at once.
const RECEIVE: usize = 64 << 10;
/// Maximum attempts of a dump that changes interrupt.
const REPEATS: usize = 8;
/// Receive timeout. The kernel answers at once; the timeout keeps a thread from blocking for
/// longer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A socket for requests.
#[derive(Debug)]
pub struct Requests(OwnedFd);

impl Requests {
    /// Opens the socket.
    ///
    /// # Errors
    /// An I/O error, for example if there is no free file descriptor.
    pub fn open() -> io::Result<Self> {
        // Protocol 0 of this family is `NETLINK_ROUTE`.
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends a request and waits for the acknowledgement.
    ///
    /// # Errors
    /// The error that the kernel returns.
    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body, &mut |_, _| {}).map(|_| ())
    }

    /// Requests one object. `take` receives the type and the payload of each message.
    ///
    /// # Errors
    /// The error that the kernel returns.
    fn get(&self, kind: u16, body: &[u8], take: &mut dyn FnMut(u16, &[u8])) -> io::Result<()> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_ACK, body, take).map(|_| ())
    }

    /// Requests all objects. `read` parses each message. A dump that a change interrupted is
    /// repeated.
    ///
    /// # Errors
    /// The error that the kernel returns.
    fn dump<T>(
        &self,
        kind: u16,
        body: &[u8],
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..REPEATS {
            found.clear();
            let complete =
                self.ask(kind, NLM_F_REQUEST | NLM_F_DUMP, body, &mut |kind, payload| {
                    found.extend(read(kind, payload));
                })?;
            if complete {
                break;
            }
        }
        // If changes interrupt every attempt, the last listing is used; the callers list again
        // soon.
        Ok(found)
    }

    /// Sends a message and reads the answer. Returns false if a change interrupted a dump.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        let length = HEADER + body.len();
        let mut message = vec![0; HEADER];
        message.extend_from_slice(body);
        let mut header = NetlinkBuffer::new(&mut message);
        header.set_length(length as u32);
        header.set_message_type(kind);
        header.set_flags(flags);
        send(&self.0, &message, SendFlags::empty())?;
        let mut bytes = vec![0; RECEIVE];
        let mut complete = true;
        loop {
            let (length, _) = recv(&self.0, &mut bytes[..], RecvFlags::empty())?;
            let mut rest = &bytes[..length];
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
                complete &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => return Ok(complete),
                    NLMSG_ERROR => {
                        let code = number(message.payload(), 0).unwrap_or(0).cast_signed();
                        return match code {
                            0 => Ok(complete),
                            code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                        };
                    }
                    kind => take(kind, message.payload()),
                }
                let next = (message.length() as usize).next_multiple_of(4);
                rest = rest.get(next..).unwrap_or_default();
            }
        }
    }
}

/// Returns the attributes after the first `fixed` bytes of a payload, up to a malformed one.
fn attributes(payload: &[u8], fixed: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    let rest = payload.get(fixed..).unwrap_or_default();
    NlasIterator::new(rest).map_while(Result::ok)
}

/// Reads a 32-bit number in host byte order at offset `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Reads a 64-bit number in host byte order at offset `at`.
fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// Appends an attribute with padding.
fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (4 + value.len()) as u16;
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Decodes text up to the first zero byte; bytes that are not UTF-8 are replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
