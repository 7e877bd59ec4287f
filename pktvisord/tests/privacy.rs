//! With masks and hashed names, no summary, answer or log contains a true address or name.

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;

use pktvisor_common::summary::mask::Mask;
use pktvisor_common::summary::state;
use pktvisord::aggregate::anonymize::{Anonymizer, NameKey};
use support::capture::{Folder, SECOND, START};
use support::located::located;
use support::program::{Server, run, view};
use support::traffic::{HOSTS, traffic};

/// Returns texts that no output may contain: names, their last labels, addresses.
fn secrets(names: &BTreeSet<String>, addresses: &BTreeSet<IpAddr>) -> BTreeSet<String> {
    let labels = |name: &String, count| {
        let labels: Vec<&str> = name.split('.').collect();
        labels[labels.len().saturating_sub(count)..].join(".")
    };
    // Skip names of one label: some of these words occur in the output anyway.
    let names = names.iter().filter(|name| name.contains('.'));
    let names = names.flat_map(|name| [name.clone(), labels(name, 2), labels(name, 3)]);
    let masked = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets()[3] == 0,
        IpAddr::V6(v6) => v6.octets()[6..] == [0; 10],
    };
    let addresses = addresses.iter().filter(|address| !masked(address));
    names.chain(addresses.map(IpAddr::to_string)).collect()
}

#[track_caller]
fn hides(text: &str, secrets: &BTreeSet<String>, what: &str) {
    let boundary =
        |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != ':' && c != '.');
    for secret in secrets {
        for (at, _) in text.match_indices(secret.as_str()) {
            let before = text[..at].chars().next_back();
            let after = text[at + secret.len()..].chars().next();
            assert!(!(boundary(before) && boundary(after)), "{secret} in {what}");
        }
    }
}

#[test]
fn hides_all_true_names_and_addresses() {
    let folder = Folder::new();
    let mut traffic = traffic(9, 20_000, START, 90 * SECOND);
    // Client subnets too.
    traffic.capture.packets.extend(located(true).packets);
    traffic.capture.sort();
    let file = folder.store("a.pcap", &traffic.capture.pcap());
    let key = folder.store("key", b"0123456789abcdef0123456789abcdef");
    let mut secrets = secrets(&traffic.truth.names, &traffic.truth.addresses);
    secrets.extend(["216.160.83.56", "89.160.20.112", "example.com"].map(str::to_owned));
    assert!(secrets.len() > 100, "{}", secrets.len());
    let open = ["-H", HOSTS, &file];
    let hidden = [&["--mask-ip", "24/48", "--hash-names", &key], &open[..]].concat();
    let plain = run(&open);
    let found = secrets.iter().filter(|secret| plain.stdout.contains(secret.as_str())).count();
    assert!(found > 20, "without hiding there are {found}");

    let done = run(&hidden);
    hides(&done.stdout, &secrets, "the JSON");
    hides(&done.stderr, &secrets, "the log");
    let text = run(&[&hidden[..], &["--format", "text"]].concat());
    hides(&text.stdout, &secrets, "the report");
    // Counts that do not depend on names and addresses are equal.
    let (hidden_view, plain_view) = (view(&done), view(&plain));
    assert_eq!(hidden_view.packets.total, plain_view.packets.total);
    assert_eq!(hidden_view.packets.inbound, plain_view.packets.inbound);
    assert_eq!(hidden_view.dns.wire_packets, plain_view.dns.wire_packets);
    assert_eq!(hidden_view.dns.xact.counts, plain_view.dns.xact.counts);
    assert_eq!(hidden_view.dns.cardinality, plain_view.dns.cardinality, "as many names");
    let counts = |list: &[pktvisor_common::api::TopEntry]| -> Vec<u64> {
        list.iter().map(|entry| entry.estimate).collect()
    };
    assert_eq!(counts(&hidden_view.dns.top_qname2), counts(&plain_view.dns.top_qname2));
    assert!(hidden_view.packets.cardinality.ips < plain_view.packets.cardinality.ips);

    let server = Server::start(&[&["-vv", "--replay=max"], &hidden[..]].concat());
    server.wait_for_end();
    for path in
        ["/metrics", "/api/v1/metrics/window/1", "/api/v1/metrics/bucket/1", "/api/v1/metrics/app"]
    {
        let (status, body) = server.get(path);
        assert_eq!(status, 200, "{path}");
        hides(&String::from_utf8(body).unwrap(), &secrets, path);
    }
    let (_, bytes) = server.get("/api/v1/state/bucket/1");
    hides(&String::from_utf8_lossy(&bytes), &secrets, "the byte form");
    // The state names its terms: it merges only with states of the same mask and key.
    let terms = state::terms(&bytes).expect("a state");
    let key = NameKey::read(key.as_ref()).expect("a key");
    assert_eq!(terms.mask, Some("24/48".parse::<Mask>().expect("a mask")));
    assert_eq!(terms.names, Some(key.fingerprint()));
    // The holder of the key can look up a name.
    let anonymizer = Anonymizer { names: Some(key), ..Anonymizer::default() };
    let of = |name: &str| {
        let labels = name.split('.').map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        anonymizer.text(&labels.collect::<Vec<_>>().concat()).to_string()
    };
    let names = |list: &[pktvisor_common::api::TopEntry],
                 of: &dyn Fn(&str) -> String|
     -> BTreeSet<String> { list.iter().map(|entry| of(&entry.name)).collect() };
    let exact = |entry: &&pktvisor_common::api::TopEntry| entry.error.is_none();
    assert!(hidden_view.dns.top_nxdomain.iter().all(|entry| exact(&entry)));
    assert_eq!(
        names(&hidden_view.dns.top_nxdomain, &str::to_owned).len(),
        names(&plain_view.dns.top_nxdomain, &of).len()
    );
    let most = of(&plain_view.dns.top_nxdomain[0].name);
    assert!(hidden_view.dns.top_nxdomain.iter().any(|entry| entry.name == most), "{most}");
    let (code, log) = server.stop("TERM", support::program::PATIENCE);
    assert_eq!(code, Some(0));
    hides(&log, &secrets, "the log of a server");
}

#[test]
fn rejects_weak_name_keys_and_bad_masks() {
    let folder = Folder::new();
    for guessable in [&b"hunter2"[..], &[0; 32], b"hunter2hunter2hunter2"] {
        let file = folder.store("guessable", guessable);
        let done = run(&["--hash-names", &file, "--check-config"]);
        let is_refused = guessable.len() < 16 || guessable == [0; 32];
        assert_eq!(done.code, Some(if is_refused { 3 } else { 0 }), "{}", done.stderr);
        let said = done.stderr.contains("at least 16 bytes");
        assert_eq!(said, is_refused, "{}", done.stderr);
        assert!(!done.stderr.contains("hunter2"));
    }
    let done = run(&["--mask-ip", "24", "--check-config"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("such as 24/48"), "{}", done.stderr);
}
