use pktvisor_common::flow::mix;
use pktvisor_common::packet::{self, PROTOCOL_UDP, Transport, walk_l3};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const SECOND: i64 = 1_000_000_000;
const LIMITS: DefragLimits = DefragLimits {
    entries: 8,
    bytes: 300_000,
    age: Span::from_seconds(30),
    first: Span::from_seconds(40),
};

/// A fragment to send.
#[derive(Clone, Debug)]
struct Sent {
    ident: u32,
    offset: usize,
    more: bool,
    data: Vec<u8>,
}

/// A datagram as it was emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    payload: Vec<u8>,
    time: i64,
    whole: bool,
}

/// A UDP datagram from port 53 with `len` bytes of pseudo-random payload from `seed`.
fn udp(seed: u64, len: usize) -> Vec<u8> {
    let mut datagram = vec![0, 53, 4, 0];
    datagram.extend(((len + 8) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    let noise = (seed..).map(|at| mix(at) as u8);
    datagram.extend(noise.take(len));
    datagram
}

/// Cuts a datagram at multiples of 8.
fn cut(ident: u32, datagram: &[u8], places: &[usize]) -> Vec<Sent> {
    let mut places: Vec<usize> = places.iter().map(|place| place / 8 * 8).collect();
    places.extend([0, datagram.len()]);
    places.sort_unstable();
    places.dedup();
    let fragment = |ends: &[usize]| Sent {
        ident,
        offset: ends[0],
        more: ends[1] < datagram.len(),
        data: datagram[ends[0]..ends[1]].to_vec(),
    };
    places.windows(2).map(fragment).collect()
}

fn ipv4(sent: &Sent) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + sent.data.len() as u16).to_be_bytes());
    packet.extend((sent.ident as u16).to_be_bytes());
    packet.extend(((sent.offset as u16 / 8) | (u16::from(sent.more) << 13)).to_be_bytes());
    packet.extend([64, PROTOCOL_UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(&sent.data);
    packet
}

/// An IPv6 packet with hop-by-hop options before the fragment header.
fn ipv6(sent: &Sent, next_header: u8) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((16 + sent.data.len() as u16).to_be_bytes());
    packet.extend([0, 64]);
    packet.extend([0xfd; 32]);
    packet.extend([44, 0, 1, 4, 0, 0, 0, 0, next_header, 0]);
    packet.extend((sent.offset as u16 | u16::from(sent.more)).to_be_bytes());
    packet.extend(sent.ident.to_be_bytes());
    packet.extend(&sent.data);
    packet
}

/// Feeds the first `captured` bytes of an IP packet.
fn feed_cut(defrag: &mut Defrag, packet: &[u8], captured: usize, time: i64) -> Vec<Got> {
    let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let captured = &packet[..captured];
    let meta = walk_l3(captured, 0, ethertype, packet.len());
    let mut got = Vec::new();
    let mut emit = |datagram: Datagram<'_>| got.push(note(&datagram));
    defrag.fragment(&meta, captured, Timestamp::from_nanos(time), &mut emit);
    got
}

fn feed(defrag: &mut Defrag, packet: &[u8], time: i64) -> Vec<Got> {
    feed_cut(defrag, packet, packet.len(), time)
}

fn note(datagram: &Datagram<'_>) -> Got {
    let Datagram { meta, payload, time, whole } = *datagram;
    assert_eq!(meta.fragment, packet::Fragment::None);
    assert!(!meta.malformed);
    assert_eq!((meta.transport, meta.src_port, meta.dst_port), (Transport::Udp, 53, 1024));
    if whole {
        assert_eq!(usize::from(meta.payload_offset) + meta.payload_len as usize, payload.len());
    }
    Got { payload: payload.to_vec(), time: time.as_nanos(), whole }
}

fn whole(payload: &[u8], time: i64) -> Got {
    Got { payload: payload.to_vec(), time, whole: true }
}

fn part(payload: &[u8], time: i64) -> Got {
    Got { whole: false, ..whole(payload, time) }
}

fn finish(defrag: &mut Defrag) -> Vec<Got> {
    let mut got = Vec::new();
    defrag.finish(&mut |datagram| got.push(note(&datagram)));
    assert_eq!((defrag.datagrams(), defrag.bytes()), (0, 0));
    got
}

#[test]
fn fragments_in_any_order_form_a_datagram() {
    let datagram = udp(0, 3000);
    let fragments = cut(7, &datagram, &[1480, 2000]);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        for packet in [ipv4 as fn(&Sent) -> Vec<u8>, |sent| ipv6(sent, PROTOCOL_UDP)] {
            let mut defrag = Defrag::new(LIMITS);
            let mut got = Vec::new();
            for index in order {
                assert!(got.is_empty());
                got = feed(&mut defrag, &packet(&fragments[index]), index as i64);
            }
            assert_eq!(got, [whole(&datagram, 0)]);
            assert_eq!(defrag.bytes(), 0);
            assert!(finish(&mut defrag).is_empty());
            assert_eq!(defrag.take_losses(), DefragLosses::default());
        }
    }
}

#[test]
fn fragments_may_contain_extension_headers() {
    let mut datagram = vec![PROTOCOL_UDP, 0, 1, 4, 0, 0, 0, 0];
    datagram.extend(udp(0, 100));
    let mut defrag = Defrag::new(LIMITS);
    let fragments = cut(7, &datagram, &[8]);
    assert!(feed(&mut defrag, &ipv6(&fragments[1], 60), 2).is_empty());
    let got = feed(&mut defrag, &ipv6(&fragments[0], 60), 1);
    assert_eq!(got, [whole(&datagram, 1)]);
}

#[test]
fn fragments_with_different_keys_are_not_combined() {
    let datagram = udp(0, 100);
    let fragments = cut(7, &datagram, &[48]);
    let mut defrag = Defrag::new(LIMITS);
    let mut icmp = ipv4(&fragments[0]);
    icmp[9] = 1;
    assert!(feed(&mut defrag, &icmp, 0).is_empty());
    assert_eq!(defrag.datagrams(), 0);
    let mut other = fragments[1].clone();
    other.ident = 8;
    assert!(feed(&mut defrag, &ipv4(&fragments[0]), 0).is_empty());
    assert!(feed(&mut defrag, &ipv4(&other), 0).is_empty());
    assert!(feed(&mut defrag, &ipv6(&fragments[1], PROTOCOL_UDP), 0).is_empty());
    assert_eq!(defrag.datagrams(), 3);
}

#[test]
fn incomplete_datagram_emits_its_start() {
    let datagram = udp(0, 3000);
    let fragments = cut(7, &datagram, &[1480, 1488, 2000]);
    let mut defrag = Defrag::new(LIMITS);
    for index in [0, 1, 3] {
        assert!(feed(&mut defrag, &ipv4(&fragments[index]), SECOND).is_empty());
    }
    let mut got = Vec::new();
    defrag.advance(Timestamp::from_nanos(31 * SECOND), &mut |datagram| got.push(note(&datagram)));
    assert!(got.is_empty());
    defrag
        .advance(Timestamp::from_nanos(31 * SECOND + 1), &mut |datagram| got.push(note(&datagram)));
    assert_eq!(got, [part(&datagram[..1488], SECOND)]);
    assert_eq!(defrag.take_losses(), DefragLosses { incomplete: 1, ..DefragLosses::default() });

    // Without a first fragment there is no start. The maximum age applies without `advance` too.
    assert!(feed(&mut defrag, &ipv4(&fragments[1]), SECOND).is_empty());
    assert!(feed(&mut defrag, &ipv4(&fragments[0]), 32 * SECOND).is_empty());
    assert_eq!(finish(&mut defrag), [part(&datagram[..1480], 32 * SECOND)]);
    assert_eq!(defrag.take_losses(), DefragLosses { incomplete: 2, ..DefragLosses::default() });
}

#[test]
fn full_table_evicts_oldest_datagram() {
    let mut defrag = Defrag::new(LIMITS);
    let datagram = udp(0, 3000);
    let mut got = Vec::new();
    for ident in 0..9 {
        got.extend(feed(&mut defrag, &ipv4(&cut(ident, &datagram, &[1480])[0]), ident.into()));
    }
    assert_eq!(got, [part(&datagram[..1480], 0)]);
    assert_eq!(defrag.datagrams(), 8);
    assert_eq!(defrag.take_losses(), DefragLosses { evicted: 1, ..DefragLosses::default() });

    let long = udp(1, 65_000);
    for ident in 100..108 {
        feed(&mut defrag, &ipv6(&cut(ident, &long, &[1480])[1], PROTOCOL_UDP), 20);
        assert!(defrag.bytes() <= LIMITS.bytes);
    }
    assert!(defrag.take_losses().evicted > 8);
    assert!(defrag.datagrams() >= 4);
}

#[test]
fn gaps_of_common_fragment_sizes_are_accepted() {
    // The largest datagram in packets of 576 bytes: every other fragment, then the ones in between.
    let datagram = udp(1, 65_000);
    let places: Vec<usize> = (0..datagram.len()).step_by(552).collect();
    let sent = cut(1, &datagram, &places);
    let mut defrag = Defrag::new(LIMITS);
    let halves = [0, 1].map(|half| sent.iter().skip(half).step_by(2));
    let got: Vec<Got> =
        halves.into_iter().flatten().flat_map(|one| feed(&mut defrag, &ipv4(one), 0)).collect();
    assert_eq!(got, [whole(&datagram, 0)]);
}

#[test]
fn datagram_with_too_many_gaps_emits_its_start() {
    let datagram = udp(1, 8_000);
    let places: Vec<usize> = (0..datagram.len()).step_by(8).collect();
    let sent = cut(1, &datagram, &places);
    for has_first in [true, false] {
        let mut defrag = Defrag::new(LIMITS);
        let scattered = sent.iter().step_by(2).skip(usize::from(!has_first));
        let got: Vec<Got> = scattered.flat_map(|one| feed(&mut defrag, &ipv4(one), 0)).collect();
        let start = part(&datagram[..8], 0);
        assert_eq!(got, if has_first { vec![start.clone()] } else { Vec::new() });
        assert_eq!(defrag.take_losses(), DefragLosses { evicted: 1, ..DefragLosses::default() });
        assert_eq!(defrag.bytes(), 0);
        let late = feed(&mut defrag, &ipv4(&sent[0]), 0);
        assert_eq!(late, if has_first { Vec::new() } else { vec![start] });
    }
}

#[test]
fn overlapping_fragments_discard_the_datagram() {
    let datagram = udp(0, 3000);
    let fragments = cut(7, &datagram, &[1480]);
    let mut shifted = fragments[1].clone();
    shifted.offset -= 8;
    let mut forged = fragments[0].clone();
    forged.data[0] ^= 1;
    let mut shorter = fragments[1].clone();
    shorter.data.truncate(1000);
    let mut ends_early = fragments[0].clone();
    ends_early.more = false;
    let mut odd = fragments[0].clone();
    odd.data.truncate(1001);
    for (known, wrong) in [
        (Some(0), shifted),
        (Some(0), forged),
        (Some(1), shorter),
        (Some(1), ends_early),
        (None, odd),
    ] {
        let mut defrag = Defrag::new(LIMITS);
        for fragment in known.map(|index: usize| &fragments[index]).into_iter().chain([&wrong]) {
            assert!(feed(&mut defrag, &ipv4(fragment), 0).is_empty());
        }
        for fragment in &fragments {
            assert!(feed(&mut defrag, &ipv4(fragment), 0).is_empty());
        }
        assert!(finish(&mut defrag).is_empty());
        assert_eq!(defrag.take_losses(), DefragLosses { invalid: 1, ..DefragLosses::default() });
    }
}

#[test]
fn repeated_datagram_counts_each_time() {
    let datagram = udp(0, 3000);
    let fragments = cut(7, &datagram, &[1480]);
    let mut defrag = Defrag::new(LIMITS);
    let got: Vec<Got> =
        [0, 0, 1, 1, 0].iter().enumerate().fold(Vec::new(), |mut got, (time, at)| {
            got.extend(feed(&mut defrag, &ipv4(&fragments[*at]), time as i64));
            got
        });
    // The fourth and fifth are all of it once more.
    assert_eq!(got, [whole(&datagram, 0), whole(&datagram, 4)]);
    assert!(feed(&mut defrag, &ipv4(&fragments[0]), 5).is_empty());
    assert!(finish(&mut defrag).is_empty());
    assert_eq!(defrag.take_losses(), DefragLosses::default());
}

#[test]
fn truncated_fragment_gives_up_the_datagram_at_once() {
    let datagram = udp(0, 3000);
    let fragments: Vec<Vec<u8>> = cut(7, &datagram, &[1480, 2000]).iter().map(ipv4).collect();
    let snap = 116;

    let mut defrag = Defrag::new(LIMITS);
    assert_eq!(feed_cut(&mut defrag, &fragments[0], snap, 1), [part(&datagram[..96], 1)]);
    assert!(feed_cut(&mut defrag, &fragments[1], snap, 2).is_empty());
    assert!(finish(&mut defrag).is_empty());
    assert_eq!(defrag.take_losses(), DefragLosses { cut: 1, ..DefragLosses::default() });

    // A later fragment is truncated: after the first one, then before it.
    assert!(feed(&mut defrag, &fragments[0], 1).is_empty());
    assert_eq!(feed_cut(&mut defrag, &fragments[2], snap, 2), [part(&datagram[..1480], 1)]);
    assert!(finish(&mut defrag).is_empty());
    assert!(feed_cut(&mut defrag, &fragments[1], snap, 1).is_empty());
    assert_eq!(feed(&mut defrag, &fragments[0], 2), [part(&datagram[..1480], 2)]);
    assert!(feed(&mut defrag, &fragments[0], 3).is_empty());
    assert!(finish(&mut defrag).is_empty());
    assert_eq!(defrag.take_losses(), DefragLosses { cut: 2, ..DefragLosses::default() });

    // None of its data was captured.
    assert!(feed_cut(&mut defrag, &fragments[1], 20, 1).is_empty());
    assert_eq!(defrag.take_losses(), DefragLosses { cut: 1, ..DefragLosses::default() });
}

#[test]
fn truncated_start_keeps_message_length() {
    let datagram = udp(0, 3000);
    let packet = ipv4(&cut(7, &datagram, &[1480])[0]);
    let mut defrag = Defrag::new(LIMITS);
    let meta = walk_l3(&packet[..60], 0, 0x0800, packet.len());
    let mut lens = Vec::new();
    defrag.fragment(&meta, &packet[..60], Timestamp::EPOCH, &mut |datagram| {
        lens.push((datagram.payload.len(), datagram.meta.payload_len));
    });
    assert_eq!(lens, [(40, 1472)]);
}

/// Returns what a receiver with unlimited memory makes of consistent fragments.
fn naive(datagram: &[u8], came: &[&Sent]) -> Option<Got> {
    let mut there = vec![false; datagram.len()];
    for sent in came {
        there[sent.offset..sent.offset + sent.data.len()].fill(true);
    }
    let held = there.iter().take_while(|there| **there).count();
    (held > 0).then(|| Got {
        payload: datagram[..held].to_vec(),
        time: 0,
        whole: held == datagram.len(),
    })
}

proptest! {
    #[test]
    fn reassembly_agrees_with_naive_model(
        lens in vec(prop_oneof![8_usize..4000, 60_000_usize..65_528], 1..4),
        places in vec(0_usize..65_528, 1..60),
        lost in vec(any::<Index>(), 0..4),
        again in vec(any::<Index>(), 0..4),
        order in vec(any::<u32>(), 300),
        six in any::<bool>(),
    ) {
        let datagrams: Vec<Vec<u8>> =
            lens.iter().enumerate().map(|(seed, len)| udp(seed as u64 * 100_000, *len)).collect();
        let mut sent: Vec<Sent> = Vec::new();
        for (ident, datagram) in datagrams.iter().enumerate() {
            let places: Vec<usize> = places.iter().map(|place| place % datagram.len()).chain([8]).collect();
            sent.extend(cut(ident as u32, datagram, &places));
        }
        for index in lost {
            sent.remove(index.index(sent.len()));
            if sent.is_empty() {
                return Ok(());
            }
        }
        // Repeated fragments come first. The last fragment of a datagram is not repeated, because all of it
        // could then be repeated and would count twice.
        let mut order = order.into_iter();
        let mut keyed: Vec<(u32, Sent)> = sent.iter().cloned().map(|sent| (order.next().unwrap_or(0), sent)).collect();
        for index in again {
            let (_, sent) = &keyed[index.index(keyed.len())];
            if sent.more {
                keyed.push((0, sent.clone()));
            }
        }
        keyed.sort_by_key(|(key, _)| *key);

        let limits = DefragLimits { bytes: 1 << 20, ..LIMITS };
        let mut defrag = Defrag::new(limits);
        let mut got = Vec::new();
        for (_, sent) in &keyed {
            let packet = if six { ipv6(sent, PROTOCOL_UDP) } else { ipv4(sent) };
            got.extend(feed(&mut defrag, &packet, 0));
        }
        got.extend(finish(&mut defrag));
        let mut expected: Vec<Got> = datagrams
            .iter()
            .enumerate()
            .filter_map(|(ident, datagram)| {
                let came: Vec<&Sent> = sent.iter().filter(|sent| sent.ident == ident as u32).collect();
                naive(datagram, &came)
            })
            .collect();
        let by_payload = |a: &Got, b: &Got| a.payload.cmp(&b.payload);
        got.sort_by(by_payload);
        expected.sort_by(by_payload);
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn table_stays_within_its_bounds(
        packets in vec(
            (0_u32..6, 0_usize..40, any::<bool>(), vec(any::<u8>(), 0..200), any::<Index>(), any::<bool>()),
            0..200,
        ),
        wild in vec((any::<Index>(), 0_usize..60, any::<u8>(), 0_i64..60), 0..20),
    ) {
        let limits = DefragLimits { entries: 4, bytes: 4000, age: Span::from_nanos(20), first: Span::from_nanos(10) };
        let mut defrag = Defrag::new(limits);
        for (at, (ident, offset, more, data, snap, six)) in packets.iter().enumerate() {
            let sent = Sent { ident: *ident, offset: offset * 8, more: *more, data: data.clone() };
            let mut packet = if *six { ipv6(&sent, PROTOCOL_UDP) } else { ipv4(&sent) };
            let mut time = at as i64;
            for (place, byte, value, elapsed) in &wild {
                if place.index(packets.len()) == at {
                    let byte = byte % packet.len();
                    packet[byte] = *value;
                    time += elapsed;
                }
            }
            let captured = &packet[..packet.len() - if at % 4 == 0 { snap.index(packet.len()) } else { 0 }];
            let meta = walk_l3(captured, 0, if *six { 0x86dd } else { 0x0800 }, packet.len());
            defrag.fragment(&meta, captured, Timestamp::from_nanos(time), &mut |_| {});
            prop_assert!(defrag.datagrams() <= limits.entries);
            prop_assert!(defrag.bytes() <= limits.bytes);
        }
        defrag.advance(Timestamp::MAX, &mut |_| {});
        prop_assert_eq!((defrag.datagrams(), defrag.bytes()), (0, 0));
    }
}

#[test]
fn lone_first_fragment_is_emitted_after_its_wait() {
    let datagram = udp(0, 3000);
    let fragments = cut(7, &datagram, &[1480, 2000]);
    let mut defrag = Defrag::new(DefragLimits { first: Span::from_seconds(1), ..LIMITS });
    assert!(feed(&mut defrag, &ipv4(&fragments[0]), 5).is_empty());
    assert!(!defrag.is_due(Timestamp::from_nanos(5 + SECOND)));
    assert!(defrag.is_due(Timestamp::from_nanos(6 + SECOND)));
    let mut got = Vec::new();
    defrag.advance(Timestamp::from_nanos(6 + SECOND), &mut |datagram| got.push(note(&datagram)));
    assert_eq!(got, [part(&datagram[..1480], 5)]);
    assert_eq!(defrag.bytes(), 0);
    // Later fragments no longer count.
    for fragment in &fragments[1..] {
        assert!(feed(&mut defrag, &ipv4(fragment), 2 * SECOND).is_empty());
    }
    assert!(finish(&mut defrag).is_empty());
    assert_eq!(defrag.take_losses(), DefragLosses { incomplete: 1, ..DefragLosses::default() });
}

#[test]
fn waiting_first_fragments_are_bounded() {
    let limits = DefragLimits { entries: 4, ..LIMITS };
    let mut defrag = Defrag::new(limits);
    let mut handed_over = 0;
    for ident in 0..1_000 {
        let fragments = cut(ident, &udp(0, 3000), &[1480]);
        handed_over += feed(&mut defrag, &ipv4(&fragments[0]), 0).len();
        assert!(defrag.firsts.len() <= limits.entries);
    }
    assert_eq!(handed_over + finish(&mut defrag).len(), 1_000);
}
