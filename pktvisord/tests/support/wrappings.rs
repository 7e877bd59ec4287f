//! Packets behind labels and tags of the link layer, and in IP tunnels.

use std::net::IpAddr;

use super::frame::{self, Flow, UDP};

const GRE: u8 = 47;

/// A name for failure messages, and bytes.
pub type Named = (&'static str, Vec<u8>);

/// Returns the EtherType of an IP packet.
fn ethertype(packet: &[u8]) -> [u8; 2] {
    if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] }
}

/// Returns a frame of fixed MAC addresses followed by these parts.
fn frame_of(parts: &[&[u8]]) -> Vec<u8> {
    let addresses: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    [&[addresses], parts].concat().concat()
}

/// Returns Ethernet frames with an IP packet in each encapsulation that the walk looks through.
pub fn wrapped(packet: &[u8]) -> Vec<Named> {
    let ethertype = ethertype(packet);
    let ppp = if ethertype == [0x08, 0x00] { 0x21 } else { 0x57 };
    let label = |bottom: u8| [0x12, 0x34, 0x50 | bottom, 64];
    let length = (packet.len() + 8) as u16;
    let snap = [&[0xaa, 0xaa, 0x03, 0, 0, 0][..], &ethertype].concat();
    let pppoe = |protocol: &[u8]| {
        let length = ((packet.len() + protocol.len()) as u16).to_be_bytes();
        [&[0x11, 0, 0, 7][..], &length, protocol].concat()
    };
    let tags = |count: usize| [0x81, 0x00, 0, 5].repeat(count);
    let pseudowire = frame::tagged(&[9], packet);
    let mut frames = vec![
        ("three VLAN tags", frame_of(&[&tags(3), &ethertype, packet])),
        ("seven VLAN tags", frame_of(&[&tags(7), &ethertype, packet])),
        ("an old QinQ tag", frame_of(&[&[0x91, 0, 0, 5], &tags(1), &ethertype, packet])),
        ("MPLS", frame_of(&[&[0x88, 0x47], &label(1), packet])),
        ("MPLS upstream", frame_of(&[&[0x88, 0x48], &label(1), packet])),
        ("three labels", frame_of(&[&[0x88, 0x47], &label(0), &label(0), &label(1), packet])),
        ("MPLS behind VLAN", frame_of(&[&tags(1), &[0x88, 0x47], &label(1), packet])),
        ("a pseudowire", frame_of(&[&[0x88, 0x47], &label(0), &label(1), &[0; 4], &pseudowire])),
        ("PPPoE", frame_of(&[&[0x88, 0x64], &pppoe(&[0, ppp]), packet])),
        ("PPPoE, short protocol", frame_of(&[&[0x88, 0x64], &pppoe(&[ppp]), packet])),
        ("PPPoE behind VLAN", frame_of(&[&tags(2), &[0x88, 0x64], &pppoe(&[0, ppp]), packet])),
        ("MPLS in PPPoE", frame_of(&[&[0x88, 0x64], &pppoe(&[0x02, 0x81]), &label(1), packet])),
        ("EDSA", frame_of(&[&[0xda, 0xda, 0, 0, 0x40, 8, 0, 0], &ethertype, packet])),
        ("an old Broadcom tag", frame_of(&[&[0x88, 0x74, 0x20, 0, 0, 1], &ethertype, packet])),
    ];
    if packet.len() <= 1_480 {
        let length = length.to_be_bytes();
        frames.push(("SNAP", frame_of(&[&length, &snap, packet])));
        frames.push(("SNAP behind VLAN", frame_of(&[&tags(1), &length, &snap, packet])));
        if packet[0] >> 4 == 4 {
            frames.push(("LLC", frame_of(&[&length, &[6, 6, 3], packet])));
        }
    }
    frames
}

/// Returns a UDP datagram to the port of a tunnel.
fn over_udp(src: IpAddr, dst: IpAddr, port: u16, parts: &[&[u8]]) -> Vec<u8> {
    frame::udp(&Flow::new(src, 50_000, dst, port), &parts.concat())
}

/// Returns IP packets between two ends with an IP packet in every kind of tunnel.
pub fn tunnelled(src: IpAddr, dst: IpAddr, packet: &[u8]) -> Vec<Named> {
    let ethertype = ethertype(packet);
    let ethernet = frame::ethernet(packet);
    let gre = |parts: &[&[u8]]| frame::ip(src, dst, GRE, &parts.concat());
    let vxlan = [8, 0, 0, 0, 0, 0, 7, 0];
    let protocol = if packet[0] >> 4 == 4 { 4 } else { 41 };
    let gtp = |flags: u8, more: &[u8]| {
        let length = ((packet.len() + more.len()) as u16).to_be_bytes();
        let header = [0x30 | flags, 255, length[0], length[1], 0, 0, 0, 9];
        over_udp(src, dst, 2_152, &[&header, more, packet])
    };
    // Version 3 with a frame, and optionally eight bytes of platform data.
    let erspan_iii = |last: u8| [0x20, 5, 0, 1, 0, 0, 0, 9, 0, 0, 0, last];
    let number = [0, 0, 0, 1];
    vec![
        ("GRE", gre(&[&[0, 0], &ethertype, packet])),
        ("GRE with all options", gre(&[&[0xb0, 0], &ethertype, &[1; 12], packet])),
        ("GRE with Ethernet", gre(&[&[0x20, 0, 0x65, 0x58], &[1; 4], &ethernet])),
        ("GRE with MPLS", gre(&[&[0, 0, 0x88, 0x47], &[0, 0, 0x11, 9], packet])),
        ("ERSPAN I", gre(&[&[0, 0, 0x88, 0xbe], &ethernet])),
        (
            "ERSPAN II",
            gre(&[&[0x10, 0, 0x88, 0xbe], &number, &[0x10, 5, 0, 1, 0, 0, 0, 0], &ethernet]),
        ),
        ("ERSPAN III", gre(&[&[0x10, 0, 0x22, 0xeb], &number, &erspan_iii(0), &ethernet])),
        (
            "ERSPAN III with more",
            gre(&[&[0x10, 0, 0x22, 0xeb], &number, &erspan_iii(1), &[0; 8], &ethernet]),
        ),
        ("VXLAN", over_udp(src, dst, 4_789, &[&vxlan, &ethernet])),
        (
            "VXLAN with a policy",
            over_udp(src, dst, 8_472, &[&[0x88, 0x40, 0, 5, 0, 0, 7, 0], &ethernet]),
        ),
        ("Geneve", over_udp(src, dst, 6_081, &[&[0, 0, 0x65, 0x58, 0, 0, 7, 0], &ethernet])),
        (
            "Geneve with options",
            over_udp(
                src,
                dst,
                6_081,
                &[&[2, 0x40], &ethertype, &[0, 0, 7, 0], &[0, 1, 0x80, 1, 0, 0, 0, 0], packet],
            ),
        ),
        ("IP in IP", frame::ip(src, dst, protocol, packet)),
        ("MPLS in IP", frame::ip(src, dst, 137, &[&[0, 0, 0x11, 9], packet].concat())),
        ("GTP-U", gtp(0, &[])),
        ("GTP-U with a number", gtp(2, &[0, 1, 0, 0])),
        ("GTP-U with an extension", gtp(4, &[0, 0, 0, 0x85, 1, 0, 9, 0])),
    ]
}

/// Returns IP packets to tunnel ports with invalid tunnel headers, and tunnels whose content is not
/// read.
pub fn hardly_tunnels(src: IpAddr, dst: IpAddr) -> Vec<Named> {
    let gre = |bytes: &[u8]| frame::ip(src, dst, GRE, bytes);
    vec![
        ("not VXLAN", over_udp(src, dst, 4_789, &[&[9; 40]])),
        ("not Geneve", over_udp(src, dst, 6_081, &[&[0x3f; 40]])),
        ("not GTP-U", over_udp(src, dst, 2_152, &[&[0x30, 255, 9, 9], &[0; 30]])),
        ("too short for VXLAN", over_udp(src, dst, 4_789, &[&[8, 0, 0]])),
        ("GRE of another version", gre(&[0x20, 1, 0x88, 0x0b, 0, 4, 0, 1, 0, 0, 0, 0])),
        ("GRE with source routes", gre(&[0x40, 0, 8, 0, 0, 0, 0, 0])),
        ("a keepalive of GRE", gre(&[0, 0, 0, 0])),
        (
            "an echo of GTP-U",
            over_udp(src, dst, 2_152, &[&[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0]]),
        ),
        ("IP in IP that is none", frame::ip(src, dst, 4, &[0; 30])),
    ]
}

/// Returns true if an IP packet without extension headers carries UDP.
pub fn is_udp(packet: &[u8]) -> bool {
    if packet[0] >> 4 == 4 { packet[9] == UDP } else { packet[6] == UDP }
}
