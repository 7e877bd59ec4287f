//! The packet part of the view.

use super::{list, quantiles};
use crate::api::{PacketBytesTotals, PacketCardinality, PacketRates, Packets, Protocol, TcpFlags};
use crate::direction::Direction;
use crate::summary::packets::{DistinctAddresses, PacketSketches, Totals};
use crate::summary::rates::RatePercentiles;

/// Returns the `packets` part of a view.
pub(super) fn view(totals: &Totals, sketches: &PacketSketches, rates: &RatePercentiles) -> Packets {
    let total = totals.total();
    Packets {
        total,
        deep_samples: sketches.deep_samples,
        udp: totals.udp,
        tcp: totals.tcp,
        other_l4: totals.other_transports().saturating_add(totals.icmp),
        icmp: totals.icmp,
        ipv4: totals.ipv4,
        ipv6: totals.ipv6,
        non_ip: totals.non_ip(),
        inbound: totals.packets[Direction::In],
        outbound: totals.packets[Direction::Out],
        unknown_dir: totals.packets[Direction::Unknown],
        bytes: PacketBytesTotals {
            total: totals.bytes.total(),
            inbound: totals.bytes[Direction::In],
            outbound: totals.bytes[Direction::Out],
        },
        protocol: Protocol { tcp: TcpFlags { syn: totals.syn, fin: totals.fin, rst: totals.rst } },
        fragments: totals.fragments,
        malformed: totals.malformed,
        cardinality: cardinality(sketches.distinct_addresses(totals)),
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
        top_ports: list(sketches.top_ports()),
        payload_size: quantiles(sketches.payload.percentiles()),
    }
}

fn cardinality(distinct: DistinctAddresses) -> PacketCardinality {
    let DistinctAddresses { sources_in, destinations_out, either_end, error_pct } = distinct;
    PacketCardinality {
        src_ips_in: sources_in,
        dst_ips_out: destinations_out,
        ips: either_end,
        src_ips_in_max: None,
        dst_ips_out_max: None,
        ips_max: None,
        error_pct,
    }
}
