//! Programs as filters of the queueing discipline clsact, beside the filters of other programs.
//!
//! A filter stays when its process dies, and the kernel removes a filter by its place, not by its
//! owner. So the handle shows that a pktvisord made a filter, and `owners` tells whether a running
//! daemon owns its program. A daemon checks whose program is there before it removes a filter.
//! Another agent could take the place between check and removal; the kernel has no call that does
//! both.

mod owners;

use std::io;
use std::os::fd::BorrowedFd;

use crate::input::netlink::Requests;
use crate::input::netlink::filters::{Filter, Place};

/// Handles of pktvisord: these two bytes, and a number.
const HANDLES: u32 = 0x706b_0000;
const OWN: u32 = 0xffff_0000;
/// Handles to try for each priority: room for 32 daemons with one filter and its replacement each.
const TRIES: u32 = 1 << 6;
/// Priorities to try: the first one that is free or has BPF filters is used.
const PRIORITIES: u16 = 16;

/// A program to attach as a filter.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its file descriptor.
    pub descriptor: BorrowedFd<'a>,
    /// Name of the filter.
    pub name: &'a str,
    /// Its id in the kernel.
    pub id: u32,
    /// Its tag, which is equal for equal instructions.
    pub tag: [u8; 8],
}

/// A filter of this daemon. Dropping it removes the filter.
#[derive(Debug)]
pub struct Attached {
    place: Place,
    program: u32,
}

/// State of an attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Packets meet it first.
    First,
    /// Packets meet another filter first.
    Behind(String),
    /// It is not there any more.
    Gone,
}

impl Attached {
    /// Attaches a program to one side of an interface, in front of the other filters if possible.
    /// `all` are the ids of all programs that this daemon may attach.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn add(index: u32, egress: bool, program: Program<'_>, all: &[u32]) -> io::Result<Self> {
        let requests = Requests::open()?;
        // If this fails, adding the filter reports the error.
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
                    // The handle is taken, for example by another daemon.
                    Some(libc::EEXIST) => {}
                    // The priority has filters of another kind or protocol.
                    Some(libc::EINVAL | libc::EOPNOTSUPP) => break,
                    _ => return Err(last),
                }
            }
        }
        Err(last)
    }

    /// Looks up the filter.
    ///
    /// # Errors
    /// The error that the kernel returns.
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

    /// Returns true if a filter is this one: same place and same program.
    fn is(&self, filter: &Filter) -> bool {
        (filter.priority, filter.handle) == (self.place.priority, self.place.handle)
            && filter.program.is_some_and(|(id, _)| id == self.program)
    }

    /// Removes the filter if its program is still this daemon's.
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
            // If the interface is gone, its filters are gone too.
            tracing::debug!("cannot remove a clsact filter: {error}");
        }
    }
}

/// Returns true if the handle is one of pktvisord, of this daemon or another one.
fn is_ours(filter: &Filter) -> bool {
    filter.handle & OWN == HANDLES
}

/// Removes filters that a killed daemon left behind: no running daemon owns their program, and it
/// has the tag and name of this daemon's program.
fn sweep(requests: &Requests, index: u32, egress: bool, program: Program<'_>) {
    let Ok(filters) = requests.filters(index, egress) else { return };
    let found: Vec<&Filter> = filters.iter().filter(|filter| is_ours(filter)).collect();
    if found.is_empty() {
        return;
    }
    // Read this after the filters: a daemon announces its programs before it adds them.
    let owned = match owners::programs() {
        Ok(owned) => owned,
        Err(error) => {
            tracing::warn!("cannot look for filters of killed daemons: /proc/net/unix: {error}");
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
                "interface {index} has a clsact filter that no daemon owns and whose program is not this \
                 daemon's; remove it with `tc filter del`, priority {priority}, handle {handle:#x}"
            );
            continue;
        }
        let place = Place { index, egress, priority, handle };
        match requests.remove_filter(place) {
            Ok(()) => tracing::info!("removed a clsact filter that a killed daemon had left"),
            Err(error) => {
                tracing::warn!("cannot remove the clsact filter of a killed daemon: {error}");
            }
        }
    }
}
