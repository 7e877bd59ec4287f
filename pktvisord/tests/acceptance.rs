//! Captures with known answers.
//!
//! The variable `PKTVISOR_CAPTURES` names a folder with captures `NAME.pcap`, each with the answer
//! of an independent reader, `NAME.answer.json`. A folder `geo` beside it has MaxMind's test
//! databases. Without the variable these tests are skipped.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pktvisor_common::api::{MetricsView, TopEntry};
use serde_json::Value;
use support::capture::Folder;
use support::known::{captures, databases};
use support::located::{RUSSIA, located};
use support::program::{Server, run, view};

/// Maximum number of minutes that a replay can keep.
const MOST_PERIODS: u64 = 1440;
/// Entries of a top list.
const ENTRIES: usize = 10;

/// Returns each capture that has an answer.
fn answered(folder: &Path) -> Vec<(String, Value)> {
    let files = fs::read_dir(folder).expect("PKTVISOR_CAPTURES names a folder");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .filter_map(|path| {
            let answer = fs::read_to_string(path.with_extension("answer.json")).ok()?;
            let answer = serde_json::from_str(&answer).expect("an answer in JSON");
            Some((path.to_str().expect("a path in UTF-8").to_owned(), answer))
        })
        .collect()
}

#[test]
fn summary_matches_the_answer() {
    let Some(folder) = captures() else { return };
    let answered = answered(&folder);
    assert!(!answered.is_empty(), "no captures with answers in {}", folder.display());
    let mut wrong = Vec::new();
    for (path, answer) in &answered {
        let hosts = answer["hostspec"].as_str().expect("a HOSTSPEC");
        for workers in ["1", "3"] {
            let done = run(&["-H", hosts, "--summary", "--workers", workers, path]);
            let found = differences(&view(&done), answer);
            wrong.extend(found.iter().map(|wrong| format!("{path}, {workers} workers: {wrong}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn replayed_window_matches_the_answer() {
    let Some(folder) = captures() else { return };
    let mut wrong = Vec::new();
    for (path, answer) in &answered(&folder) {
        let minute = |key: &str| (answer[key].as_f64().expect("a time") / 60.0) as u64;
        let minutes = minute("last_ts") - minute("first_ts") + 1;
        if minutes > MOST_PERIODS {
            continue;
        }
        let hosts = answer["hostspec"].as_str().expect("a HOSTSPEC");
        let server = Server::start(&[
            "-H",
            hosts,
            "--replay=max",
            "--periods",
            &minutes.max(5).to_string(),
            path,
        ]);
        server.wait_for_end();
        let view = server.view(&format!("/api/v1/metrics/window/{minutes}"));
        wrong.extend(differences(&view, answer).iter().map(|wrong| format!("{path}: {wrong}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the differences between a view and an answer.
fn differences(view: &MetricsView, answer: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut equal = |what: &str, ours: u64, theirs: u64| {
        if ours != theirs {
            wrong.push(format!("{what} is {ours}, but should be {theirs}"));
        }
    };
    let (packets, dns) = (&view.packets, &view.dns);
    let count = |part: &str, key: &str| answer[part][key].as_u64().unwrap_or(0);
    let top_level = |key: &str| answer[key].as_u64().expect("a count");

    let non_ip = count("packets", "non_ip");
    for (key, ours, more) in [
        ("total", packets.total, 0),
        ("udp", packets.udp, 0),
        ("tcp", packets.tcp, 0),
        ("other_l4", packets.other_l4, 0),
        ("ipv4", packets.ipv4, 0),
        ("ipv6", packets.ipv6, 0),
        ("non_ip", packets.non_ip, 0),
        ("in", packets.inbound, 0),
        ("out", packets.outbound, 0),
        // The answer's unknown directions leave out packets that are not IP.
        ("unknown", packets.unknown_dir, non_ip),
        ("tcp_syn", packets.protocol.tcp.syn, 0),
    ] {
        equal(&format!("packets.{key}"), ours, count("packets", key) + more);
    }
    let wire = &dns.wire_packets;
    let short = count("dns", "short");
    for (key, ours, more) in [
        ("total", wire.total, short),
        ("queries", wire.queries, 0),
        ("replies", wire.replies, 0),
        ("udp", wire.udp, 0),
        ("tcp", wire.tcp, 0),
        ("ipv4", wire.ipv4, 0),
        ("ipv6", wire.ipv6, 0),
        ("noerror", wire.noerror, 0),
        ("nxdomain", wire.nxdomain, 0),
        ("srvfail", wire.srvfail, 0),
        ("refused", wire.refused, 0),
        ("nodata", wire.nodata, 0),
        ("orphan_replies", dns.xact.counts.orphans, 0),
    ] {
        equal(&format!("dns.{key}"), ours, count("dns", key) + more);
    }
    equal("src_ips_in", packets.cardinality.src_ips_in, top_level("distinct_src_ips_in"));
    equal("dst_ips_out", packets.cardinality.dst_ips_out, top_level("distinct_dst_ips_out"));
    equal("qname", dns.cardinality.qname, top_level("distinct_qname_lower"));
    equal("xact.counts.total", dns.xact.counts.total, top_level("xact_total"));
    // The answer counts a timeout only if a later message of the same key shows it.
    let unanswered = top_level("open_xacts") + count("dns", "timed_out");
    equal("timed out and open", dns.xact.counts.timed_out + dns.xact.open, unanswered);
    let outcomes: u64 = view.capture.outcomes.values().sum();
    equal("the sum of outcomes", outcomes, packets.total);

    // The answer takes the direction from the reply alone. The reply of a transaction between two
    // addresses of HOST is inbound, like all its packets. So the answer counts that transaction as
    // *out*, and the daemon as *in*.
    let total = |key: &str| answer["xact"][key]["total"].as_u64().unwrap_or(0);
    let local = dns.xact.inbound.total.saturating_sub(total("in"));
    let sides = match (local, total("out") - local.min(total("out"))) {
        (0, _) => vec![("in", &dns.xact.inbound), ("out", &dns.xact.outbound)],
        (_, 0) if total("in") == 0 => vec![("out", &dns.xact.inbound)],
        _ => Vec::new(),
    };
    let ours = dns.xact.inbound.total + dns.xact.outbound.total;
    if ours != total("in") + total("out") {
        wrong.push(format!("xact.in and xact.out are {ours} together"));
    }
    for (key, ours) in sides.into_iter().chain([("unknown", &dns.xact.unknown)]) {
        let theirs = &answer["xact"][key];
        let total = theirs["total"].as_u64().unwrap_or(0);
        if ours.total != total {
            wrong.push(format!("xact.{key}.total is {}, but should be {total}", ours.total));
        }
        let quantiles = serde_json::to_value(ours.quantiles_us).expect("JSON");
        for percentile in ["p50", "p90", "p95", "p99"] {
            let pair = (quantiles[percentile].as_u64(), theirs["us"][percentile].as_u64());
            let agrees = match pair {
                (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= (theirs / 100).max(1),
                (ours, theirs) => ours == theirs,
            };
            if !agrees {
                wrong.push(format!("xact.{key} {percentile}: {pair:?}"));
            }
        }
    }
    for (key, ours) in [
        ("top_ipv4", &packets.top_ipv4),
        ("top_ipv6", &packets.top_ipv6),
        ("top_qname2", &dns.top_qname2),
        ("top_qname3", &dns.top_qname3),
        ("top_nxdomain", &dns.top_nxdomain),
        ("top_refused", &dns.top_refused),
        ("top_srvfail", &dns.top_srvfail),
        ("top_qtype", &dns.top_qtype),
        ("top_rcode", &dns.top_rcode),
        ("top_udp_ports", &dns.top_udp_ports),
    ] {
        let theirs: Vec<(String, u64)> =
            serde_json::from_value(answer[key].clone()).expect("names and counts");
        wrong.extend(list_difference(ours, &theirs).map(|wrong| format!("{key}: {wrong}")));
    }
    wrong
}

/// Compares top lists, except for the order of ties and the ties that the end cuts off.
fn list_difference(ours: &[TopEntry], theirs: &[(String, u64)]) -> Option<String> {
    // The reader writes the root as an empty name.
    let theirs: Vec<(&str, u64)> = theirs
        .iter()
        .map(|(name, count)| (if name.is_empty() { "." } else { name }, *count))
        .collect();
    let ours: Vec<(&str, u64)> =
        ours.iter().map(|entry| (entry.name.as_str(), entry.estimate)).collect();
    let cut_at = match theirs.last() {
        Some(&(_, last)) if theirs.len() >= ENTRIES => last,
        _ => 0,
    };
    let counts = |list: &[(&str, u64)]| list.iter().map(|&(_, count)| count).collect::<Vec<_>>();
    let names = |list: &[(&str, u64)]| {
        let above = list.iter().filter(|&&(_, count)| count > cut_at);
        above.map(|&(name, count)| (name.to_owned(), count)).collect::<BTreeSet<_>>()
    };
    let same = counts(&ours) == counts(&theirs) && names(&ours) == names(&theirs);
    (!same).then(|| format!("{ours:?}, but should be {theirs:?}"))
}

fn entries(list: &[TopEntry]) -> Vec<(&str, u64)> {
    list.iter().map(|entry| (entry.name.as_str(), entry.estimate)).collect()
}

#[test]
fn locates_remote_addresses_and_client_subnets() {
    let Some([city, asn]) = databases() else { return };
    let folder = Folder::new();
    let file = folder.store("located.pcap", &located(true).pcap());
    let hosts = "192.0.2.1,2001:db8::1";
    let databases = ["--geo-city", city.as_str(), "--geo-asn", asn.as_str()];
    for workers in ["1", "3"] {
        let args = [&["-H", hosts, "--workers", workers], &databases[..], &[&file]].concat();
        let view = view(&run(&args));
        let places = |factor: u64| {
            [
                ("Unknown", 8 * factor),
                ("NA/United States/WA/Milton", 5 * factor),
                ("EU/Sweden/E/Linköping", 4 * factor),
                ("EU/Russia", 3 * factor),
            ]
        };
        assert_eq!(entries(&view.packets.top_geo_loc), places(2));
        assert_eq!(entries(&view.dns.top_geo_loc_ecs), places(1));
        for (systems, factor) in [(&view.packets.top_asn, 2), (&view.dns.top_asn_ecs, 1)] {
            let systems = entries(systems);
            assert!(systems.contains(&("1221/Telstra Pty Ltd", 2 * factor)), "{systems:?}");
            let unknown = systems.iter().find(|(name, _)| *name == "Unknown");
            assert!(unknown.is_some_and(|&(_, count)| count >= 6 * factor), "{systems:?}");
            assert_eq!(systems.iter().map(|(_, count)| count).sum::<u64>(), 20 * factor);
        }
        let subnets = [
            ("6.6.6.6/32", 6),
            ("216.160.83.56/32", 5),
            ("89.160.20.112/32", 4),
            ("2a02:dac0::/56", 3),
            ("1.128.0.0/32", 2),
        ];
        assert_eq!(entries(&view.dns.top_ecs), subnets);
        assert_eq!(view.dns.wire_packets.ecs, 20);
    }
}

#[test]
fn locates_nothing_without_databases() {
    let folder = Folder::new();
    let file = folder.store("located.pcap", &located(false).pcap());
    let view = view(&run(&["-H", "192.0.2.1,2001:db8::1", &file]));
    assert_eq!(view.packets.top_geo_loc, []);
    assert_eq!(view.packets.top_asn, []);
    assert_eq!(view.dns.top_ecs, []);
    assert_eq!(entries(&view.packets.top_ipv6), [(RUSSIA, 6)]);
}
