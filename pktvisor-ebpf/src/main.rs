//! The programs of pktvisord that run in the kernel: they count packets, copy some of them into
//! rings, and never change, drop or redirect one.
//!
//! Their names are of at most 15 bytes, as the kernel keeps them for those who list its programs.

#![no_std]
#![no_main]

mod hook;
mod maps;
mod observe;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use pktvisor_common::abi::Start;
use pktvisor_common::direction::Direction;

use crate::observe::observe;

/// What a network card has received, before the kernel has made a socket buffer of it.
#[xdp]
pub fn pktvisor_xdp(packet: XdpContext) -> u32 {
    observe(&packet, Start::Ethernet, Direction::In);
    XDP_PASS
}

/// The same for packets of several pages: jumbo frames.
#[xdp(frags)]
pub fn pktvisor_xdpf(packet: XdpContext) -> u32 {
    observe(&packet, Start::Ethernet, Direction::In);
    XDP_PASS
}

/// What an interface has received, after the kernel has joined segments.
///
/// `TC_ACT_UNSPEC` leaves the verdict to the programs and filters after this one.
#[classifier]
pub fn pktvisor_in(packet: TcContext) -> i32 {
    observe(&packet, Start::Ethernet, Direction::In);
    TC_ACT_UNSPEC
}

/// What an interface is about to send, before it is cut into segments.
#[classifier]
pub fn pktvisor_out(packet: TcContext) -> i32 {
    observe(&packet, Start::Ethernet, Direction::Out);
    TC_ACT_UNSPEC
}

/// What an interface without a link layer has received.
#[classifier]
pub fn pktvisor_in_ip(packet: TcContext) -> i32 {
    observe(&packet, Start::Ip, Direction::In);
    TC_ACT_UNSPEC
}

/// What an interface without a link layer is about to send.
#[classifier]
pub fn pktvisor_out_ip(packet: TcContext) -> i32 {
    observe(&packet, Start::Ip, Direction::Out);
    TC_ACT_UNSPEC
}

/// Nothing: what the benchmark takes off.
#[xdp]
pub fn pktvisor_xdp0(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Nothing: what the benchmark takes off.
#[classifier]
pub fn pktvisor_in0(_: TcContext) -> i32 {
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
