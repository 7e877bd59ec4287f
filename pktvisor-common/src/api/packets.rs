//! `packets` of a view.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Quantiles, TopEntry};

/// Packets of every kind. Counts are exact at any sampling rate; tops, cardinality and sizes come
/// from the packets chosen for deep inspection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Packets {
    /// Packets seen, each once.
    pub total: u64,
    /// Packets chosen for deep inspection.
    pub deep_samples: u64,
    /// UDP packets, first fragments too.
    pub udp: u64,
    /// TCP packets, first fragments too.
    pub tcp: u64,
    /// All that is neither UDP nor TCP: other protocols, non-first fragments, malformed, no IP.
    pub other_l4: u64,
    /// ICMP and ICMPv6 packets; they are part of `other_l4`.
    #[serde(default)]
    pub icmp: u64,
    /// IPv4 packets.
    pub ipv4: u64,
    /// IPv6 packets.
    pub ipv6: u64,
    /// Packets that are not IP.
    #[serde(default)]
    pub non_ip: u64,
    /// Packets to HOST.
    #[serde(rename = "in")]
    pub inbound: u64,
    /// Packets from HOST.
    #[serde(rename = "out")]
    pub outbound: u64,
    /// Packets neither to nor from HOST.
    #[serde(default)]
    pub unknown_dir: u64,
    /// Bytes on the wire, link header included.
    #[serde(default)]
    pub bytes: PacketBytesTotals,
    /// Counts within a protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// IP fragments, the first ones too.
    #[serde(default)]
    pub fragments: u64,
    /// Packets whose headers are cut short or contradict themselves.
    #[serde(default)]
    pub malformed: u64,
    /// Distinct addresses.
    pub cardinality: PacketCardinality,
    /// Quantiles of the rates of each full second.
    pub rates: PacketRates,
    /// Packets by remote IPv4 address.
    pub top_ipv4: Vec<TopEntry>,
    /// Packets by remote IPv6 address.
    pub top_ipv6: Vec<TopEntry>,
    /// Bytes by remote address of either version.
    #[serde(default)]
    pub top_ips_bytes: Vec<TopEntry>,
    /// Packets by the place of the remote address.
    #[serde(rename = "top_geoLoc")]
    pub top_geo_loc: Vec<TopEntry>,
    /// Packets by the autonomous system of the remote address.
    #[serde(rename = "top_ASN")]
    pub top_asn: Vec<TopEntry>,
    /// Packets by the lower port of their flow, `443/tcp`.
    #[serde(default)]
    pub top_ports: Vec<TopEntry>,
    /// Bytes of transport payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub payload_size: Option<Quantiles>,
}

/// Bytes on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketBytesTotals {
    /// Of all packets.
    pub total: u64,
    /// Of packets to HOST.
    #[serde(rename = "in")]
    pub inbound: u64,
    /// Of packets from HOST.
    #[serde(rename = "out")]
    pub outbound: u64,
}

/// Counts within a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Protocol {
    /// TCP.
    pub tcp: TcpFlags,
}

/// TCP packets with a flag set, whatever other flags they have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TcpFlags {
    /// SYN.
    pub syn: u64,
    /// FIN.
    pub fin: u64,
    /// RST.
    pub rst: u64,
}

/// Distinct addresses; lower bounds where packets were sampled, and where the fleet keys of summaries
/// that were merged differ: then there are upper bounds too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PacketCardinality {
    /// Sources of packets to HOST.
    pub src_ips_in: u64,
    /// What they are at most; left out where `src_ips_in` is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub src_ips_in_max: Option<u64>,
    /// Destinations of packets from HOST.
    pub dst_ips_out: u64,
    /// What they are at most; left out where `dst_ips_out` is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dst_ips_out_max: Option<u64>,
    /// Addresses at either end of packets of any direction.
    #[serde(default)]
    pub ips: u64,
    /// What they are at most; left out where `ips` is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ips_max: Option<u64>,
    /// Standard error of the three in percent, for addresses that were chosen without knowledge of the
    /// fleet's key; 0 while they are exact.
    #[serde(default)]
    pub error_pct: f64,
}

/// Quantiles over the full seconds of the period, idle ones included. Left out where the period
/// holds no full second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketRates {
    /// Packets per second to HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pps_in: Option<Quantiles>,
    /// Packets per second from HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pps_out: Option<Quantiles>,
    /// Packets per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pps_total: Option<Quantiles>,
    /// Bits per second to HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bps_in: Option<Quantiles>,
    /// Bits per second from HOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bps_out: Option<Quantiles>,
    /// Bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bps_total: Option<Quantiles>,
}
