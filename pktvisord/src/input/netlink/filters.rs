//! Filters of the queueing discipline clsact (tc-bpf(8)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::{Requests, attributes, number, put, text};

/// Size of `struct tcmsg`, in bytes.
const FIXED: usize = 20;
/// Parent (`TC_H_CLSACT`) and handle of clsact.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// The two sides of clsact (`TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`).
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// All protocols (`ETH_P_ALL`).
const ALL: u16 = 3;
/// Attributes of filters (`TCA_*`) and of BPF filters (`TCA_BPF_*`).
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const CHAIN: u16 = 11;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_TAG: u16 = 10;
const BPF_ID: u16 = 11;
/// The program's return value decides about the packet (`TCA_BPF_FLAG_ACT_DIRECT`).
const DIRECT: u32 = 1;
/// The flag of a nested attribute (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// A filter at clsact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its priority. Packets meet lower ones first.
    pub priority: u16,
    /// Its handle; 0 for the entry that a listing has for a whole priority.
    pub handle: u32,
    /// `bpf` for BPF programs.
    pub kind: String,
    /// Name of the program, chosen when it was attached.
    pub name: String,
    /// Id and tag of the program, if the filter is one.
    pub program: Option<(u32, [u8; 8])>,
}

/// Identifies a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the interface.
    pub index: u32,
    /// True for packets that the interface sends, false for those it receives.
    pub egress: bool,
    /// The priority.
    pub priority: u16,
    /// The handle.
    pub handle: u32,
}

impl Place {
    fn message(self) -> Vec<u8> {
        let parent = if self.egress { EGRESS } else { INGRESS };
        let protocol = if self.priority == 0 { 0 } else { u32::from(ALL.to_be()) };
        message(self.index, self.handle, parent, u32::from(self.priority) << 16 | protocol)
    }
}

fn message(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let words = [0, index, handle, parent, info];
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

impl Requests {
    /// Adds clsact to an interface, unless it is there.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn add_clsact(&self, index: u32) -> io::Result<()> {
        let mut body = message(index, CLSACT_HANDLE, CLSACT, 0);
        put(&mut body, KIND, b"clsact\0");
        match self.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &body) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            answer => answer,
        }
    }

    /// Lists the filters of one side in the order in which packets meet them.
    ///
    /// # Errors
    /// The error that the kernel returns. A side without clsact has no filters.
    pub fn filters(&self, index: u32, egress: bool) -> io::Result<Vec<Filter>> {
        let place = Place { index, egress, priority: 0, handle: 0 };
        let answer = self.dump(RTM_GETTFILTER, &place.message(), read);
        match answer {
            // The side has no clsact.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// Adds a program as a filter at a free place.
    ///
    /// # Errors
    /// The error that the kernel returns: `EEXIST` if the handle is taken, `EINVAL` if the priority
    /// has filters of another kind.
    pub fn add_filter(&self, place: Place, program: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mut options = Vec::new();
        put(&mut options, BPF_FD, &program.as_raw_fd().to_ne_bytes());
        put(&mut options, BPF_NAME, &[name.as_bytes(), b"\0"].concat());
        put(&mut options, BPF_FLAGS, &DIRECT.to_ne_bytes());
        let mut body = place.message();
        put(&mut body, KIND, b"bpf\0");
        put(&mut body, OPTIONS | NESTED, &options);
        self.request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &body)
    }

    /// Removes the filter at a place. The caller must have checked that it owns the filter.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn remove_filter(&self, place: Place) -> io::Result<()> {
        let mut body = place.message();
        put(&mut body, KIND, b"bpf\0");
        self.request(RTM_DELTFILTER, 0, &body)
    }
}

fn read(kind: u16, payload: &[u8]) -> Option<Filter> {
    if kind != RTM_NEWTFILTER {
        return None;
    }
    let priority = (number(payload, 16)? >> 16) as u16;
    let mut filter = Filter { priority, handle: number(payload, 8)?, ..Filter::default() };
    let (mut id, mut tag) = (None, None);
    for attribute in attributes(payload, FIXED) {
        let value = attribute.value();
        match attribute.kind() {
            KIND => filter.kind = text(value),
            // Packets enter other chains only if a filter sends them there.
            CHAIN if number(value, 0) != Some(0) => return None,
            OPTIONS if filter.kind == "bpf" => {
                for option in attributes(value, 0) {
                    let value = option.value();
                    match option.kind() {
                        BPF_NAME => filter.name = text(value),
                        BPF_TAG => tag = value.first_chunk().copied(),
                        BPF_ID => id = number(value, 0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    filter.program = id.zip(tag);
    // A listing has an entry for each priority before its filters.
    (filter.handle != 0).then_some(filter)
}
