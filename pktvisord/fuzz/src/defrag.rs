//! IP reassembly.

use pktvisor_common::packet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Fragment, IpVersion, PROTOCOL_UDP, walk_l3,
};
use pktvisor_common::time::{Span, Timestamp};
use pktvisord::decode::defrag::{Datagram, Defrag, DefragLimits, DefragLosses};

use super::input::Input;

/// Plays fragments from the input: arbitrary ones, or those of a datagram that completes in the
/// end.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let version = if kind & 2 == 0 { IpVersion::V4 } else { IpVersion::V6 };
    if kind & 1 == 0 {
        any_fragments(version, input);
    } else {
        delivered(version, input);
    }
}

/// Returns an IP packet with `data`, bytes of a datagram from `offset` on.
fn packet(
    version: IpVersion,
    protocol: u8,
    ident: u8,
    offset: u16,
    more: bool,
    data: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::new();
    if version == IpVersion::V4 {
        packet.extend([0x45, 0]);
        packet.extend((20 + data.len() as u16).to_be_bytes());
        packet.extend([0, ident]);
        packet.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    } else {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend((8 + data.len() as u16).to_be_bytes());
        packet.extend([44, 64]);
        packet.extend([0xfd; 32]);
        packet.extend([protocol, 0]);
        packet.extend(((offset & 0xfff8) | u16::from(more)).to_be_bytes());
        packet.extend([0, 0, 0, ident]);
    }
    packet.extend(data);
    packet
}

fn feed(
    defrag: &mut Defrag,
    packet: &[u8],
    captured: usize,
    time: i64,
    emit: &mut dyn FnMut(Datagram<'_>),
) {
    let Some(first) = packet.first() else { return };
    let ethertype = if first >> 4 == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let captured = &packet[..captured.min(packet.len())];
    let meta = walk_l3(captured, 0, ethertype, packet.len());
    if meta.fragment != Fragment::None {
        defrag.fragment(&meta, captured, Timestamp::from_nanos(time), emit);
    }
}

/// Checks that arbitrary fragments stay within the limits and give consistent datagrams.
fn any_fragments(version: IpVersion, mut input: Input<'_>) {
    let limits = DefragLimits {
        entries: 4,
        bytes: 4096,
        age: Span::from_nanos(500),
        first: Span::from_nanos(200),
    };
    let mut defrag = Defrag::new(limits);
    let mut emit = |datagram: Datagram<'_>| {
        let Datagram { meta, payload, whole, .. } = datagram;
        assert!(payload.len() < 1 << 16);
        assert_eq!(meta.fragment, Fragment::None);
        if whole && !meta.malformed {
            assert!(usize::from(meta.payload_offset) + meta.payload_len as usize <= payload.len());
        }
    };
    let mut time = 0;
    while !input.is_empty() {
        let kind = input.u8();
        time += i64::from(input.u8());
        let len = input.u8();
        let packet = if kind & 0x80 == 0 {
            let protocol = match kind >> 4 & 3 {
                3 => input.u8(),
                _ => PROTOCOL_UDP,
            };
            let offset = u16::from(input.u8()) * 8;
            let data = input.take(len.into());
            packet(version, protocol, kind & 3, offset, kind & 4 != 0, data)
        } else {
            input.take(len.into()).to_vec()
        };
        let missing = if kind & 8 == 0 { 0 } else { input.u8().into() };
        feed(&mut defrag, &packet, packet.len().saturating_sub(missing), time, &mut emit);
        assert!(defrag.datagrams() <= limits.entries && defrag.bytes() <= limits.bytes);
        if time % 8 == 0 {
            defrag.advance(Timestamp::from_nanos(time), &mut emit);
        }
    }
    defrag.finish(&mut emit);
    assert_eq!((defrag.datagrams(), defrag.bytes()), (0, 0));
}

/// Maximum fragments of a datagram, less one: of more, every second one would make more parts than are
/// kept, and the datagram would be given up.
const MOST: usize = 253;

/// Checks that fragments in any order, some repeated, give the datagram when the last one arrives.
fn delivered(version: IpVersion, mut input: Input<'_>) {
    let len = input.u16() % 65_500;
    let mut datagram = vec![0, 53, 4, 0];
    datagram.extend((len + 8).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend((0..len).map(|at| (at >> 3) as u8 ^ at as u8));

    let mut fragments = Vec::new();
    let mut start = 0;
    while start < datagram.len() {
        let len = match fragments.len() {
            MOST => datagram.len(),
            _ => (256 - usize::from(input.u8())) * 8,
        };
        let end = (start + len).min(datagram.len());
        let more = end < datagram.len();
        fragments.push(packet(version, PROTOCOL_UDP, 7, start as u16, more, &datagram[start..end]));
        start = end;
    }
    if fragments.len() < 2 {
        return;
    }
    let mut missing: Vec<usize> = (0..fragments.len()).collect();
    let mut defrag = Defrag::new(DefragLimits::default());
    let mut got = Vec::new();
    while !missing.is_empty() {
        assert!(got.is_empty());
        let pick = usize::from(input.u16());
        let index =
            if pick % 4 == 0 { pick % fragments.len() } else { missing[pick % missing.len()] };
        missing.retain(|other| *other != index);
        let fragment = &fragments[index];
        feed(&mut defrag, fragment, fragment.len(), 0, &mut |datagram| {
            assert!(datagram.whole);
            got.push(datagram.payload.to_vec());
        });
        if input.is_empty() {
            // The remaining ones in order.
            missing.reverse();
            while let Some(index) = missing.pop() {
                let fragment = &fragments[index];
                feed(&mut defrag, fragment, fragment.len(), 0, &mut |datagram| {
                    got.push(datagram.payload.to_vec());
                });
            }
        }
    }
    assert_eq!(got, [datagram]);
    assert_eq!(defrag.take_losses(), DefragLosses::default());
}
