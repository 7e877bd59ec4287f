//! Programs as filters of the queueing discipline clsact, beside those of others.
//!
//! A filter stays when its process dies, and the kernel removes by place, not by owner. So each daemon
//! has handles of its own, and before it removes a filter it looks whose program is there. Between the
//! look and the removal another agent could take the place; the kernel has no call that does both.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::capture::netlink::Requests;
use crate::capture::netlink::filters::{Filter, Place};

/// Handles of this program: these two bytes, 12 bits for the daemon, 4 for its filters at one place.
const HANDLES: u32 = 0x706b_0000;
const OWN: u32 = 0xffff_0000;
const SLOTS: u32 = 1 << 12;
const TRIES: u32 = 1 << 4;
/// Priorities that are tried: the first one whose filters are programs too.
const PRIORITIES: u16 = 16;

/// The slot of a running daemon. An abstract socket tells that it runs, because it goes with its
/// process (unix(7)).
struct Slot {
    number: u32,
    _socket: OwnedFd,
}

impl Slot {
    fn take(number: u32) -> Option<Self> {
        let name = format!("pktvisord/clsact/{number}");
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?;
        let (unix, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let socket = socket_with(unix, kind, SocketFlags::CLOEXEC, None).ok()?;
        bind(&socket, &address).ok()?;
        Some(Self { number, _socket: socket })
    }

    /// The slot of this process.
    fn own() -> Option<u32> {
        static OWN: OnceLock<Option<Slot>> = OnceLock::new();
        OWN.get_or_init(|| (0..SLOTS).find_map(Self::take)).as_ref().map(|slot| slot.number)
    }
}

/// A program, as filters name it.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its descriptor.
    pub descriptor: BorrowedFd<'a>,
    /// The name of the filter.
    pub name: &'a str,
    /// Its id in the kernel.
    pub id: u32,
    /// Its tag: the same for the same instructions.
    pub tag: [u8; 8],
}

/// A filter of this daemon.
#[derive(Debug)]
pub struct Attached {
    place: Place,
    program: u32,
}

/// What became of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Packets meet it first.
    First,
    /// Packets meet another filter before it.
    Behind(String),
    /// It is not there.
    Gone,
}

impl Attached {
    /// Adds a program to one side of an interface, in front of the other filters if that can be.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn add(index: u32, egress: bool, program: Program<'_>) -> io::Result<Self> {
        let requests = Requests::open()?;
        // An error shows when the filter is added.
        let _ = requests.add_clsact(index);
        let slot = Slot::own().ok_or_else(|| io::Error::other("no slot is free"))?;
        sweep(&requests, index, egress, program);
        let mut last = io::Error::from_raw_os_error(libc::EEXIST);
        for priority in 1..=PRIORITIES {
            for number in 0..TRIES {
                let handle = HANDLES | slot << 4 | number;
                let place = Place { index, egress, priority, handle };
                match requests.add_filter(place, program.descriptor, program.name) {
                    Ok(()) => return Ok(Self { place, program: program.id }),
                    Err(error) => last = error,
                }
                match last.raw_os_error() {
                    // The place is taken: by a replacement of our own, for example.
                    Some(libc::EEXIST) => {}
                    // The priority belongs to another kind of filter or to one protocol.
                    Some(libc::EINVAL | libc::EOPNOTSUPP) => break,
                    _ => return Err(last),
                }
            }
        }
        Err(last)
    }

    /// Looks for the filter.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn state(&self, requests: &Requests) -> io::Result<State> {
        let Place { index, egress, .. } = self.place;
        let filters = requests.filters(index, egress)?;
        Ok(match filters.iter().position(|filter| self.is(filter)) {
            None => State::Gone,
            Some(at) => match filters[..at].iter().find(|filter| !is_ours(filter)) {
                None => State::First,
                Some(other) => State::Behind(format!(
                    "the filter {} (priority {}, handle {:#x})",
                    if other.name.is_empty() { &other.kind } else { &other.name },
                    other.priority,
                    other.handle
                )),
            },
        })
    }

    /// Whether a filter is this one: its place and its program.
    fn is(&self, filter: &Filter) -> bool {
        (filter.priority, filter.handle) == (self.place.priority, self.place.handle)
            && filter.program.is_some_and(|(id, _)| id == self.program)
    }

    /// Removes the filter, if its program is still ours.
    fn remove(&self) -> io::Result<()> {
        let requests = Requests::open()?;
        let Place { index, egress, .. } = self.place;
        match requests.filters(index, egress)?.iter().any(|filter| self.is(filter)) {
            true => requests.remove_filter(self.place),
            false => Ok(()),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            // An interface that is gone has taken its filters along.
            tracing::debug!("a filter of clsact cannot be removed: {error}");
        }
    }
}

/// Whether the handle is of this program: of this daemon or another one.
fn is_ours(filter: &Filter) -> bool {
    filter.handle & OWN == HANDLES
}

/// Removes what a killed daemon has left behind: a filter whose handle belongs to no running daemon and
/// whose program has the tag of ours.
fn sweep(requests: &Requests, index: u32, egress: bool, program: Program<'_>) {
    let Ok(filters) = requests.filters(index, egress) else { return };
    for filter in filters.iter().filter(|filter| is_ours(filter)) {
        let same = filter.program.is_some_and(|(_, tag)| tag == program.tag);
        let number = (filter.handle & !OWN) >> 4;
        let left = match Slot::own() {
            // A daemon that had the slot before.
            Some(own) if own == number => filter.program.is_some_and(|(id, _)| id != program.id),
            _ => Slot::take(number).is_some(),
        };
        if !left {
            continue;
        }
        let Filter { priority, handle, .. } = *filter;
        if !same || filter.kind != "bpf" || filter.name != program.name {
            tracing::warn!(
                "interface {index} has a filter of clsact that no daemon owns and whose program is not \
                 this daemon's: `tc filter del` with priority {priority} and handle {handle:#x} \
                 removes it"
            );
            continue;
        }
        let place = Place { index, egress, priority, handle };
        match requests.remove_filter(place) {
            Ok(()) => tracing::info!("removed a filter of clsact that a killed daemon had left"),
            Err(error) => tracing::warn!("a filter of a killed daemon cannot be removed: {error}"),
        }
    }
}
