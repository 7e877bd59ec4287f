//! BPF links: a program stays attached as long as a file descriptor is open (bpf(2)).
//!
//! bpf(2) takes interfaces by index, so a concurrent rename does no harm. Creating a link needs the
//! loaded program and no capability, so the daemon can attach after it has dropped its
//! capabilities.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands of bpf(2).
const LINK_CREATE: libc::c_long = 28;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Attach types (`BPF_XDP`, `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`).
const XDP: u32 = 37;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// XDP in driver mode (`XDP_FLAGS_DRV_MODE`).
const DRIVER: u32 = 1 << 2;
/// Attach in front of all others (`BPF_F_BEFORE` without a reference program).
const BEFORE: u32 = 1 << 3;

/// Attach point of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// XDP in driver mode.
    Xdp,
    /// TCX, in front of all other programs: packets that one of them drops or redirects are seen
    /// before that.
    Tcx {
        /// True for packets that the interface sends, false for those it receives.
        egress: bool,
    },
}

/// `struct { … } link_create` of `union bpf_attr`, up to the fields of TCX.
#[repr(C)]
struct Create {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

/// `struct { … } info` of `union bpf_attr`.
#[repr(C)]
struct GetInfo {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info`, up to the interface of XDP and TCX.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    attach_type: u32,
}

/// A link. The program is detached when this is dropped, and also when the process dies.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches a program to an interface.
    ///
    /// # Errors
    /// The error that the kernel returns.
    pub fn create(program: BorrowedFd<'_>, index: u32, at: At) -> io::Result<Self> {
        let (attach_type, flags) = match at {
            At::Xdp => (XDP, DRIVER),
            At::Tcx { egress: false } => (TCX_INGRESS, BEFORE),
            At::Tcx { egress: true } => (TCX_EGRESS, BEFORE),
        };
        let program = program.as_raw_fd().cast_unsigned();
        let (relative, padding, expected_revision) = (0, 0, 0);
        let create = Create {
            program,
            interface: index,
            attach_type,
            flags,
            relative,
            padding,
            expected_revision,
        };
        // SAFETY: the kernel reads the struct, whose size is passed, and keeps no pointer to it.
        let answer = unsafe {
            libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const create, size_of::<Create>())
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel returned a new descriptor that nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(answer as i32) }))
    }

    /// Returns true if the program is still attached to this interface, or if the kernel does not
    /// tell.
    pub fn is_attached(&self, index: u32) -> bool {
        let mut info = Info::default();
        let get = GetInfo {
            descriptor: self.0.as_raw_fd().cast_unsigned(),
            length: size_of::<Info>() as u32,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the kernel reads the first struct and writes at most `length` bytes of the
        // second. Both outlive the call.
        let answer = unsafe {
            libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const get, size_of::<GetInfo>())
        };
        answer < 0 || info.interface == index
    }
}
