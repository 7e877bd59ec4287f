//! Compares the walk through link-layer wrappings and IP tunnels with the walk over the inner
//! packet and with tshark.

mod support;

use pktvisor_common::classify::{self, enter_tunnels};
use pktvisor_common::packet::tunnel::MAX_TUNNELS;
use pktvisor_common::packet::{IpVersion, PacketMeta, Transport, walk_ethernet};
use pktvisor_common::time::Timestamp;
use pktvisord::aggregate::settings::{DEFAULT_DNS_PORTS, DnsPorts};
use pktvisord::decode::block::{LinkType, PacketRecord};
use pktvisord::decode::link;
use support::capture::{Capture, Folder, MICROSECOND, START};
use support::dns::{A, Message};
use support::frame::{self, ACK, Flow};
use support::program::{run, view};
use support::shapes::{address, tunnel_ends};
use support::wrappings::{hardly_tunnels, tunnelled, wrapped};
use support::{shapes, tshark};

fn walk(frame: &[u8]) -> PacketMeta {
    walk_ethernet(frame, frame.len())
}

/// Walks a frame and enters tunnels.
fn walk_inside(frame: &[u8]) -> PacketMeta {
    let ports = DnsPorts::new(&DEFAULT_DNS_PORTS);
    enter_tunnels(ports.bits(), frame, frame.len(), walk(frame))
}

/// Returns a query and a segment over each IP version, starting at the IP header.
fn inner() -> Vec<Vec<u8>> {
    let of_version = |(src, dst)| {
        let flow = Flow::new(address(src), 4_242, address(dst), 53);
        let message = Message::query(7, "www.example.com", A);
        [frame::udp(&flow, &message.octets()), frame::tcp(&flow, 9, ACK, &message.framed())]
    };
    let ends = [("198.51.100.7", "192.0.2.1"), ("2001:db8:1::7", "2001:db8::1")];
    ends.into_iter().flat_map(of_version).collect()
}

/// Returns the result of a walk with its offsets moved by `before` bytes.
fn moved(mut meta: PacketMeta, before: usize) -> PacketMeta {
    meta.l3_offset += before as u16;
    meta.payload_offset += before as u16;
    meta
}

/// Asserts that the walk over a frame, whole or cut, finds the packet at its end.
#[track_caller]
fn finds(name: &str, frame: &[u8], packet: &[u8], walk: impl Fn(&[u8]) -> PacketMeta) {
    let plain = frame::ethernet(packet);
    let expected = moved(walk_ethernet(plain.as_slice(), plain.len()), frame.len() - plain.len());
    assert_eq!(walk(frame), expected, "{name}");
    for cut in 0..frame.len() {
        let meta = walk(&frame[..cut]);
        if cut >= usize::from(expected.payload_offset) {
            assert_eq!(meta, expected, "{name} cut to {cut}");
        } else {
            assert!(meta != expected, "{name} cut to {cut}");
            assert!(meta.malformed || meta.dst_port != 53, "{name} cut to {cut}: {meta:?}");
        }
    }
}

#[test]
fn looks_through_wrappings() {
    for packet in inner() {
        for (name, frame) in wrapped(&packet) {
            finds(name, &frame, &packet, walk);
        }
    }
}

#[test]
fn looks_through_a_thousand_vlan_tags() {
    let packet = inner().swap_remove(0);
    let tagged = |tags: usize| frame::tagged(&vec![5; tags], &packet);
    for tags in [4, 9, 100, 1_024] {
        assert_eq!(walk(&tagged(tags)).transport, Transport::Udp, "{tags} tags");
    }
    assert_eq!(walk(&tagged(1_025)).version, IpVersion::None);
}

#[test]
fn other_protocols_behind_wrappings_are_not_ip() {
    let of = |bytes: &[u8]| walk(&[&[2; 12], bytes, &[0x45; 40]].concat());
    for bytes in [
        // A label before a first half-byte that is no IP version, LCP in PPPoE, PPPoE version 2,
        // PPPoE discovery.
        &[0x88, 0x47, 0, 0, 0x11, 9, 0x50][..],
        &[0x88, 0x64, 0x11, 0, 0, 7, 0, 9, 0xc0, 0x21],
        &[0x88, 0x64, 0x21, 0, 0, 7, 0, 9, 0, 0x21],
        &[0x88, 0x63, 0x11, 9, 0, 7, 0, 9],
        // A spanning tree message, and SNAP with Cisco's OUI.
        &[0, 38, 0x42, 0x42, 3],
        &[0, 60, 0xaa, 0xaa, 3, 0, 0, 12, 0x20, 0],
    ] {
        let meta = of(bytes);
        assert_eq!((meta.version, meta.malformed), (IpVersion::None, false), "{bytes:x?}");
    }
}

#[test]
fn looks_through_switch_tags() {
    for packet in inner() {
        let plain = frame::ethernet(&packet);
        let (addresses, rest) = plain.split_at(12);
        let inside = [addresses, &[0x40, 8, 0, 0], rest].concat();
        let before = [&[0x20, 0, 0, 3], &plain[..]].concat();
        for (number, frame) in [(281, &inside), (282, &before), (283, &inside)] {
            let link = LinkType::from_number(number).unwrap();
            finds(&format!("link type {number}"), frame, &packet, |frame| {
                let length = frame.len() as u32;
                let (time, offset) = (START, 0);
                let record = PacketRecord {
                    time: Timestamp::from_nanos(time),
                    offset,
                    captured: length,
                    wire_len: length,
                    link,
                };
                link::walk(&record, frame)
            });
        }
    }
}

#[test]
fn recognizes_and_enters_tunnels() {
    for (src, dst) in tunnel_ends() {
        for packet in inner() {
            for (name, outer) in tunnelled(src, dst, &packet) {
                let frame = frame::ethernet(&outer);
                let meta = walk(&frame);
                assert!(meta.is_tunnel() && !meta.malformed, "{name}: {meta:?}");
                let (v4, v6) = (IpVersion::V4, IpVersion::V6);
                assert_eq!(meta.version, if src.is_ipv4() { v4 } else { v6 }, "{name}");
                finds(name, &frame, &packet, walk_inside);
            }
        }
    }
}

#[test]
fn enters_nested_tunnels_up_to_a_bound() {
    let (src, dst) = tunnel_ends()[0];
    let packet = inner().swap_remove(0);
    let names = tunnelled(src, dst, &packet).len();
    for at in 0..names {
        let mut outer = packet.clone();
        for depth in 1..=MAX_TUNNELS + 1 {
            outer = tunnelled(src, dst, &outer).swap_remove((at + depth) % names).1;
            let meta = walk_inside(&frame::ethernet(&outer));
            assert_eq!(meta.is_tunnel(), depth > MAX_TUNNELS, "{at} {depth}");
            assert_eq!(meta.dst_port == 53, depth <= MAX_TUNNELS, "{at} {depth}");
        }
    }
}

#[test]
fn port_alone_makes_no_tunnel() {
    for (src, dst) in tunnel_ends() {
        for (name, packet) in hardly_tunnels(src, dst) {
            let frame = frame::ethernet(&packet);
            let meta = walk(&frame);
            assert!(!meta.malformed, "{name}");
            let valid = !(name.starts_with("not") || name.starts_with("too"));
            assert_eq!(meta.is_tunnel(), valid, "{name}");
            let inside = walk_inside(&frame);
            assert!(inside == meta || name == "IP in IP that is none", "{name}: {inside:?}");
        }
    }
}

#[test]
fn dns_takes_precedence_over_tunnels() {
    let ports = DnsPorts::new(&DEFAULT_DNS_PORTS);
    let (src, dst) = (address("192.0.2.1"), address("198.51.100.7"));
    // A reply to a client that uses the port of VXLAN. The payload looks like a VXLAN header.
    let payload = [&[8, 0, 0, 0, 0, 0, 0, 0][..], &[0; 40]].concat();
    let of =
        |port| walk(&frame::ethernet(&frame::udp(&Flow::new(src, port, dst, 4_789), &payload)));
    assert!(of(53).is_tunnel() && of(60_000).is_tunnel());
    assert!(!classify::is_tunnel(ports.bits(), &of(53)));
    assert!(classify::is_tunnel(ports.bits(), &of(60_000)));
    assert!(classify::is_tunnel(ports.bits(), &of(53_000)), "a valid header is more than chance");
}

#[test]
fn frame_shorter_than_its_ip_length_is_cut_and_not_malformed() {
    for packet in inner() {
        let frame = frame::ethernet(&packet);
        let whole = walk(&frame);
        for cut in usize::from(whole.payload_offset)..frame.len() {
            // With and without the frame's original length in the capture.
            assert_eq!(walk_ethernet(&frame[..cut], frame.len()), whole);
            assert_eq!(walk_ethernet(&frame[..cut], cut), whole);
        }
    }
    let flow = Flow::new(address("192.0.2.1"), 53, address("198.51.100.7"), 4_242);
    let mut long = frame::ethernet(&frame::udp(&flow, &[0; 30]));
    long[39] += 1;
    assert!(walk(&long).malformed, "a UDP length beyond the IP payload");
}

#[test]
fn agrees_with_tshark_on_wrappings_and_tunnels() {
    if !tshark::is_there() {
        return;
    }
    let message = Message::query(0x4242, "www.example.com", A).octets();
    let flow = Flow::new(address("198.51.100.7"), 4_242, address("192.0.2.1"), 53);
    let packet = frame::udp(&flow, &message);
    let (src, dst) = tunnel_ends()[0];
    let mut named = wrapped(&packet);
    for (name, outer) in tunnelled(src, dst, &packet) {
        named.push((name, frame::ethernet(&outer)));
    }
    let mut capture = Capture::default();
    for (at, (_, frame)) in named.iter().enumerate() {
        capture.push(START + at as i64 * MICROSECOND, frame.clone());
    }
    let folder = Folder::new();
    let file = folder.store("wrapped.pcap", &capture.pcap());
    let rows = tshark::fields(&file, &[], &["dns.id", "ip.src"]);
    for ((name, frame), row) in named.iter().zip(rows) {
        // tshark has no dissector for these, or needs preferences to recognize them.
        if row[0].is_empty() {
            let unread = ["a pseudowire", "EDSA", "an old Broadcom tag", "VXLAN with a policy"];
            assert!(unread.contains(name), "{name}");
            continue;
        }
        assert_eq!(row[0], "0x4242", "{name}");
        assert!(row[1].ends_with("198.51.100.7"), "{name}: {}", row[1]);
        assert_eq!(walk_inside(frame).dst_port, 53, "{name}");
    }
}

#[test]
fn tunnels_option_selects_the_headers_to_count() {
    let mut capture = Capture::default();
    for (at, frame) in shapes::tunnelled().into_iter().enumerate() {
        capture.push(START + at as i64 * MICROSECOND, frame);
    }
    let folder = Folder::new();
    let file = folder.store("tunnels.pcap", &capture.pcap());
    let total = capture.packets.len() as u64;
    let of = |tunnels: &str| view(&run(&["--summary", "--tunnels", tunnels, &file]));
    let (outer, inner) = (of("outer"), of("inner"));
    for view in [&outer, &inner] {
        assert_eq!(view.packets.total, total);
        assert_eq!(view.packets.bytes.total, outer.packets.bytes.total, "of the frames");
        assert_eq!(view.capture.outcomes.values().sum::<u64>(), total);
    }
    assert_eq!(outer.dns.wire_packets.total, 0);
    assert!(outer.capture.outcomes["tunnel"] > total * 3 / 4);
    assert!(inner.capture.outcomes["tunnel"] < total / 4);
    assert!(inner.dns.wire_packets.total > total / 3);
    assert!(inner.packets.top_ports.iter().any(|port| port.name == "53/udp"));
    assert!(outer.packets.top_ports.iter().any(|port| port.name == "4789/udp"));
    assert_eq!(
        run(&["--summary", &file]).stdout,
        run(&["--summary", "--tunnels", "outer", &file]).stdout
    );
}
