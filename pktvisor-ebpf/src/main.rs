//! The programs of pktvisord that run in the kernel: they watch packets and never change, drop
//! or redirect one.
//!
//! For now they pass every packet without looking at it.

#![no_std]
#![no_main]

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// What a network card has received, before the kernel has made a socket buffer of it.
#[xdp]
pub fn xdp_ingress(_: XdpContext) -> u32 {
    XDP_PASS
}

/// What an interface has received, after the kernel has joined segments.
///
/// `TC_ACT_UNSPEC` leaves the verdict to the programs and filters after this one.
#[classifier]
pub fn tc_ingress(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// What an interface is about to send, before it is cut into segments.
#[classifier]
pub fn tc_egress(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Never called: the kernel's verifier refuses a program in which it could be.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel which helpers it may offer; none that is for GPL-compatible programs only is
/// called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
