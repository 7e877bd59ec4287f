//! The same traffic gives the same summary for any number of workers and any file format.

mod support;

use std::io::Write;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use pktvisor_common::api::{MetricsView, TopEntry};
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::state::{Terms, decode};
use pktvisord::aggregate::settings::DEFAULT_DNS_PORTS;
use support::capture::{Folder, SECOND, START};
use support::program::{Server, run, run_with_input, view};
use support::random::Random;
use support::traffic::{Counts, HOSTS, Traffic, Truth, minutes, traffic};

/// Number of minutes that the traffic spans.
const MINUTES: &str = "5";
/// Maximum error of a cardinality above 8,192, in percent: four standard errors of 0.81 %, rounded
/// up.
const CARDINALITY_ERROR: u64 = 4;

fn shared() -> &'static Traffic {
    static TRAFFIC: OnceLock<Traffic> = OnceLock::new();
    TRAFFIC.get_or_init(minutes)
}

/// Returns the top lists that are estimates, each with the true counts.
fn estimated<'a>(
    view: &'a mut MetricsView,
    truth: &'a Truth,
) -> Vec<(&'static str, &'a mut Vec<TopEntry>, &'a Counts)> {
    let (packets, dns) = (&mut view.packets, &mut view.dns);
    vec![
        ("top_ipv4", &mut packets.top_ipv4, &truth.ipv4),
        ("top_ipv6", &mut packets.top_ipv6, &truth.ipv6),
        ("top_ips_bytes", &mut packets.top_ips_bytes, &truth.address_bytes),
        ("top_qname2", &mut dns.top_qname2, &truth.qname2),
        ("top_qname3", &mut dns.top_qname3, &truth.qname3),
        ("top_noerror", &mut dns.top_noerror, &truth.noerror),
        ("top_nodata", &mut dns.top_nodata, &truth.nodata),
        ("top_nxdomain", &mut dns.top_nxdomain, &truth.nxdomain),
        ("top_refused", &mut dns.top_refused, &truth.refused),
        ("top_srvfail", &mut dns.top_srvfail, &truth.srvfail),
        ("top_qname_by_resp_bytes", &mut dns.top_qname_by_resp_bytes, &truth.reply_bytes),
    ]
}

/// Checks the estimates of a view against the truth and removes them. The rest must be equal for
/// any number of workers.
fn exact(mut view: MetricsView, truth: &Truth) -> MetricsView {
    for (list, entries, counts) in estimated(&mut view, truth) {
        let entries = std::mem::take(entries);
        let bound = |entry: &TopEntry| entry.error.unwrap_or(0);
        for entry in &entries {
            let count = counts.get(&entry.name).copied().unwrap_or(0);
            assert!(
                (entry.estimate - bound(entry)..=entry.estimate).contains(&count),
                "{list}: {entry:?}, but {count} is true"
            );
        }
        assert_eq!(entries.len(), 10, "{list}");
        assert!(entries.is_sorted_by_key(|entry| std::cmp::Reverse(entry.estimate)), "{list}");
        let error = entries.iter().map(bound).max().unwrap_or(0);
        let least = entries.last().expect("ten entries").estimate.max(error);
        let listed = |name: &String| entries.iter().any(|entry| entry.name == *name);
        let missing = counts.iter().find(|&(name, &count)| count > least && !listed(name));
        assert_eq!(missing, None, "{list}: {entries:?}");
    }
    view
}

fn assert_close(what: &str, estimate: u64, count: usize) {
    let count = count as u64;
    let most = count * CARDINALITY_ERROR / 100;
    assert!(estimate.abs_diff(count) <= most, "{what}: {estimate}, but {count} are true");
}

#[test]
fn any_number_of_workers_gives_the_same_summary() {
    let Traffic { capture, truth, .. } = shared();
    let folder = Folder::new();
    let file = folder.store("traffic.pcap", &capture.pcap());
    let of = |workers: &str, args: &[&str]| {
        let args = [&["-H", HOSTS, "--workers", workers], args, &[&file]].concat();
        let done = run(&args);
        assert_eq!(done.stderr, "", "{args:?}");
        view(&done)
    };
    for args in [&[][..], &["--summary"]] {
        let alone = exact(of("1", args), truth);
        check(&alone, truth);
        for workers in ["2", "3", "4"] {
            assert_eq!(exact(of(workers, args), truth), alone, "{args:?}, {workers} workers");
        }
    }
    let sampled = |workers: &str| {
        let mut view = of(workers, &["--max-deep-sample", "30"]);
        for (_, entries, _) in estimated(&mut view, truth) {
            entries.clear();
        }
        view
    };
    let alone = sampled("1");
    assert_eq!(alone.packets.total, truth.packets, "exact at any sampling rate");
    assert!(alone.packets.deep_samples.abs_diff(truth.packets * 3 / 10) < truth.packets / 100);
    for workers in ["2", "3", "4"] {
        assert_eq!(sampled(workers), alone, "sampled, {workers} workers");
    }
}

#[test]
fn any_number_of_workers_gives_the_same_summary_of_damaged_packets() {
    let folder = Folder::new();
    for seed in 1..=3 {
        let mut capture = traffic(seed, 20_000, START, 70 * SECOND).capture;
        let mut random = Random::new(seed);
        for (time, frame) in &mut capture.packets {
            if random.percent(30) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] = random.next() as u8;
            }
            if random.percent(10) {
                frame.truncate(random.below(frame.len() as u64 + 1) as usize);
            }
            if random.percent(5) {
                // Forwards too: a packet can be a whole minute early.
                *time += random.below(40) as i64 * SECOND - 20 * SECOND;
            }
        }
        let file = folder.store("damaged.pcap", &capture.pcap());
        let of = |workers: &str| {
            let done = run(&["-H", HOSTS, "--workers", workers, &file]);
            assert_eq!(done.stderr, "");
            view(&done)
        };
        let alone = of("1");
        assert!(alone.packets.malformed > 500 && alone.dns.wire_packets.malformed > 50);
        assert!(alone.capture.late_packets > 500 && alone.dns.xact.counts.orphans > 0);
        assert_eq!(alone.packets.total, capture.packets.len() as u64);
        assert_eq!(alone.capture.outcomes.values().sum::<u64>(), alone.packets.total);
        let without_estimates = |mut view: MetricsView| {
            for (_, entries, _) in estimated(&mut view, &Truth::default()) {
                entries.retain(|entry| entry.error.is_none());
            }
            view
        };
        let alone = without_estimates(alone);
        for workers in ["2", "3", "4"] {
            let shared = without_estimates(of(workers));
            assert_eq!(shared, alone, "seed {seed}, {workers} workers");
        }
    }
}

/// Checks that counters and cardinalities match the generated traffic.
fn check(view: &MetricsView, truth: &Truth) {
    let (packets, wire, xact) = (&view.packets, &view.dns.wire_packets, &view.dns.xact);
    assert!(truth.names.len() > 8_192 && truth.addresses.len() > 8_192);
    assert_eq!(packets.total, truth.packets);
    assert_eq!(packets.bytes.total, truth.bytes);
    assert_eq!(packets.fragments, truth.fragments);
    assert_eq!(packets.malformed, 0);
    assert_eq!((wire.queries, wire.replies), (truth.queries, truth.replies));
    assert_eq!(wire.total, truth.queries + truth.replies);
    assert_eq!(wire.tcp, truth.dns_tcp);
    assert_eq!(xact.counts.total + xact.counts.orphans, truth.replies);
    assert!(xact.counts.timed_out > 1_000 && xact.open > 0, "{:?} {}", xact.counts, xact.open);
    assert_eq!(view.capture.outcomes.values().sum::<u64>(), truth.packets);
    assert!(view.capture.late_packets > 0, "some come out of order");
    assert_eq!(view.capture.evictions, [].into(), "nothing was too much");
    assert_close("qname", view.dns.cardinality.qname, truth.names.len());
    assert_close("ips", packets.cardinality.ips, truth.addresses.len());
    assert!(packets.cardinality.error_pct > 0.0);
}

#[test]
fn any_file_format_gives_the_same_summary() {
    let Traffic { capture, truth, .. } = shared();
    let folder = Folder::new();
    let pcap = capture.pcap();
    let stored = folder.store("traffic.pcap", &pcap);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&pcap).unwrap();
    let gzip = folder.store("traffic.pcap.gz", &gzip.finish().unwrap());
    let zstd = folder.store("traffic.pcap.zst", &zstd::encode_all(&pcap[..], 1).unwrap());
    let pcapng = folder.store("traffic.pcapng", &capture.pcapng());
    let summary = |target: &str, input: &[u8]| {
        let done = run_with_input(&["-H", HOSTS, "--workers", "1", target], input);
        // Lists beyond their exact bound depend on keys of the process, within their error.
        let mut view = exact(view(&done), truth);
        view.capture.interfaces = Vec::new();
        serde_json::to_string(&view).unwrap()
    };
    let plain = summary(&stored, b"");
    assert!(plain == summary("-", &pcap), "standard input");
    for other in [gzip, zstd, pcapng] {
        assert!(plain == summary(&other, b""), "{other}");
    }
}

#[test]
fn states_of_buckets_merge_to_the_window() {
    let Traffic { capture, truth, .. } = shared();
    let folder = Folder::new();
    let file = folder.store("traffic.pcap", &capture.pcap());
    let server = Server::start(&["-H", HOSTS, "--workers", "2", "--replay=max", &file]);
    server.wait_for_end();
    let mut ports = DEFAULT_DNS_PORTS.to_vec();
    ports.sort_unstable();
    let terms = Terms { ports, public_suffix: false, mask: None, names: None };
    let states = (0..5).map(|n| {
        let (status, bytes) = server.get(&format!("/api/v1/state/bucket/{n}"));
        assert_eq!(status, 200);
        decode(&bytes, &terms).expect("a state").summary
    });
    let merged = states
        .reduce(|mut all: Summary, part| {
            all.merge(&part);
            all
        })
        .expect("states");
    let window = server.view(&format!("/api/v1/metrics/window/{MINUTES}"));
    let mut merged = merged.view();
    merged.capture.source.clone_from(&window.capture.source);
    merged.capture.interfaces.clone_from(&window.capture.interfaces);
    assert_eq!(exact(merged, truth), exact(window.clone(), truth));
    // A replay gives the same summary as a file.
    let summary = view(&run(&["-H", HOSTS, "--workers", "2", &file]));
    assert_eq!(exact(window, truth), exact(summary, truth));
}
