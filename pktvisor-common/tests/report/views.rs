//! Sample views for the report.

use std::collections::BTreeMap;

use pktvisor_common::api::{Histogram, MetricsView, Quantiles, TopEntry};

fn quantiles(p50: u64) -> Quantiles {
    Quantiles { p50, p90: p50 * 3, p95: p50 * 5, p99: p50 * 40 }
}

/// Returns a list in which each entry has two thirds of the previous one.
fn list(names: &[&str], most: u64, error: Option<u64>) -> Vec<TopEntry> {
    let mut estimate = most;
    let mut entries = Vec::new();
    for name in names {
        entries.push(TopEntry { name: (*name).to_owned(), estimate, error });
        estimate -= estimate / 3;
    }
    entries
}

fn map(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
    entries.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// Returns a view with most fields set and without losses.
pub(crate) fn rich() -> MetricsView {
    let mut view = MetricsView::default();
    view.period.start_ts = 1_700_000_000;
    view.period.length = 280;
    view.capture.source = "file".into();
    view.capture.interfaces = vec!["mixed.pcapng".into()];
    view.capture.outcomes =
        map(&[("dns", 1_200_000), ("headers", 700_000), ("non_ip", 345), ("not_sampled", 100_000)]);
    rich_packets(&mut view);
    rich_dns(&mut view);
    rich_transactions(&mut view);
    view
}

fn rich_packets(view: &mut MetricsView) {
    let packets = &mut view.packets;
    packets.total = 2_000_345;
    packets.deep_samples = 1_900_345;
    (packets.udp, packets.tcp, packets.other_l4, packets.icmp) =
        (1_250_000, 600_000, 150_345, 140_000);
    (packets.ipv4, packets.ipv6, packets.non_ip) = (1_500_000, 500_000, 345);
    (packets.inbound, packets.outbound, packets.unknown_dir) = (1_000_000, 990_345, 10_000);
    packets.bytes.total = 812_345_678;
    packets.bytes.inbound = 300_000_000;
    packets.bytes.outbound = 500_000_000;
    packets.protocol.tcp.syn = 60_000;
    packets.protocol.tcp.fin = 55_000;
    packets.fragments = 12;
    packets.cardinality.src_ips_in = 50_123;
    packets.cardinality.dst_ips_out = 49_877;
    packets.cardinality.ips = 50_412;
    packets.cardinality.error_pct = 0.81;
    packets.rates.pps_in = Some(quantiles(3500));
    packets.rates.pps_out = Some(quantiles(3480));
    packets.rates.pps_total = Some(quantiles(7000));
    packets.rates.bps_in = Some(quantiles(8_600_000));
    packets.rates.bps_out = Some(quantiles(14_400_000));
    packets.rates.bps_total = Some(quantiles(23_000_000));
    packets.payload_size = Some(quantiles(36));
    packets.top_ipv4 = list(
        &["192.0.2.1", "192.0.2.77", "198.51.100.3", "203.0.113.255", "198.51.100.250"],
        1_234_567,
        Some(1210),
    );
    packets.top_ipv6 =
        list(&["2001:db8::1", "2001:db8:85a3:8d3:1319:8a2e:370:7348"], 99_000, Some(12));
    packets.top_ips_bytes = list(&["192.0.2.1", "2001:db8::1"], 712_345_678, None);
    packets.top_geo_loc =
        list(&["NA/United States/WA/Milton", "EU/Sweden", "Unknown"], 500_000, None);
    packets.top_asn = list(&["1221/Telstra Pty Ltd", "64496/Example"], 500_000, None);
    packets.top_ports = list(&["53/udp", "443/tcp", "443/udp"], 1_200_000, None);
}

fn rich_dns(view: &mut MetricsView) {
    let dns = &mut view.dns;
    let wire = &mut dns.wire_packets;
    (wire.total, wire.deep_samples) = (1_200_000, 1_200_000);
    (wire.queries, wire.replies, wire.malformed) = (610_000, 589_990, 10);
    (wire.udp, wire.tcp, wire.ipv4, wire.ipv6) = (1_190_000, 10_000, 800_000, 400_000);
    (wire.noerror, wire.nxdomain, wire.srvfail, wire.refused) = (400_000, 150_000, 30_000, 9_990);
    (wire.nodata, wire.truncated, wire.aa, wire.ad) = (70_000, 120, 500_000, 1_000);
    (wire.cd, wire.dnssec_ok, wire.ecs) = (600, 300_000, 25_000);
    dns.rates.total = Some(quantiles(4200));
    dns.edns.udp_size = Some(quantiles(1232));
    dns.cardinality.qname = 200_345;
    dns.cardinality.error_pct = 0.81;
    dns.top_qname2 = list(&[".example.com", ".test.com", "a.com", ".co.uk"], 400_000, Some(97));
    dns.top_qname3 = list(&[".www.example.com", ".cdn.test.com", ".bbc.co.uk"], 200_000, Some(97));
    dns.top_nxdomain = list(
        &["wpad.corp.internal", "xkcdqwyz-a1b2c3d4e5f60718293a4b5c6d7e8f90.attacked.example.net"],
        50_000,
        Some(45),
    );
    dns.top_srvfail = list(&["lame.example.org"], 20_000, None);
    dns.top_noerror = list(&["www.example.com", "cdn.test.com"], 120_000, Some(45));
    dns.top_qtype = list(&["A", "AAAA", "HTTPS", "TYPE1234"], 700_000, None);
    dns.top_rcode = list(&["NOERROR", "NXDOMAIN", "SRVFAIL", "REFUSED", "BADVERS"], 400_000, None);
    dns.top_udp_ports = list(&["5353", "40123"], 40_000, Some(300));
    dns.top_ecs = list(&["192.0.2.0/24", "2001:db8::/48"], 20_000, None);
    dns.top_qname_by_resp_bytes = list(&["www.example.com"], 30_000_000, None);
}

fn rich_transactions(view: &mut MetricsView) {
    let xact = &mut view.dns.xact;
    (xact.counts.total, xact.counts.timed_out, xact.counts.orphans) = (585_000, 24_000, 4_990);
    xact.open = 12;
    (xact.inbound.total, xact.outbound.total) = (580_000, 5_000);
    xact.inbound.quantiles_us = Some(quantiles(220));
    xact.outbound.quantiles_us = Some(quantiles(31_000));
    xact.ratio = Some(quantiles(196));
    xact.inbound.histogram_us = Some(Histogram {
        le: vec![64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048],
        count: vec![0, 1_000, 40_000, 150_000, 210_000, 110_000, 40_000, 0, 20_000, 9_000, 0],
    });
    xact.outbound.histogram_us = Some(Histogram {
        le: (0..40).map(|i| (64.0 * 2f64.powf(f64::from(i) / 2.0)) as u64).collect(),
        count: (0..40).map(|i| if i < 3 { 0 } else { 20 * (40 - i) }).collect(),
    });
    xact.inbound.top_slow = list(&["slow.example.com", "slower.example.com"], 9000, Some(30));
    xact.outbound.top_slow = list(&["far.example.net"], 120, None);
}

/// Returns the rich view of a daemon that could not keep up.
pub(crate) fn lossy() -> MetricsView {
    let mut view = rich();
    let capture = &mut view.capture;
    capture.source = "ebpf".into();
    capture.interfaces = vec!["eth0".into(), "eth1".into()];
    capture.outcomes.extend(map(&[("truncated", 31), ("malformed", 7), ("ring_full", 123_456)]));
    capture.ring_full = 123_456;
    capture.kernel_drops = 12;
    capture.if_drops = 1;
    capture.tcp_reassembly_errors = 5;
    capture.late_packets = 99;
    capture.lag_ms = 1250;
    capture.evictions = map(&[("transactions", 1500), ("tcp_streams_age", 2)]);
    view
}

/// Returns a view with names that would control or disarrange a terminal.
pub(crate) fn evil() -> MetricsView {
    let mut view = MetricsView::default();
    view.capture.source = "file".into();
    view.capture.interfaces = vec!["\x1b]0;owned\x07.pcap".into()];
    view.capture.outcomes = map(&[("dns\x1b[2J", 3)]);
    view.capture.evictions = map(&[("reason\r\n", 3)]);
    view.period.length = 1;
    view.packets.total = 3;
    view.packets.deep_samples = 3;
    view.dns.wire_packets.total = 3;
    view.dns.wire_packets.deep_samples = 3;
    let names = [
        "\x1b[31mred\x1b[0m.example",
        "cr\rlf\n.example",
        "\u{202e}elpmaxe.moc",
        "zero\u{200b}width.example",
        "例え.テスト",
        "とても長い名前とても長い名前とても長い名前.テスト",
        "very-long-label-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com",
        r"a\.b\032c.example",
        "\u{1f980}.example",
        "",
    ];
    view.dns.top_qname2 = list(&names, 1000, Some(1));
    view.dns.xact.counts.total = 1;
    view.dns.xact.inbound.top_slow = list(&names, u64::MAX, Some(u64::MAX));
    view
}
