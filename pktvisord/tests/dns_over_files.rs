//! DNS in captures as operators make them: lossy, cut, duplicated, out of order.

mod support;

use std::net::IpAddr;

use pktvisor_common::api::{Dns, MetricsView};
use support::capture::{Capture, Folder, MILLISECOND, SECOND, START};
use support::dns::{A, AAAA, AUTHORITATIVE, Message, NOERROR, NS, QR};
use support::frame::{self, ACK, Flow, SYN};
use support::program::{run, view};

const HOST: &str = "198.51.100.53/32,2001:db8:53::53/128";
const SERVER: &str = "198.51.100.53";
const CLIENT: &str = "203.0.113.7";
const AXFR: u16 = 252;
const SOA: u16 = 6;
const CNAME: u16 = 5;
const ANY: u16 = 255;
const TC: u16 = 0x0200;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Returns a flow from a port of the client to port 53 of the server.
fn flow(port: u16) -> Flow {
    Flow::new(address(CLIENT), port, address(SERVER), 53)
}

fn summary_of(file: &[u8], name: &str) -> MetricsView {
    let folder = Folder::new();
    let file = folder.store(name, file);
    let of = |workers: &str| view(&run(&["--summary", "-H", HOST, "--workers", workers, &file]));
    let (one, three) = (of("1"), of("3"));
    assert_eq!(one.dns, three.dns, "for any number of workers");
    assert_eq!(one.capture.outcomes.values().sum::<u64>(), one.packets.total);
    one
}

fn summary(packets: Vec<(i64, Vec<u8>)>) -> MetricsView {
    summary_of(&Capture { packets }.pcap(), "capture.pcap")
}

/// Sums up packets, with times in milliseconds from the start.
fn dns(packets: Vec<(i64, Vec<u8>)>) -> Dns {
    let packets = packets.into_iter();
    summary(
        packets.map(|(ms, packet)| (START + ms * MILLISECOND, frame::ethernet(&packet))).collect(),
    )
    .dns
}

/// Returns transactions, orphans, duplicates, open queries and timed-out queries.
fn counts(dns: &Dns) -> [u64; 5] {
    let counts = &dns.xact.counts;
    [counts.total, counts.orphans, counts.duplicates, dns.xact.open, counts.timed_out]
}

fn query(id: u16) -> Message {
    Message::query(id, &format!("name{id}.example.com"), A)
}

/// Returns a segment that acknowledges all bytes of the peer before `ack`.
fn segment(flow: &Flow, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = frame::tcp(flow, seq, ACK, payload);
    let tcp = packet.len() - payload.len() - 20;
    packet[tcp + 8..tcp + 12].copy_from_slice(&ack.to_be_bytes());
    packet
}

/// Returns a dialogue over TCP: `count` queries 10 ms apart. Each is answered 2 ms later, and the
/// client acknowledges the answer 1 ms after that. A segment that `keep` rejects is missing in the
/// capture. The arguments of `keep` are true for the client's segments, and the number of the
/// message.
fn dialogue(count: u16, keep: impl Fn(bool, u16) -> bool) -> Vec<(i64, Vec<u8>)> {
    let (to, back) = (flow(4000), flow(4000).reversed());
    let (mut asked, mut answered) = (1_000u32, 5_000u32);
    let mut packets = vec![
        (0, frame::tcp(&to, asked - 1, SYN, b"")),
        (0, frame::tcp(&back, answered - 1, SYN | ACK, b"")),
    ];
    for id in 1..=count {
        let at = i64::from(id) * 10;
        let message = query(id);
        let question = message.framed();
        let answer = message.reply(NOERROR, 1).framed();
        if keep(true, id) {
            packets.push((at, segment(&to, asked, answered, &question)));
        }
        asked += question.len() as u32;
        if keep(false, id) {
            packets.push((at + 2, segment(&back, answered, asked, &answer)));
        }
        answered += answer.len() as u32;
        packets.push((at + 3, segment(&to, asked, answered, b"")));
    }
    packets
}

#[track_caller]
fn assert_two_milliseconds(dns: &Dns) {
    let latencies = dns.xact.inbound.quantiles_us.expect("there are transactions");
    for quantile in [latencies.p50, latencies.p99] {
        assert!((1_980..=2_020).contains(&quantile), "{latencies:?}");
    }
}

#[test]
fn missing_segment_costs_only_its_own_message() {
    for (count, lost) in [(12, 3), (12, 1), (4, 3), (40, 20)] {
        let reply_lost = dns(dialogue(count, |client, id| client || id != lost));
        assert_eq!(counts(&reply_lost), [u64::from(count) - 1, 0, 0, 1, 0], "{count} {lost}");
        assert_two_milliseconds(&reply_lost);
        let query_lost = dns(dialogue(count, |client, id| !client || id != lost));
        assert_eq!(counts(&query_lost), [u64::from(count) - 1, 1, 0, 0, 0], "{count} {lost}");
        assert_two_milliseconds(&query_lost);
    }
    let both = dns(dialogue(30, |client, id| id % 10 != if client { 5 } else { 8 }));
    assert_eq!(counts(&both), [24, 3, 0, 3, 0]);
    assert_two_milliseconds(&both);
}

#[test]
fn gap_of_seconds_makes_no_latency_of_seconds() {
    let mut packets = dialogue(12, |client, id| client || id != 3);
    packets.retain(|(_, packet)| packet.len() > 40 || packet[33] & SYN != 0);
    // Nothing acknowledges the missing segment, while another client continues for a long time.
    for second in 1..20 {
        let asked = query(second);
        let at = i64::from(second) * 1_000;
        packets.push((at, frame::udp(&flow(5_000), &asked.octets())));
        let answer = asked.reply(NOERROR, 1).octets();
        packets.push((at + 2, frame::udp(&flow(5_000).reversed(), &answer)));
    }
    let dns = dns(packets);
    assert_eq!(dns.xact.counts.total, 11 + 19);
    assert_two_milliseconds(&dns);
}

#[test]
fn pairs_tcp_replies_that_the_capture_cut() {
    let packets = dialogue(9, |_, _| true);
    let mut file = Vec::new();
    for number in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 96, 1] {
        file.extend(number.to_le_bytes());
    }
    for (ms, packet) in packets {
        let frame = frame::ethernet(&packet);
        let time = START + ms * MILLISECOND;
        let captured = frame.len().min(96);
        let header =
            [(time / SECOND) as u32, (time % SECOND) as u32, captured as u32, frame.len() as u32];
        file.extend(header.map(u32::to_le_bytes).concat());
        file.extend(&frame[..captured]);
    }
    let view = summary_of(&file, "cut.pcap");
    assert_eq!(counts(&view.dns), [9, 0, 0, 0, 0]);
    assert_eq!(view.dns.wire_packets.malformed, 0);
    assert!(view.capture.outcomes["truncated"] >= 9, "{:?}", view.capture.outcomes);
}

#[test]
fn question_separates_queries_with_the_same_id_and_port() {
    let to = flow(4000);
    let (a, aaaa) = (Message::query(7, "x.test", A), Message::query(7, "x.test", AAAA));
    let dns = dns(vec![
        (0, frame::udp(&to, &a.octets())),
        (1, frame::udp(&to, &aaaa.octets())),
        (2, frame::udp(&to.reversed(), &aaaa.reply(NOERROR, 0).octets())),
        (3, frame::udp(&to.reversed(), &a.reply(NOERROR, 1).octets())),
    ]);
    assert_eq!(counts(&dns), [2, 0, 0, 0, 0]);
}

#[test]
fn direction_separates_servers_that_query_each_other_from_port_53() {
    let to = Flow::new(address(CLIENT), 53, address(SERVER), 53);
    let asked = query(7);
    let (question, answer) = (asked.octets(), asked.reply(NOERROR, 1).octets());
    let both = dns(vec![
        (0, frame::udp(&to, &question)),
        (1, frame::udp(&to.reversed(), &question)),
        (2, frame::udp(&to.reversed(), &answer)),
        (3, frame::udp(&to, &answer)),
    ]);
    assert_eq!(counts(&both), [2, 0, 0, 0, 0]);
    // A reply in the direction of its query answers nothing.
    let looped = dns(vec![(0, frame::udp(&to, &question)), (1, frame::udp(&to, &answer))]);
    assert_eq!(counts(&looped), [0, 1, 0, 1, 0]);
}

#[test]
fn further_replies_are_duplicates() {
    let (to, asked) = (flow(4000), query(7));
    let question = frame::udp(&to, &asked.octets());
    let answer = frame::udp(&to.reversed(), &asked.reply(NOERROR, 1).octets());
    for order in [[0, 0, 1, 1], [0, 1, 0, 1]] {
        let packets = [&question, &answer];
        let packets = order.iter().zip(0..).map(|(at, ms)| (ms, packets[*at].clone()));
        assert_eq!(counts(&dns(packets.collect())), [1, 0, 1, 0, 0], "{order:?}");
    }
}

#[test]
fn pairs_reply_that_precedes_its_query_in_the_file() {
    let (to, asked) = (flow(4000), query(7));
    let question = frame::udp(&to, &asked.octets());
    let answer = frame::udp(&to.reversed(), &asked.reply(NOERROR, 1).octets());
    let early = dns(vec![(2, answer.clone()), (0, question.clone())]);
    assert_eq!(counts(&early), [1, 0, 0, 0, 0]);
    assert_two_milliseconds(&early);
    assert_eq!(counts(&dns(vec![(0, answer.clone()), (2, question.clone())])), [0, 1, 0, 1, 0]);
    assert_eq!(counts(&dns(vec![(2_000, answer), (0, question)])), [0, 1, 0, 1, 0]);
}

#[test]
fn zone_transfer_is_one_transaction() {
    let (to, back) = (flow(4000), flow(4000).reversed());
    let asked = Message::query(7, "example.com", AXFR);
    let first = asked.reply(NOERROR, 3).framed();
    // Further messages need not repeat the question.
    let mut bare = vec![0, 28, 0, 7, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    bare.extend([0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1, 0]);
    bare[1] = (bare.len() - 2) as u8;
    let mut packets = vec![
        (0, frame::tcp(&to, 999, SYN, b"")),
        (0, frame::tcp(&back, 4_999, SYN | ACK, b"")),
        (1, frame::tcp(&to, 1_000, ACK, &asked.framed())),
    ];
    let mut seq = 5_000;
    for (number, message) in [&first, &bare, &first, &bare].into_iter().enumerate() {
        packets.push((3 + number as i64 * 3_000, frame::tcp(&back, seq, ACK, message)));
        seq += message.len() as u32;
    }
    let dns = dns(packets);
    assert_eq!(counts(&dns), [1, 0, 0, 0, 0]);
    assert_eq!((dns.wire_packets.replies, dns.wire_packets.nodata), (4, 0));
    assert_two_milliseconds(&dns);
}

#[test]
fn transactions_are_separate_by_opcode_and_dso_expects_no_answer() {
    let to = flow(4000);
    let notify = Message { flags: 4 << 11, ..query(7) };
    let update = Message { flags: 5 << 11, ..query(7) };
    let dso = [0, 0, 6 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    let dns = dns(vec![
        (0, frame::udp(&to, &notify.octets())),
        (1, frame::udp(&to, &update.octets())),
        (2, frame::udp(&to, &dso)),
        (3, frame::udp(&to.reversed(), &update.reply(NOERROR, 0).octets())),
        (4, frame::udp(&to.reversed(), &notify.reply(NOERROR, 0).octets())),
    ]);
    assert_eq!(counts(&dns), [2, 0, 0, 0, 0]);
    assert_eq!(dns.wire_packets.nodata, 0, "neither is an answer to a query");
}

#[test]
fn unreadable_query_pairs_with_formerr() {
    let to = flow(4000);
    // The label extends beyond the message.
    let unreadable = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 60, b'a', b'b', 0, 1];
    let formerr = [0, 7, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let answered =
        dns(vec![(0, frame::udp(&to, &unreadable)), (1, frame::udp(&to.reversed(), &formerr))]);
    assert_eq!(counts(&answered), [1, 0, 0, 0, 0]);
    assert_eq!((answered.wire_packets.malformed, answered.wire_packets.formerr), (1, 1));
    let unanswered = dns(vec![(0, frame::udp(&to, &unreadable))]);
    assert_eq!(counts(&unanswered), [0; 5], "nobody need answer it");
}

/// Returns the ICMP error of a router or host at `from` about a packet. It quotes up to `quoted`
/// bytes of the packet.
fn unreachable(from: &str, packet: &[u8], quoted: usize) -> Vec<u8> {
    let src = address(from);
    let v6 = src.is_ipv6();
    let (kind, code, protocol) = if v6 { (1, 4, 58) } else { (3, 3, 1) };
    let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
    icmp.extend(&packet[..packet.len().min(quoted)]);
    let client = if v6 { "2001:db8::7" } else { CLIENT };
    frame::ip(src, address(client), protocol, &icmp)
}

#[test]
fn icmp_error_closes_query_at_once() {
    let v6 = Flow::new(address("2001:db8::7"), 4000, address("2001:db8:53::53"), 53);
    for (to, server) in [(flow(4000), SERVER), (v6, "2001:db8:53::53")] {
        let header = if to.src.is_ipv6() { 40 } else { 20 };
        let packet = frame::udp(&to, &query(7).octets());
        // All of the packet, up to the DNS header, up to the id, and up to the ports, as RFC 792
        // demands.
        for quoted in [1_000, header + 8 + 12, header + 8 + 4, header + 8] {
            let error = unreachable(server, &packet, quoted);
            let dns = dns(vec![(0, packet.clone()), (1, error)]);
            assert_eq!(counts(&dns), [0; 5], "{quoted}");
            assert_eq!(dns.xact.counts.unreachable, 1, "{quoted}");
        }
        // An undeliverable reply says nothing about the query.
        let reply = frame::udp(&to.reversed(), &query(7).reply(NOERROR, 1).octets());
        let dns = dns(vec![
            (0, packet),
            (1, unreachable(server, &[], 0)),
            (1, unreachable(server, &reply, 1_000)),
            (2, reply),
        ]);
        assert_eq!((dns.xact.counts.total, dns.xact.counts.unreachable), (1, 0));
    }
}

#[test]
fn pairs_unicast_on_mdns_and_llmnr_ports() {
    for port in [5353, 5355] {
        let to = Flow { dst_port: port, ..flow(4000) };
        let multicast = Flow { dst: address("224.0.0.251"), ..to };
        let asked = query(7);
        let dns = dns(vec![
            (0, frame::udp(&to, &asked.octets())),
            (1, frame::udp(&multicast, &query(8).octets())),
            (2, frame::udp(&to.reversed(), &asked.reply(NOERROR, 1).octets())),
        ]);
        assert_eq!(counts(&dns), [1, 0, 0, 0, 0], "{port}");
        // A client whose own port is one of them by chance.
        let to = Flow { src_port: port, ..flow(0) };
        let client = self::dns(vec![
            (0, frame::udp(&to, &asked.octets())),
            (2, frame::udp(&to.reversed(), &asked.reply(NOERROR, 1).octets())),
        ]);
        assert_eq!(counts(&client), [1, 0, 0, 0, 0], "{port}");
    }
}

#[test]
fn client_on_the_servers_host_makes_inbound_transactions() {
    let local = Flow::new(address(SERVER), 4000, address(SERVER), 53);
    let asked = query(7);
    let dns = dns(vec![
        (0, frame::udp(&local, &asked.octets())),
        (2, frame::udp(&local.reversed(), &asked.reply(NOERROR, 1).octets())),
    ]);
    assert_eq!((dns.xact.inbound.total, dns.xact.outbound.total), (1, 0));
}

/// Returns a reply to a query of `qtype`, with records of these types in its answer and authority
/// sections.
fn reply(flags: u16, qtype: u16, answers: &[u16], authority: &[u16]) -> Vec<u8> {
    let mut message = Vec::new();
    for number in [7, QR | flags, 1, answers.len() as u16, authority.len() as u16, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend([1, b'a', 0]);
    message.extend([qtype.to_be_bytes(), [0, 1]].concat());
    for rtype in answers.iter().chain(authority) {
        message.extend([0xc0, 12]);
        message.extend([rtype.to_be_bytes(), [0, 1]].concat());
        message.extend([0, 0, 0, 9, 0, 1, 0]);
    }
    message
}

#[test]
fn recognizes_nodata_and_referrals_by_rfc_2308() {
    for (what, message, nodata, referral) in [
        ("an answer", reply(0, A, &[A], &[]), 0, 0),
        ("SOA in authority", reply(0, AAAA, &[], &[SOA]), 1, 0),
        ("SOA and NS in authority", reply(0, AAAA, &[], &[NS, SOA]), 1, 0),
        ("nothing at all", reply(0, AAAA, &[], &[]), 1, 0),
        ("a referral", reply(0, A, &[], &[NS, NS]), 0, 1),
        ("NS from an authoritative server", reply(AUTHORITATIVE, A, &[], &[NS]), 1, 0),
        ("a CNAME into another zone", reply(0, A, &[CNAME], &[]), 0, 0),
        ("a CNAME with SOA", reply(0, A, &[CNAME], &[SOA]), 1, 0),
        ("a CNAME and its answer", reply(0, A, &[CNAME, A], &[SOA]), 0, 0),
        ("the CNAME that was asked for", reply(0, CNAME, &[CNAME], &[SOA]), 0, 0),
        ("TC", reply(TC, A, &[], &[]), 0, 0),
        ("ANY", reply(0, ANY, &[], &[SOA]), 0, 0),
        ("NXDOMAIN", reply(3, A, &[], &[SOA]), 0, 0),
        ("NOTIFY", reply(4 << 11, SOA, &[], &[]), 0, 0),
        ("UPDATE", reply(5 << 11, SOA, &[], &[]), 0, 0),
    ] {
        let dns = dns(vec![(0, frame::udp(&flow(4000).reversed(), &message))]);
        let wire = &dns.wire_packets;
        assert_eq!(wire.malformed, 0, "{what}");
        assert_eq!((wire.nodata, wire.referral), (nodata, referral), "{what}");
        assert_eq!(dns.top_nodata.len() as u64, nodata, "{what}");
    }
}

#[test]
fn counts_messages_whose_records_past_64_are_unread() {
    let message = reply(0, A, &[CNAME; 65], &[SOA]);
    let packets = vec![(START, frame::ethernet(&frame::udp(&flow(1).reversed(), &message)))];
    let view = summary(packets);
    assert_eq!(view.dns.wire_packets.nodata, 0);
    assert_eq!(view.capture.evictions["dns_records_unread"], 1);
}

#[test]
fn payload_that_is_not_dns_adds_no_name() {
    let wireguard =
        [&[4, 0, 0, 0, 0x9a, 0x51, 0x2c, 0x7e, 1, 0, 0, 0, 0, 0, 0, 0][..], &[0x5a; 48]].concat();
    let proxy =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c"[..], &[192, 0, 2, 1, 192, 0, 2, 2, 0, 9, 0, 53]]
            .concat();
    let random: Vec<u8> =
        (0..200u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for payload in [wireguard, proxy, random, vec![0xff; 100], b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let dns = dns(vec![(0, frame::udp(&flow(4000), &payload))]);
        let wire = &dns.wire_packets;
        assert_eq!((wire.total, wire.malformed), (1, 1), "{payload:?}");
        assert_eq!((dns.cardinality.qname, dns.top_qtype.len()), (0, 0));
        assert_eq!(counts(&dns), [0; 5]);
    }
    // Unassigned opcodes and the reserved bit are valid in DNS.
    for flags in [7 << 11, 0x0040] {
        let dns = dns(vec![(0, frame::udp(&flow(4000), &Message { flags, ..query(7) }.octets()))]);
        assert_eq!((dns.wire_packets.queries, dns.cardinality.qname), (1, 1), "{flags:#x}");
    }
}

#[test]
fn counts_names_and_types_of_all_questions() {
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1];
    message.extend(b"\x01a\x05local\0\0\x01\0\x01");
    // `b` followed by the end of the first name, then the first name again.
    message.extend(b"\x01b\xc0\x0e\0\x1c\0\x01");
    message.extend(b"\xc0\x0c\0\x10\0\x01");
    // An unreadable record.
    message.extend([0xff; 12]);
    let multicast = Flow::new(address(CLIENT), 5353, address("224.0.0.251"), 5353);
    let dns = dns(vec![(0, frame::udp(&multicast, &message))]);
    assert_eq!(dns.wire_packets.malformed, 0);
    assert_eq!(dns.cardinality.qname, 2);
    let types: Vec<&str> = dns.top_qtype.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(types, ["A", "AAAA", "TXT"]);
}

#[test]
fn lone_first_fragment_answers_its_query() {
    let (to, asked) = (flow(4000), query(7));
    let answer = frame::udp(&to.reversed(), &asked.reply(NOERROR, 120).octets());
    let first = frame::fragments(&answer, 9, 1_480).swap_remove(0);
    let mut packets = vec![(0, frame::udp(&to, &asked.octets())), (2, first)];
    for second in 1..30 {
        packets
            .push((second * 1_000, frame::udp(&flow(5_000), &query(second as u16 + 100).octets())));
    }
    let dns = dns(packets);
    assert_eq!(dns.xact.counts.total, 1);
    assert_two_milliseconds(&dns);
}
