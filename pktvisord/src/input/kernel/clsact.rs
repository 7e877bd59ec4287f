//! Programs as filters of the queueing discipline clsact, beside those of others.
//!
//! A filter stays when its process dies, and the kernel removes by place, not by owner. So handles tell
//! which filters are of this program, `owners` whether a daemon that runs has the program at such a
//! filter, and before a daemon removes a filter it looks whose program is there. Between the look and
//! the removal another agent could take the place; the kernel has no call that does both.

mod owners;

use std::io;
use std::os::fd::BorrowedFd;

use crate::input::netlink::Requests;
use crate::input::netlink::filters::{Filter, Place};

/// Handles of this program: these two bytes, and a number.
const HANDLES: u32 = 0x706b_0000;
const OWN: u32 = 0xffff_0000;
/// How many daemons have room at one place, each with one filter and one that replaces it.
const TRIES: u32 = 1 << 6;
/// Priorities that are tried: the first one whose filters are programs too.
const PRIORITIES: u16 = 16;

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
    /// Adds a program to one side of an interface, in front of the other filters if that can be. `all`
    /// are the ids of this one and of the others that this daemon may add.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn add(index: u32, egress: bool, program: Program<'_>, all: &[u32]) -> io::Result<Self> {
        let requests = Requests::open()?;
        // An error shows when the filter is added.
        let _ = requests.add_clsact(index);
        owners::announce(all)?;
        sweep(&requests, index, egress, program);
        let mut last = io::Error::from_raw_os_error(libc::EEXIST);
        for priority in 1..=PRIORITIES {
            for number in 0..TRIES {
                let handle = HANDLES | number;
                let place = Place { index, egress, priority, handle };
                match requests.add_filter(place, program.descriptor, program.name) {
                    Ok(()) => return Ok(Self { place, program: program.id }),
                    Err(error) => last = error,
                }
                match last.raw_os_error() {
                    // The place is taken: by another daemon, for example.
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

/// Removes what a killed daemon has left behind: a filter whose program no running daemon has, and has
/// the tag of ours.
fn sweep(requests: &Requests, index: u32, egress: bool, program: Program<'_>) {
    let Ok(filters) = requests.filters(index, egress) else { return };
    let found: Vec<&Filter> = filters.iter().filter(|filter| is_ours(filter)).collect();
    if found.is_empty() {
        return;
    }
    // Read after the filters: a daemon announces its programs before it adds them.
    let owned = match owners::programs() {
        Ok(owned) => owned,
        Err(error) => {
            tracing::warn!("filters of killed daemons are not looked for: /proc/net/unix: {error}");
            return;
        }
    };
    for filter in found {
        if filter.program.is_some_and(|(id, _)| owned.contains(&id)) {
            continue;
        }
        let Filter { priority, handle, .. } = *filter;
        let same = filter.program.is_some_and(|(_, tag)| tag == program.tag);
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
