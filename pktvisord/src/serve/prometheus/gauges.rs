//! Gauges of the last closed bucket: cardinalities, percentiles, top lists.

use std::borrow::Cow;
use std::fmt;

use pktvisor_common::direction::Direction;
use pktvisor_common::sketch::quantiles::Percentiles;
use pktvisor_common::sketch::top::Entry;
use pktvisor_common::summary::Summary;

use super::{Families, Label, label};

pub(super) fn write(
    families: &mut Families<'_>,
    summary: &Summary,
    timeless: bool,
    top: usize,
) -> fmt::Result {
    let (start, end) = (summary.start.second(), summary.end.second());
    families.gauge(
        "pktvisor_bucket_start_timestamp_seconds",
        "Start of the last closed bucket, which the gauges of cardinalities, percentiles and top lists describe",
        [([], start as f64)],
    )?;
    families.gauge(
        "pktvisor_bucket_duration_seconds",
        "Seconds that the last closed bucket covers",
        [([], end.saturating_sub(start).max(0) as f64)],
    )?;
    cardinalities(families, summary)?;
    if !timeless {
        rates(families, summary)?;
        latencies(families, summary)?;
    }
    amplification(families, summary)?;
    tops(families, summary, top)?;
    if timeless { Ok(()) } else { slow(families, summary, top) }
}

fn cardinalities(families: &mut Families<'_>, summary: &Summary) -> fmt::Result {
    let of = summary.packets.distinct_addresses(&summary.totals);
    families.gauge(
        "pktvisor_distinct_ips",
        "Distinct IP addresses of the last closed bucket: sources of packets to HOST, destinations \
         of packets from HOST, or all addresses at either end",
        [("src_in", of.sources_in), ("dst_out", of.destinations_out), ("all", of.either_end)]
            .map(|(set, count)| ([label("set", set)], count as f64)),
    )?;
    families.gauge(
        "pktvisor_dns_distinct_qnames",
        "Distinct DNS query names of the last closed bucket",
        [([], summary.dns.distinct_qnames() as f64)],
    )
}

/// Builds one sample for each percentile, with values divided by `unit`.
fn each(
    percentiles: Option<Percentiles>,
    unit: f64,
) -> impl Iterator<Item = ([Label<'static>; 1], f64)> {
    percentiles.into_iter().flat_map(move |Percentiles { p50, p90, p95, p99 }| {
        [("50", p50), ("90", p90), ("95", p95), ("99", p99)]
            .map(|(percentile, value)| ([label("percentile", percentile)], value as f64 / unit))
    })
}

/// Builds these samples for each direction.
fn by_direction(
    distributions: [(&'static str, Option<Percentiles>); 3],
    unit: f64,
) -> impl Iterator<Item = ([Label<'static>; 2], f64)> {
    distributions.into_iter().flat_map(move |(direction, percentiles)| {
        each(percentiles, unit)
            .map(move |([percentile], value)| ([label("direction", direction), percentile], value))
    })
}

fn rates(families: &mut Families<'_>, summary: &Summary) -> fmt::Result {
    const BITS: f64 = 8.0;
    let rates = summary.rate_percentiles();
    families.gauge(
        "pktvisor_packets_per_second",
        "Percentiles of packets per second in the last closed bucket",
        by_direction(
            [("in", rates.pps_in), ("out", rates.pps_out), ("total", rates.pps_total)],
            1.0,
        ),
    )?;
    families.gauge(
        "pktvisor_bytes_per_second",
        "Percentiles of bytes per second in the last closed bucket",
        by_direction(
            [("in", rates.bps_in), ("out", rates.bps_out), ("total", rates.bps_total)],
            BITS,
        ),
    )?;
    families.gauge(
        "pktvisor_dns_messages_per_second",
        "Percentiles of DNS messages per second in the last closed bucket",
        each(rates.dns, 1.0),
    )
}

fn latencies(families: &mut Families<'_>, summary: &Summary) -> fmt::Result {
    const MICROSECONDS: f64 = 1e6;
    let latencies = summary.dns.xact.directions.by_query();
    let percentiles = Direction::ALL.map(|of| (of.name(), latencies[of].quantiles.percentiles()));
    families.gauge(
        "pktvisor_dns_latency_seconds",
        "Percentiles of the time from a DNS query to its reply in the last closed bucket",
        by_direction(percentiles, MICROSECONDS),
    )
}

fn amplification(families: &mut Families<'_>, summary: &Summary) -> fmt::Result {
    const HUNDREDTHS: f64 = 100.0;
    families.gauge(
        "pktvisor_dns_amplification_ratio",
        "Percentiles of the ratio of reply size to query size in the last closed bucket",
        each(summary.dns.xact.ratio.percentiles(), HUNDREDTHS),
    )
}

/// Builds a sample for each of the first `top` entries of a list.
fn entries<'a>(
    list: Label<'static>,
    entries: &'a [Entry],
    top: usize,
) -> impl Iterator<Item = ([Label<'a>; 2], f64)> {
    entries.iter().take(top).map(move |Entry { name, estimate, .. }| {
        ([list.clone(), ("name", Cow::Borrowed(name.as_str()))], *estimate as f64)
    })
}

fn tops(families: &mut Families<'_>, summary: &Summary, top: usize) -> fmt::Result {
    let (packets, dns) = (&summary.packets, &summary.dns);
    let mut family = |name: &str, help: &str, lists: &[(&'static str, Vec<Entry>)]| {
        let samples = lists.iter().flat_map(|(list, of)| entries(label("list", list), of, top));
        families.gauge(name, help, samples)
    };
    family(
        "pktvisor_top_packets",
        "Packets of the last closed bucket by remote address, its location and AS, and by port",
        &[
            ("ipv4", packets.ipv4.entries()),
            ("ipv6", packets.ipv6.entries()),
            ("geo_loc", packets.places.entries()),
            ("asn", packets.systems.entries()),
            ("port", packets.top_ports()),
        ],
    )?;
    family(
        "pktvisor_top_bytes",
        "Bytes of the last closed bucket by remote address, and bytes of DNS replies by query name",
        &[("ip", packets.bytes.entries()), ("qname_by_resp", dns.reply_bytes.entries())],
    )?;
    family(
        "pktvisor_dns_top_messages",
        "DNS messages of the last closed bucket by labels of the query name, by query name and \
         response code, by client port and by client subnet",
        &[
            ("qname2", dns.qname2.entries()),
            ("qname3", dns.qname3.entries()),
            ("nxdomain", dns.nxdomain.entries()),
            ("refused", dns.refused.entries()),
            ("servfail", dns.servfail.entries()),
            ("nodata", dns.nodata.entries()),
            ("noerror", dns.noerror.entries()),
            ("udp_port", dns.top_udp_ports()),
            ("ecs", dns.ecs.entries()),
            ("geo_loc_ecs", dns.ecs_places.entries()),
            ("asn_ecs", dns.ecs_systems.entries()),
        ],
    )
}

fn slow(families: &mut Families<'_>, summary: &Summary, top: usize) -> fmt::Result {
    let transactions = summary.dns.xact.directions.by_query();
    let lists = Direction::ALL.map(|of| (of.name(), transactions[of].classes.slow()));
    families.gauge(
        "pktvisor_dns_top_slow_transactions",
        "Slowest tenth of the DNS transactions of the last closed bucket, by direction of the query \
         and query name",
        lists.iter().flat_map(|(of, list)| entries(label("list", of), list, top)),
    )
}
