//! Effects of options on a summary.

mod support;

use std::net::IpAddr;

use pktvisor_common::api::{MetricsView, TopEntry, Views};
use support::capture::{Capture, Folder, MILLISECOND, SECOND, START};
use support::dns::{A, Message};
use support::frame::{Flow, ethernet, udp};
use support::program::{run, view};
use support::traffic::{HOSTS, traffic};

/// Returns queries for these names, one second apart, each with a reply after `latency`.
fn exchanges(names: &[&str], port: u16, latency: i64) -> Capture {
    let [client, server]: [IpAddr; 2] = ["198.51.100.7", "192.0.2.1"].map(|ip| ip.parse().unwrap());
    let mut capture = Capture::default();
    for (number, name) in (0..).zip(names) {
        let flow = Flow::new(client, 4000 + number, server, port);
        let query = Message::query(number, name, A);
        let time = START + i64::from(number) * SECOND;
        capture.push(time, ethernet(&udp(&flow, &query.octets())));
        let reply = query.reply(0, 1);
        capture.push(time + latency, ethernet(&udp(&flow.reversed(), &reply.octets())));
    }
    capture.sort();
    capture
}

fn summarized(capture: &Capture, options: &[&str]) -> MetricsView {
    let folder = Folder::new();
    let file = folder.store("capture.pcap", &capture.pcap());
    view(&run(&[options, &[&file]].concat()))
}

fn names(list: &[TopEntry]) -> Vec<&str> {
    list.iter().map(|entry| entry.name.as_str()).collect()
}

#[test]
fn dns_port_option_sets_the_ports_of_dns() {
    let mut capture = exchanges(&["a.test"], 53, MILLISECOND);
    for port in [5353, 5355, 53_000, 9_953] {
        capture.packets.extend(exchanges(&["b.test"; 2], port, MILLISECOND).packets);
    }
    capture.sort();
    let messages = |options: &[&str]| summarized(&capture, options).dns.wire_packets.total;
    assert_eq!(messages(&[]), 2 + 3 * 4);
    assert_eq!(messages(&["--dns-port", "9953"]), 4);
    assert_eq!(messages(&["--dns-port", "9953", "--dns-port", "53"]), 6);
}

#[test]
fn dns_timeout_option_sets_the_wait_for_replies() {
    let capture = exchanges(&["a.test", "b.test", "c.test"], 53, 1_500 * MILLISECOND);
    let patient = summarized(&capture, &["--dns-timeout", "1.5"]).dns.xact;
    assert_eq!((patient.counts.total, patient.counts.timed_out, patient.counts.orphans), (3, 0, 0));
    let hasty = summarized(&capture, &["--dns-timeout", "1.499"]).dns.xact;
    assert_eq!((hasty.counts.total, hasty.counts.timed_out, hasty.counts.orphans), (0, 3, 3));
}

#[test]
fn public_suffix_option_changes_where_names_are_cut() {
    let capture = exchanges(&["www.example.co.uk", "a.b.c.example.com"], 53, MILLISECOND);
    let labels = summarized(&capture, &[]).dns;
    assert_eq!(names(&labels.top_qname2), [".co.uk", ".example.com"]);
    assert_eq!(names(&labels.top_qname3), [".c.example.com", ".example.co.uk"]);
    let suffixes = summarized(&capture, &["--public-suffix"]).dns;
    assert_eq!(names(&suffixes.top_qname2), [".example.co.uk", ".example.com"]);
    assert_eq!(names(&suffixes.top_qname3), [".c.example.com", "www.example.co.uk"]);
}

#[test]
fn without_samples_there_are_only_totals() {
    let traffic = traffic(13, 3_000, START, 10 * SECOND);
    let view = summarized(&traffic.capture, &["-H", HOSTS, "--max-deep-sample", "0"]);
    assert_eq!(view.packets.total, traffic.truth.packets);
    assert_eq!(view.packets.bytes.total, traffic.truth.bytes);
    assert!(view.packets.inbound > 0 && view.packets.outbound > 0 && view.packets.udp > 0);
    assert_eq!((view.packets.deep_samples, view.dns.wire_packets.total), (0, 0));
    assert_eq!((view.packets.top_ipv4, view.packets.cardinality.ips), (vec![], 0));
}

#[test]
fn samples_stand_for_all_packets() {
    let traffic = traffic(17, 60_000, START, 40 * SECOND);
    let whole = summarized(&traffic.capture, &["-H", HOSTS]);
    let part = summarized(&traffic.capture, &["-H", HOSTS, "--max-deep-sample", "30"]);
    // Exact at any sampling rate.
    assert_eq!(part.packets.total, whole.packets.total);
    assert_eq!(part.packets.bytes, whole.packets.bytes);
    assert_eq!(part.packets.rates, whole.packets.rates);
    assert_eq!(part.packets.protocol, whole.packets.protocol);
    // Scaled: within 5 % here. A query and its reply are sampled together.
    let within = |what: &str, part: u64, whole: u64, of: u64| {
        assert!(part.abs_diff(whole) * of < whole, "{what}: {part} of {whole}");
    };
    let close = |what: &str, part, whole| within(what, part, whole, 20);
    let (of_part, of_whole) = (&part.dns, &whole.dns);
    close("messages", of_part.wire_packets.total, of_whole.wire_packets.total);
    close("replies", of_part.wire_packets.replies, of_whole.wire_packets.replies);
    close("pairs", of_part.xact.counts.total, of_whole.xact.counts.total);
    // One name or address has few pairs: allow three standard errors.
    let [of_part_name, of_whole_name] = [of_part, of_whole].map(|dns| dns.top_qname2[0].estimate);
    within("first name", of_part_name, of_whole_name, 8);
    let [of_part_address, of_whole_address] =
        [&part, &whole].map(|view| view.packets.top_ipv4[0].estimate);
    within("first address", of_part_address, of_whole_address, 8);
    // Never scaled.
    close("samples", part.packets.deep_samples * 10 / 3, whole.packets.deep_samples);
    assert!(of_part.cardinality.qname < of_whole.cardinality.qname);
    // Fragments of a sampled message may be left out. Otherwise no reply lacks its query.
    assert!(
        of_part.xact.counts.orphans * 50 < of_part.xact.counts.total,
        "{:?}",
        of_part.xact.counts
    );
}

#[test]
fn seed_changes_no_count() {
    let traffic = traffic(19, 5_000, START, 10 * SECOND);
    let plain = summarized(&traffic.capture, &["-H", HOSTS]);
    let mut seeded =
        summarized(&traffic.capture, &["-H", HOSTS, "--sketch-seed", "18446744073709551615"]);
    // The files have different names.
    seeded.capture.interfaces.clone_from(&plain.capture.interfaces);
    // The hash decides which names are listed if there are too many.
    seeded.dns.xact.inbound.top_slow.clone_from(&plain.dns.xact.inbound.top_slow);
    seeded.dns.xact.outbound.top_slow.clone_from(&plain.dns.xact.outbound.top_slow);
    assert_eq!(seeded, plain);
}

#[test]
fn filter_option_limits_what_is_counted() {
    let traffic = traffic(23, 5_000, START, 10 * SECOND);
    let whole = summarized(&traffic.capture, &["-H", HOSTS]);
    let tcp = summarized(&traffic.capture, &["-H", HOSTS, "-b", "tcp"]);
    assert_eq!((tcp.packets.total, tcp.packets.tcp), (whole.packets.tcp, whole.packets.tcp));
    assert_eq!(tcp.dns.wire_packets.total, whole.dns.wire_packets.tcp);
    assert_eq!(tcp.packets.protocol, whole.packets.protocol);
    let none = summarized(&traffic.capture, &["-H", HOSTS, "-b", "udp port 1"]);
    assert_eq!((none.packets.total, none.packets.top_ports), (0, vec![]));
}

#[test]
fn key_of_the_view_is_the_number_of_periods() {
    let folder = Folder::new();
    let capture = exchanges(&["a.test"; 200], 53, MILLISECOND);
    let file = folder.store("capture.pcap", &capture.pcap());
    for (options, key, packets, length) in [
        (&["--periods", "1"][..], "1m", 40, 19),
        (&["--periods", "3"], "3m", 280, 139),
        (&["--periods", "1440"], "1440m", 400, 199),
        (&["--summary"], "summary", 400, 199),
    ] {
        let done = run(&[options, &["-q", &file]].concat());
        let views: Views = serde_json::from_str(&done.stdout).unwrap();
        let view = &views[key];
        assert_eq!((view.packets.total, view.period.length), (packets, length), "{key}");
    }
}
