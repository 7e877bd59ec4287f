//! The sections on DNS messages and DNS transactions.

use super::layout::{Block, Page, Tone};
use super::number::{bytes, count, hundredths, micros, si};
use super::table::{Spread, histogram, part, quantiles, shares, top};
use super::{distinct, inspected, tops};
use crate::api::{Dns, Xact};

/// Adds the section on messages.
pub(super) fn section(page: &mut Page, dns: &Dns) {
    let wire = &dns.wire_packets;
    let mut facts = vec![format!("{} messages", count(wire.total))];
    facts.extend(inspected(wire.deep_samples, wire.total));
    page.section(Tone::Strong, "DNS", &facts);
    if wire.total == 0 {
        return;
    }
    page.blocks(counts(page.block_width(), dns));
    tops(page, lists(page.block_width(), dns));
}

fn counts(width: usize, dns: &Dns) -> Vec<Block> {
    let wire = &dns.wire_packets;
    let of_all = |label, value| part(label, value, wire.total);
    let of_replies = |label, value| part(label, value, wire.replies);
    let of_queries = |label, value| part(label, value, wire.queries);
    vec![
        shares(
            width,
            "Messages",
            count,
            &[
                of_all("queries", wire.queries),
                of_all("replies", wire.replies),
                of_all("malformed", wire.malformed),
                of_all("UDP", wire.udp),
                of_all("TCP", wire.tcp),
                of_all("IPv4", wire.ipv4),
                of_all("IPv6", wire.ipv6),
            ],
        ),
        shares(
            width,
            "Replies",
            count,
            &[
                of_replies("truncated", wire.truncated),
                of_replies("NOERROR", wire.noerror),
                of_replies("NXDOMAIN", wire.nxdomain),
                of_replies("SRVFAIL", wire.srvfail),
                of_replies("REFUSED", wire.refused),
                of_replies("FORMERR", wire.formerr),
                of_replies("NOTIMP", wire.notimp),
                of_replies("other", wire.other_rcode),
            ],
        ),
        shares(
            width,
            "Of the replies",
            count,
            &[
                of_replies("no data", wire.nodata),
                of_replies("referral", wire.referral),
                of_replies("AA", wire.aa),
                of_replies("AD", wire.ad),
            ],
        ),
        shares(
            width,
            "Of the queries",
            count,
            &[
                of_queries("CD", wire.cd),
                of_queries("DO", wire.dnssec_ok),
                of_queries("ECS", wire.ecs),
            ],
        ),
        shares(
            width,
            &distinct("Distinct names", dns.cardinality.error_pct),
            count,
            &[part("query names", dns.cardinality.qname, 0)],
        ),
        quantiles(
            width,
            "Distributions",
            &[
                Spread { label: "messages/s", quantiles: dns.rates.total, number: si },
                Spread { label: "EDNS size", quantiles: dns.edns.udp_size, number: si },
            ],
        ),
    ]
}

fn lists(width: usize, dns: &Dns) -> Vec<(&'static str, Block)> {
    [
        ("Names, last 2 labels", count as fn(u64) -> String, &dns.top_qname2),
        ("Names, last 3 labels", count, &dns.top_qname3),
        ("Query types", count, &dns.top_qtype),
        ("Response codes", count, &dns.top_rcode),
        ("NOERROR names", count, &dns.top_noerror),
        ("NXDOMAIN names", count, &dns.top_nxdomain),
        ("SRVFAIL names", count, &dns.top_srvfail),
        ("REFUSED names", count, &dns.top_refused),
        ("Names without data", count, &dns.top_nodata),
        ("Names by bytes of replies", bytes, &dns.top_qname_by_resp_bytes),
        ("UDP ports of clients", count, &dns.top_udp_ports),
        ("Client subnets", count, &dns.top_ecs),
        ("Places of client subnets", count, &dns.top_geo_loc_ecs),
        ("Autonomous systems of client subnets", count, &dns.top_asn_ecs),
    ]
    .map(|(title, number, entries)| (title, top(width, title, number, entries)))
    .into()
}

/// Kinds of unpaired messages that are rare.
const RARE: [&str; 2] = ["duplicate", "unreachable"];

/// Adds the section on transactions, if there are any.
pub(super) fn transactions(page: &mut Page, xact: &Xact) {
    let counts = &xact.counts;
    let rest = [
        (counts.timed_out, "timed out"),
        (counts.orphans, "orphaned"),
        (counts.duplicates, "duplicate"),
        (counts.unreachable, "unreachable"),
        (xact.open, "open"),
    ];
    if counts.total == 0 && rest.iter().all(|(n, _)| *n == 0) {
        return;
    }
    let mut facts = vec![format!("{} paired", count(counts.total))];
    // Rare kinds appear only if they occurred.
    let shown = rest.iter().filter(|(n, what)| *n > 0 || !RARE.contains(what));
    facts.extend(shown.map(|(n, what)| format!("{} {what}", count(*n))));
    page.section(Tone::Strong, "DNS TRANSACTIONS", &facts);
    let width = page.block_width();
    let directions = [("in", &xact.inbound), ("out", &xact.outbound), ("unknown", &xact.unknown)];
    let mut blocks = vec![
        shares(
            width,
            "Direction",
            count,
            &directions.map(|(label, direction)| part(label, direction.total, counts.total)),
        ),
        quantiles(
            width,
            "Latency",
            &directions.map(|(label, direction)| Spread {
                label,
                quantiles: direction.quantiles_us,
                number: micros,
            }),
        ),
        quantiles(
            width,
            "Bytes of reply per byte of query",
            &[Spread { label: "ratio", quantiles: xact.ratio, number: hundredths }],
        ),
    ];
    blocks.extend(directions.map(|(label, direction)| {
        histogram(width, &format!("Latency, {label}"), direction.histogram_us.as_ref())
    }));
    blocks.extend(directions.map(|(label, direction)| {
        top(width, &format!("Slow names, {label}"), count, &direction.top_slow)
    }));
    page.blocks(blocks);
}
