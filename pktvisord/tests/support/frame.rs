//! Packets and frames, built by hand.

use std::net::IpAddr;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const IPV6_HEADER: usize = 40;
const IPV6_FRAGMENT: u8 = 44;

/// Source and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
}

impl Flow {
    pub fn new(src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16) -> Self {
        Self { src, dst, src_port, dst_port }
    }

    pub fn reversed(self) -> Self {
        Self::new(self.dst, self.dst_port, self.src, self.src_port)
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let mut sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Returns an IP packet of the version of its addresses.
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = match src {
        IpAddr::V4(_) => {
            let [high, low] = (20 + payload.len() as u16).to_be_bytes();
            vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0]
        }
        IpAddr::V6(_) => {
            let [high, low] = (payload.len() as u16).to_be_bytes();
            vec![0x60, 0, 0, 0, high, low, protocol, 64]
        }
    };
    packet.extend(bytes(src));
    packet.extend(bytes(dst));
    if src.is_ipv4() {
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum);
    }
    packet.extend(payload);
    packet
}

fn transport(flow: &Flow, protocol: u8, mut segment: Vec<u8>, checksum_at: usize) -> Vec<u8> {
    let pseudo = [bytes(flow.src), bytes(flow.dst)].concat();
    let length = (segment.len() as u32).to_be_bytes();
    let sum = checksum(&[&pseudo, &length, &[0, 0, 0, protocol], &segment]);
    segment[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    ip(flow.src, flow.dst, protocol, &segment)
}

fn ports(flow: &Flow) -> Vec<u8> {
    [flow.src_port.to_be_bytes(), flow.dst_port.to_be_bytes()].concat()
}

/// Returns an IP packet with a UDP datagram.
pub fn udp(flow: &Flow, payload: &[u8]) -> Vec<u8> {
    let mut datagram = ports(flow);
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    transport(flow, UDP, datagram, 6)
}

/// Returns an IP packet with a TCP segment.
pub fn tcp(flow: &Flow, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = ports(flow);
    segment.extend(sequence.to_be_bytes());
    segment.extend(u32::from(flags & ACK != 0).to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    transport(flow, TCP, segment, 16)
}

/// Returns an IP packet with an echo request.
pub fn echo(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    match src {
        IpAddr::V4(_) => ip(src, dst, 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        IpAddr::V6(_) => {
            let flow = Flow::new(src, 0, dst, 0);
            transport(&flow, 58, vec![128, 0, 0, 0, 0, 0, 0, 0], 2)
        }
    }
}

/// Splits an IP packet into fragments of at most `size` bytes of payload, a multiple of 8.
pub fn fragments(packet: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let ipv4 = packet[0] >> 4 == 4;
    let (header, payload) = packet.split_at(if ipv4 { 20 } else { IPV6_HEADER });
    let count = payload.len().div_ceil(size);
    let fragment = |(at, part): (usize, &[u8])| {
        let more = u16::from(at + 1 < count);
        let units = (at * size / 8) as u16;
        let mut fragment = header.to_vec();
        if ipv4 {
            fragment[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
            fragment[4..6].copy_from_slice(&id.to_be_bytes());
            fragment[6..8].copy_from_slice(&(more << 13 | units).to_be_bytes());
            fragment[10..12].fill(0);
            let sum = checksum(&[&fragment]);
            fragment[10..12].copy_from_slice(&sum);
        } else {
            fragment[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
            let protocol = std::mem::replace(&mut fragment[6], IPV6_FRAGMENT);
            fragment.extend([protocol, 0]);
            fragment.extend((units << 3 | more).to_be_bytes());
            fragment.extend(u32::from(id).to_be_bytes());
        }
        fragment.extend(part);
        fragment
    };
    payload.chunks(size).enumerate().map(fragment).collect()
}

/// Returns a frame with an IP packet behind these VLAN tags, the outer one first.
pub fn tagged(vlans: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (at, vlan) in vlans.iter().enumerate() {
        let inner = at + 1 == vlans.len();
        frame.extend(if inner { ETHERTYPE_VLAN } else { ETHERTYPE_QINQ }.to_be_bytes());
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// Returns an Ethernet frame with an IP packet.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    tagged(&[], packet)
}

/// Returns an Ethernet frame with an ARP request.
pub fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 2, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0, 2, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2]);
    frame
}
