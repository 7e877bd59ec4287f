//! Packets of every shape.

use std::net::IpAddr;

use super::dns::{A, Message, NOERROR};
use super::frame::{self, ACK, FIN, Flow, RST, SYN};
use super::wrappings;

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns packets of every shape, starting at the IP header.
pub fn packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (host, remote) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")] {
        let (host, remote) = (address(host), address(remote));
        let query = Flow::new(remote, 4242, host, 53);
        let message = Message::query(7, "www.example.com", A);
        packets.push(frame::udp(&query, &message.octets()));
        packets.push(frame::udp(&query.reversed(), &message.reply(NOERROR, 3).octets()));
        packets.push(frame::udp(&query, &[0; 4_000]));
        packets.push(frame::udp(&Flow::new(remote, 9, host, 10), b"short"));
        packets.push(frame::udp(&Flow::new(remote, 40_000, host, 53_000), &message.octets()));
        packets.push(frame::udp(&Flow::new(remote, 5353, remote, 5353), &message.octets()));
        for flags in [SYN, SYN | ACK, ACK, FIN | ACK, RST] {
            packets.push(frame::tcp(&query, 1, flags, &[]));
            packets.push(frame::tcp(&Flow::new(host, 443, remote, 5000), 9, flags, &[1; 200]));
        }
        packets.push(frame::tcp(&query, 1, ACK, &message.framed()));
        packets.push(frame::echo(remote, host));
        packets.push(frame::ip(remote, host, 47, &[0; 30]));
        packets.push(frame::ip(host, host, 17, &[0; 3]));
        let long = frame::udp(&query, &[7; 1_800]);
        packets.extend(frame::fragments(&long, 77, 600));
        let stream = frame::tcp(&Flow::new(host, 80, remote, 81), 1, ACK, &[7; 900]);
        packets.extend(frame::fragments(&stream, 78, 400));
    }
    // IPv4 options, and IPv6 extension headers.
    let mut options = frame::udp(
        &Flow::new(address("198.51.100.7"), 4242, address("192.0.2.1"), 53),
        &Message::query(7, "a.b", A).octets(),
    );
    options[0] = 0x4f;
    options.splice(20..20, [1; 40]);
    let [high, low] = (options.len() as u16).to_be_bytes();
    options[2..4].copy_from_slice(&[high, low]);
    packets.push(options);
    let datagram =
        frame::udp(&Flow::new(address("2001:db8::1"), 53, address("2001:db8:1::7"), 9), &[5; 30]);
    for count in [1, 3, 6, 7] {
        let mut extended = datagram[..40].to_vec();
        extended[6] = 60;
        for at in 0..count {
            let next = if at + 1 == count { 17 } else { 60 };
            extended.extend([next, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        extended.extend(&datagram[40..]);
        let length = (extended.len() - 40) as u16;
        extended[4..6].copy_from_slice(&length.to_be_bytes());
        packets.push(extended);
    }
    // An IPv6 header with a protocol that is not an extension header (96) and a payload length
    // beyond the packet.
    packets.push(vec![0x60; 60]);
    packets
}

/// Returns these packets as Ethernet frames with and without VLAN tags, and frames that are not IP.
pub fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = packets()
        .iter()
        .flat_map(|packet| {
            [&[][..], &[5], &[5, 6], &[5, 6, 7]].map(|tags| frame::tagged(tags, packet))
        })
        .collect();
    frames.push(frame::arp());
    frames.push([&[0xff; 12][..], &[0x88, 0xcc], &[0; 50]].concat());
    frames
}

/// Returns messages and fragments, starting at the IP header.
fn inner() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (host, remote) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")] {
        let query = Flow::new(address(remote), 4242, address(host), 53);
        let message = Message::query(7, "www.example.com", A);
        packets.push(frame::udp(&query, &message.octets()));
        packets.push(frame::udp(&query.reversed(), &message.reply(NOERROR, 3).octets()));
        packets.push(frame::tcp(&query, 1, ACK, &message.framed()));
        packets.extend(frame::fragments(&frame::udp(&query, &[7; 200]), 77, 120));
    }
    packets
}

/// Returns Ethernet frames with every kind of label and tag before IP.
pub fn wrapped() -> Vec<Vec<u8>> {
    let wrapped = |packet: &Vec<u8>| wrappings::wrapped(packet);
    inner().iter().flat_map(wrapped).map(|(_, frame)| frame).collect()
}

/// Returns the ends of tunnels.
pub fn tunnel_ends() -> [(IpAddr, IpAddr); 2] {
    [("203.0.113.1", "203.0.113.2"), ("2001:db8:f::1", "2001:db8:f::2")]
        .map(|(src, dst)| (address(src), address(dst)))
}

/// Returns Ethernet frames with every kind of tunnel, nested tunnels, and near misses.
pub fn tunnelled() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (src, dst) in tunnel_ends() {
        for packet in inner() {
            packets.extend(wrappings::tunnelled(src, dst, &packet));
        }
        packets.extend(wrappings::hardly_tunnels(src, dst));
        let mut nested = inner().swap_remove(0);
        for depth in 0..5 {
            let mut tunnels = wrappings::tunnelled(src, dst, &nested);
            packets.extend(tunnels.iter().cloned());
            nested = tunnels.swap_remove(depth * 4 % 17).1;
        }
        let outer = frame::fragments(&nested, 79, 64);
        packets.extend(outer.into_iter().map(|fragment| ("a fragment", fragment)));
    }
    packets.iter().map(|(_, packet)| frame::ethernet(packet)).collect()
}
