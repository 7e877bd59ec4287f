//! Access to the bytes of a packet at the two kinds of hook, XDP and TC.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use pktvisor_common::abi::HEADERS_MAX;
use pktvisor_common::packet::PacketBytes;

/// A packet at a hook.
pub trait Hook: EbpfContext {
    /// Returns the bytes that the program can read directly.
    fn linear(&self) -> Linear;
    /// Returns the length of the packet in bytes.
    fn length(&self) -> u32;
    /// Returns the payload size of each segment and the number of segments in the packet, 0 if
    /// unknown.
    fn segments(&self) -> (u32, u32);
    /// Returns the index of the interface.
    fn interface(&self) -> u32;
    /// Returns the length of a VLAN tag that the kernel keeps apart from the packet's bytes.
    fn tag(&self) -> u32;
    /// Copies `length` bytes from `offset` on, in the linear data or not. Returns false on failure.
    ///
    /// # Safety
    /// `to` must have room for `length` bytes.
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
        // The verifier does not treat the difference of the two ends as a number.
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
        // SAFETY: the caller guarantees that `to` has room for `length` bytes.
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
        // SAFETY: the caller guarantees that `to` has room for `length` bytes.
        unsafe { bpf_skb_load_bytes(self.as_ptr().cast(), offset, to, length) == 0 }
    }
}

/// A contiguous range of bytes between two addresses.
///
/// Holds pointers and not numbers, because the verifier forbids arithmetic with the end.
pub struct Linear {
    start: *const u8,
    end: *const u8,
}

impl Linear {
    /// Returns the bytes between the addresses in two fields of a context.
    ///
    /// # Safety
    /// Both must be fields of the running program's context.
    #[inline(always)]
    unsafe fn between(start: *const u32, end: *const u32) -> Self {
        // The verifier turns values loaded from these fields into pointers. The compiler must
        // neither move the loads nor change their results.
        // SAFETY: the caller guarantees that both are fields of the context.
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
        // The comparison above already bounds `offset`; the mask shows the bound to the verifier.
        let start = self.start.wrapping_add(offset & (HEADERS_MAX - 1));
        if start.wrapping_add(N) > self.end {
            return None;
        }
        // SAFETY: the bytes lie before the end.
        Some(unsafe { ptr::read_unaligned(start.cast::<[u8; N]>()) })
    }
}

/// A copy of the first bytes of a packet.
pub struct Copied<'a> {
    pub bytes: &'a [u8; HEADERS_MAX],
    pub length: usize,
    /// A field in a map value. The verifier does not track values that pass through it.
    pub place: *mut u32,
}

impl PacketBytes for Copied<'_> {
    const WRAPPINGS: usize = 8;

    #[inline(always)]
    fn merge_paths(&self, offset: usize) -> usize {
        // SAFETY: the field is in a per-processor map.
        unsafe {
            ptr::write_volatile(self.place, offset as u32);
            ptr::read_volatile(self.place) as usize
        }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The volatile read hides from the compiler which sum `offset` is. The compared value must
        // be the one used below, because verifiers before Linux 6.11 do not connect the two.
        // SAFETY: the pointer is to the parameter.
        let offset = unsafe { ptr::read_volatile(&raw const offset) };
        if offset > HEADERS_MAX - N || offset + N > self.length {
            return None;
        }
        let start = self.bytes.as_ptr() as usize + offset;
        // SAFETY: the bytes lie within the array.
        Some(unsafe { ptr::read_unaligned(start as *const [u8; N]) })
    }
}
