//! Fleet keys: how they are made, which states merge, and that no key leaks.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use pktvisor_common::api::{
    self, AppMetrics, DnsCardinality, MetricsView, PacketCardinality, TopEntry,
};
use pktvisor_common::summary::across::AcrossKeys;
use pktvisor_common::summary::state::{decode, terms};
use support::capture::{Capture, Folder, SECOND, START};
use support::program::{PATIENCE, Server, pktvisord, run, view};
use support::traffic::{HOSTS, traffic};

/// Makes a fleet key with the program and returns its path.
fn new_key(folder: &Folder, name: &str) -> String {
    let path = folder.file(name);
    let made = pktvisord(&["fleet-key", "--new", &path]).output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    path
}

#[test]
fn makes_private_keys_and_never_overwrites_one() {
    let folder = Folder::new();
    let path = new_key(&folder, "key");
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let again = run(&["fleet-key", "--new", &path]);
    assert_eq!(again.code, Some(4), "{}", again.stderr);
    assert!(again.stderr.contains(&path) && again.stderr.contains("exists"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), key);

    let printed = run(&["fleet-key", "--new"]);
    assert_eq!((printed.code, printed.stdout.len(), key.len()), (Some(0), 33, 33));
    assert_ne!(printed.stdout, key);
    let without = run(&["fleet-key"]);
    assert_eq!(without.code, Some(2));
    assert!(without.stderr.contains("--new"), "{}", without.stderr);

    let weak = folder.store("weak", &[0; 16]);
    let refused = run(&["--fleet-key", &weak, "--check-config"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("guessed"), "{}", refused.stderr);
    assert!(refused.stderr.contains("fleet-key --new"), "{}", refused.stderr);
}

#[test]
fn warns_about_world_readable_secrets() {
    let folder = Folder::new();
    let key = new_key(&folder, "key");
    let tokens = folder.store("tokens", b"0123456789abcdef\n");
    let checked = || {
        let done = run(&["--fleet-key", &key, "--token-file", &tokens, "--check-config"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stderr
    };
    let set = |path: &str, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set(&tokens, 0o640).unwrap();
    assert_eq!(checked(), "");
    set(&tokens, 0o644).unwrap();
    set(&key, 0o604).unwrap();
    let log = checked();
    assert!(log.contains(&key) && log.contains(&tokens), "{log}");
}

/// The output of a daemon with some options about a capture.
struct Told {
    view: MetricsView,
    state: Vec<u8>,
    app: AppMetrics,
}

fn told(file: &str, options: &[&str]) -> Told {
    let fixed = ["--summary", "-H", HOSTS, "--replay=max", file];
    let server = Server::start(&[options, &fixed[..]].concat());
    server.wait_for_end();
    let told = Told {
        view: server.view("/api/v1/metrics/bucket/0"),
        state: server.get("/api/v1/state/bucket/0").1,
        app: server.json("/api/v1/metrics/app"),
    };
    let (code, log) = server.stop("TERM", PATIENCE);
    assert_eq!(code, Some(0), "{log}");
    told
}

/// Returns both captures in one.
fn together(one: &Capture, other: &Capture) -> Capture {
    let mut both = Capture { packets: [&one.packets[..], &other.packets[..]].concat() };
    both.sort();
    both
}

/// Returns names and estimates of a list, which must be exact.
fn listed(list: &[TopEntry]) -> Vec<(&str, u64)> {
    assert!(list.iter().all(|entry| entry.error.is_none()), "{list:?}");
    list.iter().map(|entry| (entry.name.as_str(), entry.estimate)).collect()
}

/// Returns the part of a view that does not depend on the key.
fn without_distinct(mut view: MetricsView) -> MetricsView {
    view.packets.cardinality = PacketCardinality::default();
    view.dns.cardinality = DnsCardinality::default();
    // Transactions that span both captures are not the subject of this test.
    view.dns.xact = api::Xact::default();
    view.capture = api::Capture::default();
    view
}

#[test]
fn one_key_merges_exactly_and_two_keys_give_intervals() {
    let folder = Folder::new();
    let [one, other] = [3, 4].map(|seed| traffic(seed, 3_000, START, 50 * SECOND).capture);
    let both = folder.store("both.pcap", &together(&one, &other).pcap());
    let files = [("one.pcap", one), ("other.pcap", other)]
        .map(|(name, capture)| folder.store(name, &capture.pcap()));
    let key = new_key(&folder, "key");
    let another = new_key(&folder, "another");
    let (key, another) = (["--fleet-key", &key], ["--fleet-key", &another]);
    let truth = view(&run(&["--summary", "-H", HOSTS, &both]));
    assert!(truth.dns.cardinality.qname > 100 && truth.dns.top_qname2.len() > 3);

    let merged = |told: &[Told]| {
        let mut sums = AcrossKeys::default();
        for Told { state, .. } in told {
            let decoded = decode(state, &terms(state).unwrap()).unwrap();
            sums.add(decoded.keyed, &decoded.summary);
        }
        (sums.keys(), sums.view().unwrap())
    };
    let same = [told(&files[0], &key), told(&files[1], &key)];
    let (keys, view) = merged(&same);
    assert_eq!(keys, 1);
    assert_eq!(view.packets.cardinality, truth.packets.cardinality);
    assert_eq!(view.dns.cardinality, truth.dns.cardinality);

    let different = [told(&files[0], &key), told(&files[1], &another)];
    let (keys, view) = merged(&different);
    assert_eq!(keys, 2);
    let [a, b] = different.each_ref().map(|told| told.view.dns.cardinality.qname);
    let names = &view.dns.cardinality;
    assert_eq!((names.qname, names.qname_max), (a.max(b), Some(a + b)));
    assert!((names.qname..=a + b).contains(&truth.dns.cardinality.qname));
    let [a, b] = different.each_ref().map(|told| told.view.packets.cardinality.ips);
    let addresses = &view.packets.cardinality;
    assert_eq!((addresses.ips, addresses.ips_max), (a.max(b), Some(a + b)));
    assert_eq!(listed(&view.dns.top_qname2), listed(&truth.dns.top_qname2));
    assert_eq!(listed(&view.packets.top_ipv4), listed(&truth.packets.top_ipv4));
    let of_same = without_distinct(merged(&same).1);
    assert_eq!(without_distinct(view), of_same, "all else adds up alike");

    let prints: BTreeSet<String> = same
        .iter()
        .chain(&different)
        .map(|told| told.app.app.fleet_key.clone().expect("a key"))
        .inspect(|key| assert!(!key.public))
        .map(|key| key.fingerprint)
        .collect();
    assert_eq!(prints.len(), 2);
    assert!(told(&files[0], &[]).app.app.fleet_key.expect("a key").public);
}

#[test]
fn key_never_leaks() {
    let folder = Folder::new();
    let path = new_key(&folder, "key");
    let digits = fs::read_to_string(&path).unwrap().trim().to_owned();
    let bytes = u128::from_str_radix(&digits, 16).unwrap().to_be_bytes();
    let file = folder.store("a.pcap", &traffic(5, 500, START, 50 * SECOND).capture.pcap());
    let server = Server::start(&["-vv", "--fleet-key", &path, "-H", HOSTS, "--replay=max", &file]);
    server.wait_for_end();
    let mut out = vec![server.get("/api/v1/state/bucket/0").1];
    for path in ["/api/v1/metrics/app", "/api/v1/metrics/bucket/0", "/metrics"] {
        out.push(server.get(path).1);
    }
    out.push(server.stop("TERM", PATIENCE).1.into_bytes());
    out.push(run(&["--fleet-key", &path, "--print-config", &file]).stdout.into_bytes());
    for text in out {
        assert!(!text.is_empty());
        for half in bytes.chunks(8) {
            assert!(!text.windows(8).any(|window| window == half));
            let backward: Vec<u8> = half.iter().rev().copied().collect();
            assert!(!text.windows(8).any(|window| window == backward));
        }
        let text = String::from_utf8_lossy(&text).to_lowercase();
        assert!(!text.contains(&digits[..16]) && !text.contains(&digits[16..]));
    }
}
