//! The kernel programs of pktvisord. They count packets, copy some of them into ring buffers, and
//! never change, drop or redirect a packet.
//!
//! Program names have at most 15 bytes, the length that the kernel keeps for listings.

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

/// Observes packets that a network card received, before the kernel makes a socket buffer.
#[xdp]
pub fn pktvisor_xdp(packet: XdpContext) -> u32 {
    observe(&packet, Start::Ethernet, Direction::In);
    XDP_PASS
}

/// As [`pktvisor_xdp`], also for packets of several pages such as jumbo frames.
#[xdp(frags)]
pub fn pktvisor_xdpf(packet: XdpContext) -> u32 {
    observe(&packet, Start::Ethernet, Direction::In);
    XDP_PASS
}

/// Observes packets that an interface received, after the kernel has joined segments.
///
/// `TC_ACT_UNSPEC` leaves the verdict to the programs and filters after this one.
#[classifier]
pub fn pktvisor_in(packet: TcContext) -> i32 {
    observe(&packet, Start::Ethernet, Direction::In);
    TC_ACT_UNSPEC
}

/// Observes packets that an interface is about to send, before segmentation.
#[classifier]
pub fn pktvisor_out(packet: TcContext) -> i32 {
    observe(&packet, Start::Ethernet, Direction::Out);
    TC_ACT_UNSPEC
}

/// Observes packets that an interface without a link layer received.
#[classifier]
pub fn pktvisor_in_ip(packet: TcContext) -> i32 {
    observe(&packet, Start::Ip, Direction::In);
    TC_ACT_UNSPEC
}

/// Observes packets that an interface without a link layer is about to send.
#[classifier]
pub fn pktvisor_out_ip(packet: TcContext) -> i32 {
    observe(&packet, Start::Ip, Direction::Out);
    TC_ACT_UNSPEC
}

/// Does nothing: the baseline that the benchmark subtracts.
#[xdp]
pub fn pktvisor_xdp0(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Does nothing: the baseline that the benchmark subtracts.
#[classifier]
pub fn pktvisor_in0(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Never runs: the verifier rejects a program that can reach it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// License of the programs. The kernel allows GPL-only helpers by it; the programs call none.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
