//! Live capture with a real DNS server and real clients on another host: a network namespace at the
//! other end of a veth pair.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use pktvisor_common::api::{self, AppMetrics, MetricsView};
use support::net::{DNS_PORT, DnsServer, Pair, Statistics, queries, sh};
use support::program::{PATIENCE, Server};
use support::{has_rights, shapes, skipped, tc};
use tempfile::TempDir;

/// The modes of programs in the kernel that this one knows.
fn modes() -> Vec<&'static str> {
    let mut modes = vec!["xdp", tc(), "clsact"];
    modes.dedup();
    modes
}

/// What a mode calls its hooks, for packets that come and that go.
fn hooks(mode: &str) -> (Option<&str>, Option<&str>) {
    match mode {
        "xdp" => (Some("xdp"), Some(tc())),
        "libpcap" => (None, None),
        mode => (Some(mode), Some(mode)),
    }
}

/// How long until all that was sent is counted and answers from before are forgotten.
const SETTLED: Duration = Duration::from_millis(2_300);

fn can_run() -> bool {
    let can = has_rights();
    if !can {
        skipped("only root makes interfaces and watches them");
    }
    can
}

/// A daemon that watches an interface, and what the interface had counted at its start.
struct Watch {
    server: Server,
    before: Statistics,
}

impl Watch {
    fn start(pair: &Pair, args: &[&str]) -> Self {
        let args = [
            &["--summary", "--adaptive", "off", "--dns-port", DNS_PORT],
            args,
            &[pair.interface.as_str()],
        ]
        .concat();
        let started = Instant::now();
        loop {
            let before = pair.statistics();
            let server = Server::start(&args);
            // A host says something of its own accord now and then.
            if pair.statistics() == before {
                return Self { server, before };
            }
            assert!(started.elapsed() < PATIENCE, "the interface is never quiet");
        }
    }

    /// What was counted, and what the interface has counted meanwhile.
    fn settled(&self, pair: &Pair) -> (MetricsView, Statistics) {
        let started = Instant::now();
        loop {
            let before = pair.statistics();
            std::thread::sleep(SETTLED);
            let view = self.server.view("/api/v1/metrics/bucket/0");
            let after = pair.statistics();
            if after == before {
                let since = after.since(&self.before);
                return (view, since);
            }
            assert!(started.elapsed() < PATIENCE, "the interface is never quiet");
        }
    }
}

/// Queries completed, as dnsperf says.
fn dnsperf(pair: &Pair, server: &str, args: &str) -> u64 {
    let folder = TempDir::new().unwrap();
    let file = queries(folder.path(), 500);
    let report = pair.run_there(&format!("dnsperf -s {server} -p {DNS_PORT} -d {file} {args}"));
    let line = report.lines().find(|line| line.contains("Queries completed:")).expect(&report);
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// With XDP the driver of a veth pair counts what it receives without the Ethernet header.
fn ethernet_headers(mode: &str, since: &Statistics) -> u64 {
    if mode == "xdp" { 14 * since.rx_packets } else { 0 }
}

/// Sends so many octets to this host in one TCP stream.
fn stream(pair: &Pair, octets: u64) {
    let listener = std::net::TcpListener::bind((pair.v4.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sink = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let send = format!("head -c {octets} /dev/zero > /dev/tcp/{}/{port}", pair.v4);
    let mut client = Command::new("ip");
    client.args(["netns", "exec", &pair.namespace, "bash", "-c", &send]);
    assert!(client.status().unwrap().success());
    assert_eq!(sink.join().unwrap(), octets);
}

#[track_caller]
fn outcomes_sum_up(view: &MetricsView) {
    let sum: u64 = view.capture.outcomes.values().sum();
    assert_eq!(sum, view.packets.total, "{:?}", view.capture);
}

#[test]
fn totals_are_those_of_the_interface_to_the_packet() {
    if !can_run() {
        return;
    }
    for mode in [modes(), vec!["libpcap"]].concat() {
        let pair = Pair::new(false, 1500);
        let _dns = DnsServer::start(&pair);
        let watch = Watch::start(&pair, &["--capture", mode]);
        let app: AppMetrics = watch.server.json("/api/v1/metrics/app");
        let source = if mode == "libpcap" { "libpcap" } else { "ebpf" };
        assert_eq!(app.app.capture.source, source);
        let watched = &app.app.capture.watched[0];
        assert_eq!((watched.ingress.as_deref(), watched.egress.as_deref()), hooks(mode));

        let udp = dnsperf(&pair, &pair.v4, "-n 3 -c 4") + dnsperf(&pair, &pair.v6, "-n 2");
        let tcp = dnsperf(&pair, &pair.v4, "-n 1 -m tcp -q 10 -c 2");
        stream(&pair, 5_000_000);
        pair.run_there(&format!("ping -c 3 -i 0.2 {}", pair.v4));
        pair.run_there(&format!(
            "kdig -p {DNS_PORT} @{} large.example.org TXT +bufsize=4096",
            pair.v6
        ));
        let (view, since) = watch.settled(&pair);
        let packets = &view.packets;
        assert_eq!(packets.total, since.packets(), "{mode}");
        assert_eq!(
            (packets.inbound + packets.unknown_dir >= since.rx_packets, packets.malformed),
            (true, 0)
        );
        assert_eq!(packets.bytes.total, since.bytes() + ethernet_headers(mode, &since), "{mode}");
        assert!(packets.icmp >= 6, "{mode}: {}", packets.icmp);
        outcomes_sum_up(&view);
        assert_eq!(view.capture.ring_full + view.capture.kernel_drops, 0);

        let wire = &view.dns.wire_packets;
        assert_eq!(wire.queries, udp + tcp + 1, "{mode}: {:?} {wire:?}", view.capture);
        assert_eq!(wire.replies, wire.queries, "{mode}: {:?}", view.capture);
        assert_eq!(wire.tcp, 2 * tcp, "{mode}");
        assert_eq!(wire.malformed, 0);
        assert_eq!(view.dns.xact.counts.total, wire.queries, "{mode}: {:?}", view.dns.xact.counts);
        assert_eq!(view.dns.cardinality.qname, 501, "{mode}");
        let large = view.dns.top_noerror.iter().any(|entry| entry.name == "large.example.org");
        assert!(large || view.dns.top_noerror.len() == 10);
    }
}

/// What a view says that does not depend on when packets came.
fn counts(mut view: MetricsView) -> MetricsView {
    view.packets.rates = api::PacketRates::default();
    view.dns.rates = api::DnsRates::default();
    view.dns.xact.inbound = api::XactDirection::default();
    view.dns.xact.outbound = api::XactDirection::default();
    view.dns.xact.unknown = api::XactDirection::default();
    view.period = api::Period::default();
    (view.capture.source, view.capture.interfaces) = (String::new(), Vec::new());
    view.capture.lag_ms = 0;
    view.capture.late_packets = 0;
    view
}

#[test]
fn live_and_from_a_file_are_the_same() {
    if !can_run() {
        return;
    }
    // Every shape, cut at every length, with VLAN tags that are not taken off on the way.
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for frame in shapes::frames() {
        let is_tag = |at: usize| matches!(frame[at..at + 2], [0x81, 0x00] | [0x88, 0xa8]);
        // Of three tags the outer one is taken off before TC, which leaves as many as are read.
        if [12, 16, 20].into_iter().all(is_tag) {
            continue;
        }
        // The kernel itself drops what ends within or right behind its outer tag, before TC.
        let least = if is_tag(12) { 20 } else { 14 };
        let cuts = (least..frame.len().min(100)).chain([frame.len()]);
        sent.extend(cuts.map(|cut| frame[..cut].to_vec()));
    }
    let mut capture = support::capture::Capture::default();
    for (at, frame) in sent.iter().enumerate() {
        let time = support::capture::START + at as i64 * support::capture::MICROSECOND;
        capture.push(time, frame.clone());
    }
    let folder = support::capture::Folder::new();
    let file = folder.store("shapes.pcap", &capture.pcap());
    for mode in modes() {
        let pair = Pair::new(true, 9000);
        // Without addresses of its own, so that it says nothing of its own accord.
        pair.forget_addresses();
        let hosts = "192.0.2.0/24,2001:db8::/64";
        let args = ["--dns-port", "53", "--dns-timeout", "60", "-H", hosts];
        let watch = Watch::start(&pair, &[&["--capture", mode][..], &args].concat());
        pair.send(&sent);
        let (live, since) = watch.settled(&pair);
        assert_eq!(since.rx_packets, sent.len() as u64);
        let arguments = [&["--summary", "--dns-port", DNS_PORT][..], &args, &[&file]].concat();
        let of_file = support::program::run(&arguments);
        let of_file = support::program::view(&of_file);
        assert_eq!(live.packets.total, sent.len() as u64);
        assert_eq!(counts(live), counts(of_file), "{mode}");
    }
}

#[test]
fn a_filter_is_run_by_libpcap() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(true, 1500);
    let _dns = DnsServer::start(&pair);
    let watch = Watch::start(&pair, &["-b", "udp port 5300 and ip6"]);
    let app: AppMetrics = watch.server.json("/api/v1/metrics/app");
    assert_eq!(app.app.capture.source, "libpcap");
    let why = app.app.capture.fallback.unwrap();
    assert!(why.contains("a filter (-b) is run by libpcap"), "{why}");
    dnsperf(&pair, &pair.v4, "-n 1");
    let queries = dnsperf(&pair, &pair.v6, "-n 1");
    let (view, _) = watch.settled(&pair);
    assert_eq!(view.packets.total, 2 * queries);
    assert_eq!(view.dns.wire_packets.ipv6, 2 * queries);
}

#[test]
fn a_daemon_that_is_killed_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(true, 1500);
    let name = &pair.interface;
    for mode in modes() {
        let mut watch = Watch::start(&pair, &["--capture", mode]);
        let attached = || {
            let link = sh(&format!("ip link show {name}"));
            let filters =
                sh(&format!("tc filter show dev {name} ingress; tc filter show dev {name} egress"));
            let tcx = SchedClassifier::query_tcx(name, TcAttachType::Egress);
            let tcx = tcx.is_ok_and(|(_, programs)| !programs.is_empty());
            (link.contains("prog/xdp"), filters.contains("pktvisor_"), tcx)
        };
        let clsact = hooks(mode).1 == Some("clsact");
        assert_eq!(attached(), (mode == "xdp", clsact, !clsact), "{mode}");
        watch.server.child.kill().unwrap();
        watch.server.child.wait().unwrap();
        // Links go with the process, a moment later; filters of clsact stay until the next start.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(attached(), (false, clsact, false), "{mode}");
        if clsact {
            let next = Watch::start(&pair, &["--capture", mode]);
            let filters = sh(&format!("tc filter show dev {name} egress"));
            assert_eq!(filters.matches("direct-action").count(), 1, "{filters}");
            let (code, _) = next.server.stop("TERM", Duration::from_secs(5));
            assert_eq!(code, Some(0));
            assert_eq!(attached(), (false, false, false));
        }
    }
}

#[test]
fn what_a_stopped_reader_misses_is_accounted_for() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let watch = Watch::start(&pair, &["--ring-size", "1", "--workers", "1"]);
    let process = watch.server.child.id();
    sh(&format!("kill -STOP {process}"));
    let completed = dnsperf(&pair, &pair.v4, "-l 5");
    sh(&format!("kill -CONT {process}"));
    let (view, since) = watch.settled(&pair);
    assert!(completed > 10_000, "{completed} is no load");
    assert_eq!(view.packets.total, since.packets());
    outcomes_sum_up(&view);
    assert!(view.capture.ring_full > 0, "{:?}", view.capture);
    let lost = &view.capture.evictions;
    let all_lost: u64 =
        lost.iter().filter(|(r, _)| r.starts_with("ring_full_")).map(|(_, n)| n).sum();
    assert_eq!(all_lost, view.capture.ring_full);
    let read = view.dns.wire_packets.total;
    assert_eq!(read + lost["ring_full_dns"], 2 * completed, "what was sent is read or lost");
}

#[test]
fn sampling_adapts_to_what_user_space_keeps_up_with() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let name = pair.interface.as_str();
    let server = Server::start(&[
        "--summary",
        "--dns-port",
        DNS_PORT,
        "--ring-size",
        "1",
        "--workers",
        "1",
        name,
    ]);
    let rates = || server.json::<AppMetrics>("/api/v1/metrics/app").app.capture.sampling;
    assert_eq!(rates(), api::SamplingRates { dns_pct: 100.0, rest_pct: 100.0 });
    let process = server.child.id();
    sh(&format!("kill -STOP {process}"));
    let lost = dnsperf(&pair, &pair.v4, "-l 2");
    sh(&format!("kill -CONT {process}"));
    let wait_until = |what: &str, is: &dyn Fn(api::SamplingRates) -> bool| {
        let started = Instant::now();
        while !is(rates()) {
            assert!(started.elapsed() < PATIENCE, "{what}: {:?}", rates());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_until("lowered", &|rates| rates.dns_pct <= 50.0 && rates.rest_pct <= 25.0);
    let sampled = dnsperf(&pair, &pair.v4, "-n 40 -Q 10000");
    std::thread::sleep(SETTLED);
    let view = server.view("/api/v1/metrics/bucket/0");
    outcomes_sum_up(&view);
    assert!(view.capture.outcomes["not_sampled"] > sampled / 2, "{:?}", view.capture);
    assert!(view.capture.sample_rate_pct < 99.9);
    // What is inspected stands for all of it, but for what was lost.
    let queries = view.dns.wire_packets.queries;
    let expected = lost + sampled - view.capture.evictions["ring_full_dns"] / 2;
    let off = queries.abs_diff(expected) as f64 / sampled as f64;
    assert!(off < 0.1, "{queries} queries where {expected} are expected");
    wait_until("raised again", &|rates| rates.dns_pct >= 100.0);
}

#[test]
fn an_occupied_hook_is_left_alone() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(true, 1500);
    // Nor is a filter of clsact taken for one that was left behind.
    let clsact = [(); 2].map(|()| Watch::start(&pair, &["--capture", "clsact"]));
    let first = Watch::start(&pair, &["--capture", "xdp"]);
    // A NIC has one XDP program.
    let second = support::program::run(&["--capture", "xdp", &pair.interface]);
    assert_eq!(second.code, Some(3));
    assert!(second.stderr.contains("another program is there already"), "{}", second.stderr);
    // TC takes any number.
    let third = Watch::start(&pair, &["--capture", "tc"]);
    let ping = format!("ping -c 2 -i 0.2 {}", pair.v4);
    pair.run_there(&ping);
    for watch in clsact.into_iter().chain([first, third]) {
        let (view, since) = watch.settled(&pair);
        assert_eq!(view.packets.total, since.packets());
    }
}

#[test]
fn a_jumbo_frame_is_seen_by_xdp() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 9000);
    let watch = Watch::start(&pair, &["--capture", "xdp"]);
    pair.run_there(&format!("ping -c 2 -i 0.2 -s 8000 -M do {}", pair.v4));
    let (view, since) = watch.settled(&pair);
    assert_eq!(view.packets.total, since.packets());
    assert_eq!(view.packets.bytes.total, since.bytes() + ethernet_headers("xdp", &since));
    assert!(view.packets.bytes.inbound > 16_000);
}

#[test]
fn super_packets_count_as_their_segments() {
    if !can_run() {
        return;
    }
    for mode in &modes()[1..] {
        let pair = Pair::new(true, 1500);
        let watch = Watch::start(&pair, &["--capture", mode]);
        let octets = 20_000_000;
        stream(&pair, octets);
        let (view, since) = watch.settled(&pair);
        let segments = octets.div_ceil(1_448);
        let inbound = view.packets.inbound;
        assert!(since.rx_packets < segments, "{mode}: the test has super-packets");
        // Each write of the sender, of 8 KiB, can end in a segment that is not full.
        let most = segments + octets.div_ceil(8_192) + 10;
        assert!((segments..most).contains(&inbound), "{mode}: {inbound} for {segments} to {most}");
        assert!(view.packets.bytes.inbound >= octets + segments * 66, "{mode}");
        outcomes_sum_up(&view);
    }
}

#[test]
fn without_rights_the_capabilities_are_named() {
    if !can_run() {
        return;
    }
    // The program lies where others may not go.
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("pktvisord");
    std::fs::copy(env!("CARGO_BIN_EXE_pktvisord"), &program).unwrap();
    sh(&format!("chmod 755 {} {}", folder.path().display(), program.display()));
    for (mode, capability) in [("tc", "CAP_BPF"), ("libpcap", "CAP_NET_RAW")] {
        let output = Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ])
            .arg(&program)
            .args(["--capture", mode, "lo"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(capability), "{mode}: {text}");
    }
}

/// Waits until the daemon says this of what it watches.
fn wait_for(watch: &Watch, what: &str, is: impl Fn(&[api::Watched]) -> bool) {
    let started = Instant::now();
    loop {
        let app: AppMetrics = watch.server.json("/api/v1/metrics/app");
        if is(&app.app.capture.watched) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", app.app.capture);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_interface_is_followed_with_its_addresses() {
    if !can_run() {
        return;
    }
    for mode in modes() {
        let mut pair = Pair::new(true, 1500);
        let watch = Watch::start(&pair, &["--capture", mode, "--user", "nobody"]);
        let status = sh(&format!("cat /proc/{}/task/*/status", watch.server.child.id()));
        let clsact = hooks(mode).1 == Some("clsact");
        let kept = if clsact { "0000000000001000" } else { "0000000000000000" };
        for line in status.lines() {
            match line.split_once(":\t") {
                Some(("Uid", uids)) => assert_eq!(uids, "65534\t65534\t65534\t65534", "{mode}"),
                Some(("CapEff" | "CapPrm", capabilities)) => {
                    assert_eq!(capabilities, kept, "{mode}");
                }
                _ => {}
            }
        }

        let name = pair.interface.clone();
        // Gone, and there again under the same name.
        pair.unplug();
        wait_for(&watch, "gone", <[_]>::is_empty);
        assert_eq!(watch.server.get("/readyz").0, 503);
        pair.plug();
        wait_for(&watch, "there again", |watched| watched.len() == 1);
        assert_eq!(watch.server.get("/readyz").0, 200);

        // Down and up, renamed, with another address.
        sh(&format!("ip link set {name} down"));
        pair.rename("pvr");
        let interface = pair.interface.clone();
        sh(&format!("ip link set {interface} up; ip addr add 100.127.255.1/32 dev {interface}"));
        wait_for(&watch, "renamed", |watched| watched.iter().any(|w| w.name == interface));
        std::thread::sleep(Duration::from_millis(500));
        let before = watch.server.view("/api/v1/metrics/bucket/0");
        std::thread::sleep(Duration::from_millis(1_100));
        pair.run_there(&format!(
            "ip route add 100.127.255.1 via {}; ping -c 3 -i 0.2 100.127.255.1",
            pair.v4
        ));
        std::thread::sleep(SETTLED);
        let view = watch.server.view("/api/v1/metrics/bucket/0");
        let icmp = (
            view.packets.inbound - before.packets.inbound,
            view.packets.outbound - before.packets.outbound,
        );
        assert!(icmp.0 >= 3 && icmp.1 >= 3, "{mode}: {icmp:?} with an address that came later");
        let (code, log) = watch.server.stop("TERM", Duration::from_secs(5));
        assert_eq!(code, Some(0), "{mode}: {log}");
    }
}

#[test]
fn an_interface_that_comes_back_under_load_is_accounted_for() {
    if !can_run() {
        return;
    }
    for mode in [modes(), vec!["libpcap"]].concat() {
        let pair = Pair::new(false, 1500);
        pair.forget_addresses();
        let watch = Watch::start(&pair, &["--capture", mode, "--user", "nobody"]);
        let frame = shapes::frames().remove(0);
        let load = vec![frame; 5_000];
        pair.send(&load);
        let (first, since) = watch.settled(&pair);
        assert_eq!(first.packets.total, since.packets(), "{mode}");

        // What comes between being there again and being watched again is known.
        pair.unplug();
        wait_for(&watch, "gone", <[_]>::is_empty);
        support::program::signal(&watch.server.child, "STOP");
        pair.plug();
        pair.forget_addresses();
        pair.send(&load);
        support::program::signal(&watch.server.child, "CONT");
        wait_for(&watch, "there again", |watched| watched.len() == 1);
        pair.send(&load);
        std::thread::sleep(SETTLED);
        let now = pair.statistics();
        let view = watch.server.view("/api/v1/metrics/bucket/0");
        assert_eq!(now, pair.statistics(), "{mode}: the interface is not quiet");
        let counted = view.packets.total - first.packets.total;
        let missed = view.capture.evictions.get("not_watched_yet").copied().unwrap_or(0);
        assert!((5_000..10_000).contains(&missed), "{mode}: {missed} of {now:?}");
        // Those of the moment when it is attached can be in both.
        let off = (counted + missed).abs_diff(now.packets());
        assert!(off < 200, "{mode}: {counted} counted, {missed} missed of {now:?}");
        let (code, log) = watch.server.stop("TERM", Duration::from_secs(5));
        assert_eq!(code, Some(0), "{mode}: {log}");
        assert!(log.contains("packets came before it was watched"), "{mode}: {log}");
    }
}

#[test]
fn tagged_frames_are_counted_with_their_tags() {
    if !can_run() {
        return;
    }
    for mode in [modes(), vec!["libpcap"]].concat() {
        let pair = Pair::new(false, 1500);
        let Pair { interface, namespace, .. } = &pair;
        let add = |host: &str, device: &str| {
            let add = format!("ip {host} link add vlan7 link {device} type vlan id 7 2>/dev/null");
            Command::new("sh").args(["-c", &add]).status().unwrap().success()
        };
        if !add(&format!("-n {namespace}"), namespace) {
            skipped(
                "this kernel has no VLAN devices: tagged frames come as they are in other tests",
            );
            return;
        }
        sh(&format!("ip link set {interface} down; ip link set {interface} up"));
        pair.run_there("ip addr add 198.18.7.2/24 dev vlan7; ip link set vlan7 up");
        sh(&format!(
            "ip link add {interface}v link {interface} type vlan id 7
             ip addr add 198.18.7.1/24 dev {interface}v; ip link set {interface}v up"
        ));
        let watch = Watch::start(&pair, &["--capture", mode, "-H", "198.18.7.1"]);
        pair.run_there("ping -c 5 -i 0.2 198.18.7.1");
        let (view, since) = watch.settled(&pair);
        assert_eq!(view.packets.total, since.packets(), "{mode}");
        assert!(view.packets.icmp >= 10, "{mode}: {}", view.packets.icmp);
        assert_eq!(view.packets.malformed, 0, "{mode}");
        // The interface does not count tags; with XDP those are not seen that it has taken off.
        let tags = view.packets.bytes.total - since.bytes() - ethernet_headers(mode, &since);
        let tagged = if mode == "xdp" { 5..=since.tx_packets } else { 10..=since.packets() };
        assert!(
            tags.is_multiple_of(4) && tagged.contains(&(tags / 4)),
            "{mode}: {tags} octets of tags"
        );
        sh(&format!("ip link del {interface}v"));
    }
}

#[test]
fn any_watches_what_comes_later() {
    if !can_run() {
        return;
    }
    // In a namespace of its own: elsewhere other tests make interfaces.
    let pair = Pair::new(true, 1500);
    let program = env!("CARGO_BIN_EXE_pktvisord");
    let log = TempDir::new().unwrap();
    let path = log.path().join("log");
    let command = format!("exec {program} -l 127.0.0.1 -p 0 any 2>{}", path.display());
    let mut child = pair.there(&command).spawn().unwrap();
    let wait_for_log = |text: &str| {
        let started = Instant::now();
        while !std::fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "no `{text}` in {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let tc = tc();
    wait_for_log(&format!("watching {}: {tc} in, {tc} out", pair.interface));
    wait_for_log(&format!("watching lo: {tc} in, which sees all that is sent too"));
    pair.run_there("ip link add later type veth peer name other; ip link set later up");
    wait_for_log(&format!("watching later: {tc} in, {tc} out"));
    // A bridge takes it over: its packets are seen at the bridge from then on.
    pair.run_there(
        "ip link add bridge type bridge; ip link set bridge up; ip link set later master bridge",
    );
    wait_for_log("later is no longer watched");
    wait_for_log(&format!("watching bridge: {tc} in, {tc} out"));
    support::program::signal(&child, "TERM");
    assert_eq!(support::program::wait(&mut child, Duration::from_secs(5)), Some(0));
}

#[test]
fn latencies_are_those_that_tshark_finds() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let folder = support::capture::Folder::new();
    let file = folder.file("load.pcap");
    // No buffer is left behind with -U, and no packet is before the daemon's start.
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-U", "-B", "16384", "-w", &file, "-i", &pair.interface, "port", DNS_PORT]);
    let mut tcpdump = tcpdump.stderr(std::process::Stdio::null()).spawn().unwrap();
    let watch = Watch::start(&pair, &["--capture", "tc"]);
    let started = Instant::now();
    while !std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24) {
        assert!(started.elapsed() < PATIENCE, "tcpdump does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(500));
    let completed = dnsperf(&pair, &pair.v4, "-n 10 -Q 3000");
    let (live, _) = watch.settled(&pair);
    support::program::signal(&tcpdump, "INT");
    tcpdump.wait().unwrap();

    let hosts = format!("{},{}", pair.v4, pair.v6);
    let args = ["--summary", "--dns-port", DNS_PORT, "-H", &hosts, &file];
    let of_file = support::program::view(&support::program::run(&args));
    assert_eq!(of_file.dns.wire_packets, live.dns.wire_packets);
    assert_eq!(of_file.dns.xact.counts, live.dns.xact.counts);
    assert_eq!(live.dns.xact.inbound.total, completed);
    let decode = format!("udp.port=={DNS_PORT},dns");
    let times = support::tshark::fields(&file, &["-d", &decode, "-Y", "dns.time"], &["dns.time"]);
    let mut times: Vec<f64> =
        times.iter().map(|row| row[0].parse::<f64>().unwrap() * 1e6).collect();
    assert_eq!(times.len() as u64, completed);
    times.sort_unstable_by(f64::total_cmp);
    let quantiles = live.dns.xact.inbound.quantiles_us.unwrap();
    for (ours, share) in [(quantiles.p50, 50), (quantiles.p90, 90)] {
        let theirs = times[times.len() * share / 100];
        // The two look at a packet some microseconds apart, and a load can come between.
        let off = (ours as f64 - theirs).abs();
        assert!(off <= 30.0 + theirs * 0.3, "p{share}: {ours} µs live, {theirs} µs by tshark");
    }
}
