//! Capture by programs in the kernel.
//!
//! * [`probe`]: the programs and their maps, loaded.
//! * [`attach`]: the hooks of an interface.
//! * [`links`], [`clsact`]: the two ways to a hook.
//! * [`drain`]: a thread for each ring, which sums its records up.
//! * [`refusal`]: what it means when the kernel refuses.

pub mod attach;
pub mod clsact;
pub mod drain;
pub mod links;
pub mod probe;
pub mod refusal;

/// The programs as `cargo xtask build-ebpf` has compiled them; empty where the daemon was built
/// without.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pktvisor.o"));

/// Whether the programs are inside.
pub const fn is_built_in() -> bool {
    !OBJECT.is_empty()
}
