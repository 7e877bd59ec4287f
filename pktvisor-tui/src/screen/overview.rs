//! The *Overview* screen: the most important values.

use pktvisor_common::api::{Dns, MetricsView, Packets};
use pktvisor_common::report::number::si;

use super::{directions, quantiles, traffic, unpaired, warn};
use crate::app::App;
use crate::panel::{Fact, Panel};

pub(super) fn panels(app: &App) -> Vec<Panel> {
    let Some(MetricsView { packets, dns, .. }) = app.view() else { return Vec::new() };
    let wire = &dns.wire_packets;
    let [packet_rate, bit_rate] = traffic(app);
    vec![
        counts(app, packets),
        rates(app, packets),
        messages(app, dns),
        transactions(app, dns),
        packet_rate,
        bit_rate,
        app.chart("DNS messages", "/s", &[("all", |s| s.dns)]),
        app.top("QName2", &dns.top_qname2, wire.total),
        app.top("QName3", &dns.top_qname3, wire.total),
        app.top("NX", &dns.top_nxdomain, wire.nxdomain),
        app.top("SRVFAIL", &dns.top_srvfail, wire.srvfail),
        app.top("REFUSED", &dns.top_refused, wire.refused),
        app.top("QTypes", &dns.top_qtype, wire.total),
        app.top("RCodes", &dns.top_rcode, wire.replies),
        app.top("Slow In", &dns.xact.inbound.top_slow, dns.xact.inbound.total),
        app.top("Slow Out", &dns.xact.outbound.top_slow, dns.xact.outbound.total),
        app.top("IPv4", &packets.top_ipv4, packets.ipv4),
        app.top("IPv6", &packets.top_ipv6, packets.ipv6),
        app.top("GeoLoc", &packets.top_geo_loc, packets.total),
        app.top("ASN", &packets.top_asn, packets.total),
        app.top("DNS UDP ports", &dns.top_udp_ports, wire.udp),
    ]
}

pub(super) fn counts(app: &App, packets: &Packets) -> Panel {
    let total = packets.total;
    let facts = vec![
        app.part("in", packets.inbound, total),
        app.part("out", packets.outbound, total),
        app.part("UDP", packets.udp, total),
        app.part("TCP", packets.tcp, total),
        app.part("other", packets.other_l4, total),
        app.part("IPv4", packets.ipv4, total),
        app.part("IPv6", packets.ipv6, total),
    ];
    Panel::facts("Packets", facts).note(app.count(total))
}

pub(super) fn rates(app: &App, packets: &Packets) -> Panel {
    let rates = &packets.rates;
    let mut facts = Vec::new();
    for (name, rate) in [
        ("packets in", rates.pps_in),
        ("packets out", rates.pps_out),
        ("packets", rates.pps_total),
        ("bits in", rates.bps_in),
        ("bits out", rates.bps_out),
    ] {
        facts.push(quantiles(name, rate, si));
    }
    let distinct = &packets.cardinality;
    facts.push(Fact::new("sources in", app.distinct(distinct.src_ips_in, distinct.src_ips_in_max)));
    facts
        .push(Fact::new("dest. out", app.distinct(distinct.dst_ips_out, distinct.dst_ips_out_max)));
    Panel::facts("Rates per second", facts).note("p50 p90 p95 p99")
}

fn messages(app: &App, dns: &Dns) -> Panel {
    let wire = &dns.wire_packets;
    let (total, replies) = (wire.total, wire.replies);
    let mut facts = vec![
        app.part("queries", wire.queries, total),
        app.part("replies", replies, total),
        app.part("TCP", wire.tcp, total),
        app.part("NXDOMAIN", wire.nxdomain, replies),
        app.part("SRVFAIL", wire.srvfail, replies).tone(warn(wire.srvfail)),
        app.part("REFUSED", wire.refused, replies).tone(warn(wire.refused)),
    ];
    facts.push(Fact::new(
        "distinct names",
        app.distinct(dns.cardinality.qname, dns.cardinality.qname_max),
    ));
    Panel::facts("DNS", facts).note(app.count(total))
}

fn transactions(app: &App, dns: &Dns) -> Panel {
    let (xact, counts) = (&dns.xact, &dns.xact.counts);
    let mut facts = directions(app, xact);
    facts.extend(unpaired(app, xact));
    Panel::facts("Transactions", facts)
        .note(format!("{}  p50 p90 p95 p99", app.count(counts.total)))
}
