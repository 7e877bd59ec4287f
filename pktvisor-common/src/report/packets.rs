//! The section on packets.

use super::layout::{Block, Page, Tone};
use super::number::{bytes, count, si};
use super::table::{Part, Spread, part, quantiles, shares, top};
use super::{distinct, inspected, tops};
use crate::api::{Capture, Packets};

/// Adds the section.
pub(super) fn section(page: &mut Page, packets: &Packets, capture: &Capture) {
    let mut facts = vec![count(packets.total), bytes(packets.bytes.total)];
    facts.extend(inspected(packets.deep_samples, packets.total));
    page.section(Tone::Strong, "PACKETS", &facts);
    if packets.total == 0 {
        return;
    }
    page.blocks(counts(page.block_width(), packets, capture));
    tops(page, lists(page.block_width(), packets));
}

fn counts(width: usize, packets: &Packets, capture: &Capture) -> Vec<Block> {
    let of_all = |label, value| part(label, value, packets.total);
    let totals = &packets.bytes;
    let outcomes: Vec<Part<'_>> =
        capture.outcomes.iter().map(|(name, n)| of_all(name, *n)).collect();
    vec![
        shares(
            width,
            "Direction",
            count,
            &[
                of_all("in", packets.inbound),
                of_all("out", packets.outbound),
                of_all("unknown", packets.unknown_dir),
            ],
        ),
        shares(
            width,
            "Bytes",
            bytes,
            &[
                part("in", totals.inbound, totals.total),
                part("out", totals.outbound, totals.total),
                part(
                    "unknown",
                    totals.total.saturating_sub(totals.inbound).saturating_sub(totals.outbound),
                    totals.total,
                ),
            ],
        ),
        shares(
            width,
            "Network",
            count,
            &[
                of_all("IPv4", packets.ipv4),
                of_all("IPv6", packets.ipv6),
                of_all("non-IP", packets.non_ip),
            ],
        ),
        shares(
            width,
            "Transport",
            count,
            &[
                of_all("UDP", packets.udp),
                of_all("TCP", packets.tcp),
                of_all("ICMP", packets.icmp),
                of_all("other", packets.other_l4.saturating_sub(packets.icmp)),
            ],
        ),
        shares(
            width,
            "Kinds",
            count,
            &[
                part("TCP SYN", packets.protocol.tcp.syn, packets.tcp),
                part("TCP FIN", packets.protocol.tcp.fin, packets.tcp),
                part("TCP RST", packets.protocol.tcp.rst, packets.tcp),
                of_all("fragments", packets.fragments),
            ],
        ),
        addresses(width, packets),
        quantiles(width, "Per second", &rates(packets)),
        quantiles(
            width,
            "Bytes per packet",
            &[Spread { label: "payload", quantiles: packets.payload_size, number: si }],
        ),
        if outcomes.is_empty() {
            Block::new()
        } else {
            shares(width, "Outcomes", count, &outcomes)
        },
    ]
}

fn addresses(width: usize, packets: &Packets) -> Block {
    let cardinality = &packets.cardinality;
    let title = distinct("Distinct addresses", cardinality.error_pct);
    shares(
        width,
        &title,
        count,
        &[
            part("sources in", cardinality.src_ips_in, 0),
            part("destinations out", cardinality.dst_ips_out, 0),
            part("at either end", cardinality.ips, 0),
        ],
    )
}

fn rates(packets: &Packets) -> [Spread<'static>; 6] {
    let rates = &packets.rates;
    [
        ("packets in", rates.pps_in),
        ("packets out", rates.pps_out),
        ("packets", rates.pps_total),
        ("bits in", rates.bps_in),
        ("bits out", rates.bps_out),
        ("bits", rates.bps_total),
    ]
    .map(|(label, quantiles)| Spread { label, quantiles, number: si })
}

fn lists(width: usize, packets: &Packets) -> Vec<(&'static str, Block)> {
    [
        ("Remote IPv4 addresses", count as fn(u64) -> String, &packets.top_ipv4),
        ("Remote IPv6 addresses", count, &packets.top_ipv6),
        ("Remote addresses by bytes", bytes, &packets.top_ips_bytes),
        ("Places", count, &packets.top_geo_loc),
        ("Autonomous systems", count, &packets.top_asn),
        ("Ports", count, &packets.top_ports),
    ]
    .map(|(title, number, entries)| (title, top(width, title, number, entries)))
    .into()
}
