//! Requests to the kernel's network configuration (rtnetlink(7)).
//!
//! Interfaces and addresses come from here and not from sysfs, which may show those of another network
//! namespace (`nsenter --net`).
//!
//! * [`changes`] has notices of changes,
//! * [`links`] the interfaces,
//! * [`addresses`] their addresses,
//! * [`filters`] the filters of the queueing discipline clsact.

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

/// Bytes of a netlink message's header.
const HEADER: usize = 16;
/// Bytes of the receive buffer: the kernel sends at most 32 KiB of a dump at once.
const RECEIVE: usize = 64 << 10;
/// How often a dump is repeated that a change interrupted.
const REPEATS: usize = 8;
/// How long an answer may take. The kernel answers at once; this is the bound that no thread exceeds.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A socket for requests.
#[derive(Debug)]
pub struct Requests(OwnedFd);

impl Requests {
    /// Opens the socket.
    ///
    /// # Errors
    /// Where the system refuses, such as without a free file descriptor.
    pub fn open() -> io::Result<Self> {
        // Protocol 0 of the family is `NETLINK_ROUTE`.
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends a request and waits for the acknowledgement.
    ///
    /// # Errors
    /// The kernel's answer.
    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body, &mut |_, _| {}).map(|_| ())
    }

    /// Asks for one object. `take` gets the type and the payload of each message.
    ///
    /// # Errors
    /// The kernel's answer.
    fn get(&self, kind: u16, body: &[u8], take: &mut dyn FnMut(u16, &[u8])) -> io::Result<()> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_ACK, body, take).map(|_| ())
    }

    /// Asks for all objects; `start` is called before each attempt, because a change can interrupt one.
    ///
    /// # Errors
    /// The kernel's answer.
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
        // Changes that never end leave what was seen last, which is looked at again soon.
        Ok(found)
    }

    /// Sends a message and reads the answer. Returns false where a change interrupted a dump.
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

/// The attributes behind the first `fixed` bytes of a payload, up to one that does not fit.
fn attributes(payload: &[u8], fixed: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    let rest = payload.get(fixed..).unwrap_or_default();
    NlasIterator::new(rest).map_while(Result::ok)
}

/// The number in host byte order that stands at `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The same for a number of 64 bits.
fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// Appends an attribute, padded.
fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (4 + value.len()) as u16;
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Text as the kernel writes it, up to the first zero, with what is not UTF-8 replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
