//! A program of another agent that returns the same verdict for every packet.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Program types (`BPF_PROG_TYPE_SCHED_CLS`, `BPF_PROG_TYPE_XDP`).
pub const CLASSIFIER: u32 = 3;
pub const XDP: u32 = 6;
/// Verdicts: TC ends the chain and passes the packet, TC drops it, XDP drops it.
pub const TC_OK: i32 = 0;
pub const TC_SHOT: i32 = 2;
pub const XDP_DROP: i32 = 1;

/// The members of `union bpf_attr` for loading a program that are needed here.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    rest: [u64; 13],
}

/// Command of bpf(2) to load a program.
const PROG_LOAD: i64 = 5;

/// Loads a program that returns this verdict.
pub fn verdict(kind: u32, verdict: i32) -> OwnedFd {
    // `r0 = verdict; exit`
    let code: [u64; 2] = [0xb7 | (verdict as u64) << 32, 0x95];
    let license = c"GPL";
    let load = Load {
        kind,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        rest: [0; 13],
    };
    // SAFETY: the kernel reads the struct with the given size, and the memory that it points to.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    assert!(answer >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the result is a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(answer as i32) }
}
