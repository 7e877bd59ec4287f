//! Compares the counts with the interface's counters, a file of the same packets, dnsperf and
//! tshark.

use std::process::Command;
use std::time::{Duration, Instant};

use pktvisor_common::api::{self, AppMetrics, MetricsView};

use crate::support::net::{DNS_PORT, DnsServer, Pair, sh};
use crate::support::program::PATIENCE;
use crate::support::{self, shapes};
use crate::{Watch, can_run, dnsperf, ethernet_headers, hooks, modes, outcomes_sum_up, stream};

#[test]
fn totals_match_the_interface_to_the_packet() {
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

/// Returns the part of a view that does not depend on arrival times.
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
fn live_and_file_give_the_same_counts() {
    if !can_run() {
        return;
    }
    // Every shape, cut at every length, with VLAN tags that stay in the frame.
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let all = [shapes::frames(), shapes::wrapped(), shapes::tunnelled()].concat();
    for frame in all {
        let is_tag = |at: usize| matches!(frame[at..at + 2], [0x81, 0x00] | [0x88, 0xa8]);
        // The kernel itself drops frames that end within or right after the outer tag, before TC.
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
        // Without addresses, the host sends no packets of its own.
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
fn latencies_match_tshark() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let folder = support::capture::Folder::new();
    let file = folder.file("load.pcap");
    // With -U tcpdump leaves nothing in its buffer. It starts before the daemon, so no packet is
    // missing.
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
        // Daemon and tcpdump timestamp a packet some microseconds apart, and system load can add
        // delays.
        let off = (ours as f64 - theirs).abs();
        assert!(off <= 30.0 + theirs * 0.3, "p{share}: {ours} µs live, {theirs} µs by tshark");
    }
}

#[test]
fn filter_is_run_by_libpcap() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(true, 1500);
    let _dns = DnsServer::start(&pair);
    let watch = Watch::start(&pair, &["-b", "udp port 5300 and ip6"]);
    let app: AppMetrics = watch.server.json("/api/v1/metrics/app");
    assert_eq!(app.app.capture.source, "libpcap");
    let why = app.app.capture.fallback.unwrap();
    assert!(why.contains("a filter (-b) requires libpcap"), "{why}");
    dnsperf(&pair, &pair.v4, "-n 1");
    let queries = dnsperf(&pair, &pair.v6, "-n 1");
    let (view, _) = watch.settled(&pair);
    assert_eq!(view.packets.total, 2 * queries);
    assert_eq!(view.dns.wire_packets.ipv6, 2 * queries);
}

#[test]
fn xdp_sees_jumbo_frames() {
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
        let bytes = 20_000_000;
        stream(&pair, bytes);
        let (view, since) = watch.settled(&pair);
        let segments = bytes.div_ceil(1_448);
        let inbound = view.packets.inbound;
        assert!(since.rx_packets < segments, "{mode}: the test has super-packets");
        // Each 8 KiB write of the sender can end in a partial segment.
        let most = segments + bytes.div_ceil(8_192) + 10;
        assert!((segments..most).contains(&inbound), "{mode}: {inbound} for {segments} to {most}");
        assert!(view.packets.bytes.inbound >= bytes + segments * 66, "{mode}");
        outcomes_sum_up(&view);
    }
}

#[test]
#[ignore = "not every kernel has VLAN devices; those of `cargo xtask kernels` do"]
fn counts_tagged_frames_with_their_tags() {
    if !can_run() {
        return;
    }
    for mode in [modes(), vec!["libpcap"]].concat() {
        let pair = Pair::new(false, 1500);
        let Pair { interface, namespace, .. } = &pair;
        sh(&format!("ip link set {interface} down; ip link set {interface} up"));
        pair.run_there(&format!(
            "ip link add vlan7 link {namespace} type vlan id 7
             ip addr add 198.18.7.2/24 dev vlan7; ip link set vlan7 up"
        ));
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
        // The interface does not count tags. With XDP, tags that the interface has removed are not
        // visible.
        let tags = view.packets.bytes.total - since.bytes() - ethernet_headers(mode, &since);
        let tagged = if mode == "xdp" { 5..=since.tx_packets } else { 10..=since.packets() };
        assert!(
            tags.is_multiple_of(4) && tagged.contains(&(tags / 4)),
            "{mode}: {tags} bytes of tags"
        );
        sh(&format!("ip link del {interface}v"));
    }
}
