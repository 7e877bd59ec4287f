//! The two kinds of hook: how each gets at the bytes of a packet.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use pktvisor_common::abi::HEADERS_MAX;
use pktvisor_common::packet::PacketBytes;

/// A packet at a hook.
pub trait Hook: EbpfContext {
    /// The bytes that the program can read itself.
    fn linear(&self) -> Linear;
    /// Bytes of the packet.
    fn length(&self) -> u32;
    /// Payload of each segment, and segments, that it stands for; 0 where it is not said.
    fn segments(&self) -> (u32, u32);
    /// The index of the interface.
    fn interface(&self) -> u32;
    /// Bytes of a VLAN tag that the kernel keeps apart from the packet's bytes.
    fn tag(&self) -> u32;
    /// Copies `length` bytes from `offset` on, wherever they lie.
    ///
    /// # Safety
    /// `to` has room for `length` bytes.
    unsafe fn copy(&self, offset: u32, to: *mut c_void, length: u32) -> bool;
}

impl Hook for XdpContext {
    #[inline(always)]
    fn linear(&self) -> Linear {
        // SAFETY: the context is that of the running program.
        unsafe { Linear::between(&raw const (*self.ctx).data, &raw const (*self.ctx).data_end) }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // Not the difference of the two ends, which the verifier does not take for a number.
        // SAFETY: the context is that of the running program.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    #[inline(always)]
    fn segments(&self) -> (u32, u32) {
        (0, 0)
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is that of the running program.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        0
    }

    #[inline(always)]
    unsafe fn copy(&self, offset: u32, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the caller vouches for `to`.
        unsafe { bpf_xdp_load_bytes(self.ctx, offset, to, length) == 0 }
    }
}

impl Hook for TcContext {
    #[inline(always)]
    fn linear(&self) -> Linear {
        let skb = self.skb.skb;
        // SAFETY: the context is that of the running program.
        unsafe { Linear::between(&raw const (*skb).data, &raw const (*skb).data_end) }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.len()
    }

    #[inline(always)]
    fn segments(&self) -> (u32, u32) {
        // SAFETY: the context is that of the running program.
        unsafe { ((*self.skb.skb).gso_size, (*self.skb.skb).gso_segs) }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is that of the running program.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        // SAFETY: the context is that of the running program.
        if unsafe { (*self.skb.skb).vlan_present } == 0 { 0 } else { 4 }
    }

    #[inline(always)]
    unsafe fn copy(&self, offset: u32, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the caller vouches for `to`.
        unsafe { bpf_skb_load_bytes(self.as_ptr().cast(), offset, to, length) == 0 }
    }
}

/// Bytes that lie in one piece, between two addresses.
///
/// Pointers and not numbers, because the verifier allows no arithmetic with the end.
pub struct Linear {
    start: *const u8,
    end: *const u8,
}

impl Linear {
    /// The bytes between the addresses that stand in these two fields of a context.
    ///
    /// # Safety
    /// They are fields of the running program's context.
    #[inline(always)]
    unsafe fn between(start: *const u32, end: *const u32) -> Self {
        // The verifier makes pointers of what is loaded from there. The loads have to stay where
        // the pointers are used, and their results be taken as they are.
        // SAFETY: the caller vouches for the fields.
        let (start, end) = unsafe { (ptr::read_volatile(start), ptr::read_volatile(end)) };
        Self { start: start as *const u8, end: end as *const u8 }
    }
}

impl PacketBytes for Linear {
    const VLAN_ONLY: bool = true;

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset >= HEADERS_MAX {
            return None;
        }
        // The mask says to the verifier what the comparison says to the reader.
        let start = self.start.wrapping_add(offset & (HEADERS_MAX - 1));
        if start.wrapping_add(N) > self.end {
            return None;
        }
        // SAFETY: the bytes lie before the end.
        Some(unsafe { ptr::read_unaligned(start.cast::<[u8; N]>()) })
    }
}

/// The first bytes of a packet, copied.
pub struct Copied<'a> {
    pub bytes: &'a [u8; HEADERS_MAX],
    pub length: usize,
    /// A place in a map, where the verifier does not follow what is written.
    pub place: *mut u32,
}

impl PacketBytes for Copied<'_> {
    const WRAPPINGS: usize = 8;

    #[inline(always)]
    fn merge_paths(&self, offset: usize) -> usize {
        // SAFETY: the place is in a map of this processor's own.
        unsafe {
            ptr::write_volatile(self.place, offset as u32);
            ptr::read_volatile(self.place) as usize
        }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The compiler shall not know it from what it is the sum of: what is compared has to be
        // what is used, because a verifier before Linux 6.11 does not connect the two.
        // SAFETY: it is a parameter.
        let offset = unsafe { ptr::read_volatile(&raw const offset) };
        if offset > HEADERS_MAX - N || offset + N > self.length {
            return None;
        }
        let start = self.bytes.as_ptr() as usize + offset;
        // SAFETY: the bytes lie within the array.
        Some(unsafe { ptr::read_unaligned(start as *const [u8; N]) })
    }
}
