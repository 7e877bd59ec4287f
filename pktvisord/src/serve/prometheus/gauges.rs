//! Gauges of the last closed bucket: cardinalities, percentiles, top lists.

use std::borrow::Cow;
use std::fmt;

use pktvisor_common::api::{MetricsView, Quantiles, TopEntry};

use super::{DIRECTIONS, Families, Label, label};

pub(super) fn write(families: &mut Families<'_>, view: &MetricsView, top: usize) -> fmt::Result {
    let period = &view.period;
    families.gauge(
        "pktvisor_bucket_start_timestamp_seconds",
        "Start of the bucket that the gauges of cardinalities, percentiles and top lists are of",
        [([], period.start_ts as f64)],
    )?;
    families.gauge(
        "pktvisor_bucket_duration_seconds",
        "Seconds that this bucket covers",
        [([], period.length as f64)],
    )?;
    cardinalities(families, view)?;
    percentiles(families, view)?;
    tops(families, view, top)
}

fn cardinalities(families: &mut Families<'_>, view: &MetricsView) -> fmt::Result {
    let of = &view.packets.cardinality;
    families.gauge(
        "pktvisor_distinct_ips",
        "Distinct IP addresses of the last closed bucket: sources of packets to HOST, destinations \
         of packets from HOST, all at either end",
        [("src_in", of.src_ips_in), ("dst_out", of.dst_ips_out), ("all", of.ips)]
            .map(|(set, count)| ([label("set", set)], count as f64)),
    )?;
    families.gauge(
        "pktvisor_dns_distinct_qnames",
        "Distinct DNS query names of the last closed bucket",
        [([], view.dns.cardinality.qname as f64)],
    )
}

/// Builds one sample for each percentile, with values divided by `unit`.
fn each(quantiles: Quantiles, unit: f64) -> [([Label<'static>; 1], f64); 4] {
    let Quantiles { p50, p90, p95, p99 } = quantiles;
    [("50", p50), ("90", p90), ("95", p95), ("99", p99)]
        .map(|(percentile, value)| ([label("percentile", percentile)], value as f64 / unit))
}

/// Builds these samples for each direction that has quantiles.
fn by_direction(
    quantiles: [(&'static str, Option<Quantiles>); 3],
    unit: f64,
) -> impl Iterator<Item = ([Label<'static>; 2], f64)> {
    quantiles
        .into_iter()
        .filter_map(|(direction, quantiles)| Some((direction, quantiles?)))
        .flat_map(move |(direction, quantiles)| {
            each(quantiles, unit)
                .map(|([percentile], value)| ([label("direction", direction), percentile], value))
        })
}

fn percentiles(families: &mut Families<'_>, view: &MetricsView) -> fmt::Result {
    const BITS: f64 = 8.0;
    const MICROSECONDS: f64 = 1e6;
    const HUNDREDTHS: f64 = 100.0;
    let rates = &view.packets.rates;
    families.gauge(
        "pktvisor_packets_per_second",
        "Percentiles of the packets of each second of the last closed bucket",
        by_direction(
            [("in", rates.pps_in), ("out", rates.pps_out), ("total", rates.pps_total)],
            1.0,
        ),
    )?;
    families.gauge(
        "pktvisor_bytes_per_second",
        "Percentiles of the bytes of each second of the last closed bucket",
        by_direction(
            [("in", rates.bps_in), ("out", rates.bps_out), ("total", rates.bps_total)],
            BITS,
        ),
    )?;
    families.gauge(
        "pktvisor_dns_messages_per_second",
        "Percentiles of the DNS messages of each second of the last closed bucket",
        view.dns.rates.total.into_iter().flat_map(|quantiles| each(quantiles, 1.0)),
    )?;
    let xact = &view.dns.xact;
    let directions = [&xact.inbound, &xact.outbound, &xact.unknown].map(|d| d.quantiles_us);
    let [inbound, outbound, unknown] = directions;
    let [i, o, u] = DIRECTIONS;
    families.gauge(
        "pktvisor_dns_latency_seconds",
        "Percentiles of the time from a DNS query to its reply in the last closed bucket",
        by_direction([(i, inbound), (o, outbound), (u, unknown)], MICROSECONDS),
    )?;
    families.gauge(
        "pktvisor_dns_amplification_ratio",
        "Percentiles of the bytes of a reply for each of its query in the last closed bucket",
        xact.ratio.into_iter().flat_map(|quantiles| each(quantiles, HUNDREDTHS)),
    )
}

/// A top list and its label value.
type List<'a> = (&'static str, &'a [TopEntry]);

fn tops(families: &mut Families<'_>, view: &MetricsView, top: usize) -> fmt::Result {
    let (packets, dns) = (&view.packets, &view.dns);
    let mut family = |name: &str, help: &str, lists: &[List<'_>]| {
        families.gauge(
            name,
            help,
            lists.iter().flat_map(|(list, entries)| {
                entries.iter().take(top).map(|entry| {
                    let name = ("name", Cow::Borrowed(entry.name.as_str()));
                    ([label("list", list), name], entry.estimate as f64)
                })
            }),
        )
    };
    family(
        "pktvisor_top_packets",
        "Packets of the last closed bucket by remote address, its place and AS, and by port",
        &[
            ("ipv4", &packets.top_ipv4),
            ("ipv6", &packets.top_ipv6),
            ("geo_loc", &packets.top_geo_loc),
            ("asn", &packets.top_asn),
            ("port", &packets.top_ports),
        ],
    )?;
    family(
        "pktvisor_top_bytes",
        "Bytes of the last closed bucket by remote address, and of DNS replies by query name",
        &[("ip", &packets.top_ips_bytes), ("qname_by_resp", &dns.top_qname_by_resp_bytes)],
    )?;
    family(
        "pktvisor_dns_top_messages",
        "DNS messages of the last closed bucket by labels of the query name, by query name and \
         outcome, by the client's port and by client subnet",
        &[
            ("qname2", &dns.top_qname2),
            ("qname3", &dns.top_qname3),
            ("nxdomain", &dns.top_nxdomain),
            ("refused", &dns.top_refused),
            ("servfail", &dns.top_srvfail),
            ("nodata", &dns.top_nodata),
            ("noerror", &dns.top_noerror),
            ("udp_port", &dns.top_udp_ports),
            ("ecs", &dns.top_ecs),
            ("geo_loc_ecs", &dns.top_geo_loc_ecs),
            ("asn_ecs", &dns.top_asn_ecs),
        ],
    )?;
    family(
        "pktvisor_dns_top_slow_transactions",
        "The slowest tenth of the DNS transactions of the last closed bucket by query name, by \
         direction of the query",
        &[
            ("in", &dns.xact.inbound.top_slow),
            ("out", &dns.xact.outbound.top_slow),
            ("unknown", &dns.xact.unknown.top_slow),
        ],
    )
}
