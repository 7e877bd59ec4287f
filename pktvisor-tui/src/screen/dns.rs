//! The *DNS* screen: messages and transactions.

use pktvisor_common::api::{Histogram, MetricsView};
use pktvisor_common::report::classes;
use pktvisor_common::report::number::{hundredths, micros, si};

use super::{directions, quantiles, unpaired, warn};
use crate::app::App;
use crate::panel::{Fact, Panel};
use crate::theme::Tone;

/// Rows of a latency histogram.
const CLASSES: usize = 10;

pub(super) fn panels(app: &App) -> Vec<Panel> {
    let Some(MetricsView { dns, .. }) = app.view() else { return Vec::new() };
    let (wire, xact) = (&dns.wire_packets, &dns.xact);
    let (total, replies) = (wire.total, wire.replies);
    let messages = vec![
        app.part("queries", wire.queries, total),
        app.part("replies", replies, total),
        app.part("UDP", wire.udp, total),
        app.part("TCP", wire.tcp, total),
        app.part("IPv4", wire.ipv4, total),
        app.part("IPv6", wire.ipv6, total),
        app.part("malformed", wire.malformed, total)
            .tone(warn(wire.malformed))
            .field("/dns/wire_packets/malformed"),
        Fact::new("distinct names", app.distinct(dns.cardinality.qname, dns.cardinality.qname_max)),
    ];
    let mut rate = vec![
        quantiles("messages/s", dns.rates.total, si),
        quantiles("EDNS size", dns.edns.udp_size, |n| n.to_string()),
    ];
    let answers = vec![
        app.part("NOERROR", wire.noerror, replies),
        app.part("NXDOMAIN", wire.nxdomain, replies),
        app.part("SRVFAIL", wire.srvfail, replies).tone(warn(wire.srvfail)),
        app.part("REFUSED", wire.refused, replies).tone(warn(wire.refused)),
        app.part("FORMERR", wire.formerr, replies)
            .tone(warn(wire.formerr))
            .field("/dns/wire_packets/formerr"),
        app.part("NOTIMP", wire.notimp, replies).field("/dns/wire_packets/notimp"),
        app.part("no data", wire.nodata, replies).field("/dns/wire_packets/nodata"),
        app.part("referral", wire.referral, replies).field("/dns/wire_packets/referral"),
        app.part("truncated", wire.truncated, replies).field("/dns/wire_packets/truncated"),
    ];
    let flags = vec![
        app.part("AA", wire.aa, replies).field("/dns/wire_packets/aa"),
        app.part("AD", wire.ad, replies).field("/dns/wire_packets/ad"),
        app.part("CD", wire.cd, wire.queries).field("/dns/wire_packets/cd"),
        app.part("DO", wire.dnssec_ok, wire.queries).field("/dns/wire_packets/do"),
        app.part("client subnet", wire.ecs, wire.queries).field("/dns/wire_packets/ecs"),
    ];
    let mut transactions = directions(app, xact);
    transactions.push(quantiles("reply/query", xact.ratio, hundredths));
    transactions.extend(unpaired(app, xact));
    rate.extend(flags);
    vec![
        Panel::facts("Messages", messages).note(app.count(total)),
        Panel::facts("Replies", answers).note(app.count(replies)),
        Panel::facts("Transactions", transactions)
            .note(format!("{}  p50 p90 p95 p99", app.count(xact.counts.total))),
        Panel::facts("Rates and flags", rate).note("p50 p90 p95 p99"),
        app.chart("Messages", "/s", &[("all", |s| s.dns)]),
        app.chart_by_name("Replies by code", "/s", |s| &s.rcodes),
        app.chart_by_name("Questions by type", "/s", |s| &s.qtypes),
        latencies(app, "Latency in", xact.inbound.histogram_us.as_ref()),
        latencies(app, "Latency out", xact.outbound.histogram_us.as_ref()),
        latencies(app, "Latency unknown", xact.unknown.histogram_us.as_ref()),
        app.top("RCodes", &dns.top_rcode, replies),
        app.top("QTypes", &dns.top_qtype, total),
        app.top("Slow In", &xact.inbound.top_slow, xact.inbound.total),
        app.top("Slow Out", &xact.outbound.top_slow, xact.outbound.total),
        app.top_bytes("Response bytes", &dns.top_qname_by_resp_bytes, 0),
        app.top("NOERROR", &dns.top_noerror, wire.noerror),
        app.top("No data", &dns.top_nodata, wire.nodata),
        app.top("Client subnets", &dns.top_ecs, wire.ecs),
        app.top("Subnets by location", &dns.top_geo_loc_ecs, wire.ecs),
        app.top("Subnets by AS", &dns.top_asn_ecs, wire.ecs),
        app.top("UDP ports", &dns.top_udp_ports, wire.udp),
    ]
}

fn latencies(app: &App, title: &str, histogram: Option<&Histogram>) -> Panel {
    let classes = histogram.map_or_else(Vec::new, |histogram| classes(histogram, CLASSES));
    let all = classes.iter().fold(0u64, |sum, class| sum.saturating_add(class.1));
    let mut facts: Vec<Fact> = classes
        .into_iter()
        .map(|(le, n)| Fact::new(format!("≤ {}", micros(le)), app.count(n)).of(n, all))
        .collect();
    if facts.is_empty() {
        facts.push(Fact::new("no transactions", "").tone(Tone::Dim));
    }
    Panel::facts(title, facts)
}
