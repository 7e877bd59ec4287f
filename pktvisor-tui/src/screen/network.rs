//! The *Network* screen: packets of every kind.

use pktvisor_common::api::MetricsView;
use pktvisor_common::report::number::{bytes, si};

use super::{overview, warn};
use crate::app::App;
use crate::panel::{Fact, Panel};

pub(super) fn panels(app: &App) -> Vec<Panel> {
    let Some(MetricsView { packets, .. }) = app.view() else { return Vec::new() };
    let (total, flags) = (packets.total, &packets.protocol.tcp);
    let kinds = vec![
        app.part("ICMP", packets.icmp, total).field("/packets/icmp"),
        app.part("non-IP", packets.non_ip, total).field("/packets/non_ip"),
        app.part("fragments", packets.fragments, total).field("/packets/fragments"),
        app.part("malformed", packets.malformed, total)
            .tone(warn(packets.malformed))
            .field("/packets/malformed"),
        app.part("unknown direction", packets.unknown_dir, total).field("/packets/unknown_dir"),
        app.part("TCP SYN", flags.syn, packets.tcp).field("/packets/protocol"),
        app.part("TCP FIN", flags.fin, packets.tcp).field("/packets/protocol"),
        app.part("TCP RST", flags.rst, packets.tcp).field("/packets/protocol"),
    ];
    let carried = &packets.bytes;
    let mut volume = vec![
        Fact::new("bytes in", app.bytes(carried.inbound))
            .of(carried.inbound, carried.total)
            .field("/packets/bytes"),
        Fact::new("bytes out", app.bytes(carried.outbound))
            .of(carried.outbound, carried.total)
            .field("/packets/bytes"),
        Fact::new("bytes/packet", bytes(carried.total.checked_div(total).unwrap_or(0)))
            .field("/packets/bytes"),
    ];
    volume.push(super::quantiles("payload", packets.payload_size, si));
    volume.push(
        Fact::new("addresses", app.distinct(packets.cardinality.ips, packets.cardinality.ips_max))
            .field("/packets/cardinality/ips"),
    );
    let [packet_rate, bit_rate] = super::traffic(app);
    vec![
        overview::counts(app, packets),
        overview::rates(app, packets),
        Panel::facts("Kinds", kinds),
        Panel::facts("Volume", volume).note(app.bytes(carried.total)),
        packet_rate,
        bit_rate,
        app.top("IPv4", &packets.top_ipv4, packets.ipv4),
        app.top("IPv6", &packets.top_ipv6, packets.ipv6),
        app.top_bytes("Bytes by address", &packets.top_ips_bytes, carried.total),
        app.top("Ports", &packets.top_ports, packets.total),
        app.top("GeoLoc", &packets.top_geo_loc, packets.total),
        app.top("ASN", &packets.top_asn, packets.total),
    ]
}
