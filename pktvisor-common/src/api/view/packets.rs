//! The view of packets of every kind.

use super::{IN, OUT, UNKNOWN, list, quantiles};
use crate::api::{
    PacketBytesTotals, PacketCardinality, PacketRates, Packets, Protocol, TcpFlags, TopEntry,
};
use crate::sketch::cardinality::Cardinality;
use crate::sketch::tally::Tally;
use crate::sketch::top::rank;
use crate::summary::packets::{PacketSketches, Totals};
use crate::summary::rates::RatePercentiles;

/// The `packets` part of a view.
pub(super) fn view(totals: &Totals, sketches: &PacketSketches, rates: &RatePercentiles) -> Packets {
    let total = totals.total();
    let cardinalities = [&sketches.sources_in, &sketches.destinations_out, &sketches.addresses];
    Packets {
        total,
        deep_samples: sketches.deep_samples,
        udp: totals.udp,
        tcp: totals.tcp,
        other_l4: total.saturating_sub(totals.udp).saturating_sub(totals.tcp),
        icmp: totals.icmp,
        ipv4: totals.ipv4,
        ipv6: totals.ipv6,
        non_ip: total.saturating_sub(totals.ipv4).saturating_sub(totals.ipv6),
        inbound: totals.packets[IN],
        outbound: totals.packets[OUT],
        unknown_dir: totals.packets[UNKNOWN],
        bytes: PacketBytesTotals {
            total: totals.bytes.iter().fold(0, |sum, &n| sum.saturating_add(n)),
            inbound: totals.bytes[IN],
            outbound: totals.bytes[OUT],
        },
        protocol: Protocol { tcp: TcpFlags { syn: totals.syn, fin: totals.fin, rst: totals.rst } },
        fragments: totals.fragments,
        malformed: totals.malformed,
        cardinality: PacketCardinality {
            src_ips_in: sketches.sources_in.count(sketches.deep_samples.min(totals.packets[IN])),
            dst_ips_out: sketches
                .destinations_out
                .count(sketches.deep_samples.min(totals.packets[OUT])),
            src_ips_in_max: None,
            dst_ips_out_max: None,
            ips_max: None,
            ips: sketches.addresses.count(sketches.deep_samples.saturating_mul(2)),
            error_pct: cardinalities.map(Cardinality::error_pct).into_iter().fold(0.0, f64::max),
        },
        rates: PacketRates {
            pps_in: quantiles(rates.pps_in),
            pps_out: quantiles(rates.pps_out),
            pps_total: quantiles(rates.pps_total),
            bps_in: quantiles(rates.bps_in),
            bps_out: quantiles(rates.bps_out),
            bps_total: quantiles(rates.bps_total),
        },
        top_ipv4: list(sketches.ipv4.entries()),
        top_ipv6: list(sketches.ipv6.entries()),
        top_ips_bytes: list(sketches.bytes.entries()),
        top_geo_loc: list(sketches.places.entries()),
        top_asn: list(sketches.systems.entries()),
        top_ports: top_ports(sketches),
        payload_size: quantiles(sketches.payload.percentiles()),
    }
}

/// TCP and UDP ports in one list.
fn top_ports(sketches: &PacketSketches) -> Vec<TopEntry> {
    let named = |tally: &Tally, transport: &str| -> Vec<(String, u64)> {
        tally.iter().map(|(port, count)| (format!("{port}/{transport}"), count)).collect()
    };
    let tcp = named(&sketches.tcp_ports, "tcp");
    list(rank(tcp.into_iter().chain(named(&sketches.udp_ports, "udp")), |_| None))
}
