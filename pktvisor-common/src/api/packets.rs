//! The `packets` part of a view.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Quantiles, TopEntry};

/// Packets of all protocols. Counts are exact at any sampling rate. Top lists, cardinality and sizes
/// come from the packets chosen for deep inspection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Packets {
    /// All packets, each counted once.
    pub total: u64,
    /// Packets chosen for deep inspection.
    pub deep_samples: u64,
    /// UDP packets, including first fragments.
    pub udp: u64,
    /// TCP packets, including first fragments.
    pub tcp: u64,
    /// Packets that are neither UDP nor TCP: other protocols, non-first fragments, malformed and
    /// non-IP packets.
    pub other_l4: u64,
    /// ICMP and ICMPv6 packets. `other_l4` includes them.
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
    /// Bytes on the wire, including the link-layer header.
    #[serde(default)]
    pub bytes: PacketBytesTotals,
    /// Counts by protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// IP fragments, including first fragments.
    #[serde(default)]
    pub fragments: u64,
    /// Packets whose headers are cut short or contradict each other.
    #[serde(default)]
    pub malformed: u64,
    /// Distinct addresses.
    pub cardinality: PacketCardinality,
    /// Quantiles of the rates over the full seconds.
    pub rates: PacketRates,
    /// Packets by remote IPv4 address.
    pub top_ipv4: Vec<TopEntry>,
    /// Packets by remote IPv6 address.
    pub top_ipv6: Vec<TopEntry>,
    /// Bytes by remote IPv4 or IPv6 address.
    #[serde(default)]
    pub top_ips_bytes: Vec<TopEntry>,
    /// Packets by location of the remote address.
    #[serde(rename = "top_geoLoc")]
    pub top_geo_loc: Vec<TopEntry>,
    /// Packets by autonomous system of the remote address.
    #[serde(rename = "top_ASN")]
    pub top_asn: Vec<TopEntry>,
    /// Packets by the lower port of their flow, such as `443/tcp`.
    #[serde(default)]
    pub top_ports: Vec<TopEntry>,
    /// Bytes of TCP or UDP payload per packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub payload_size: Option<Quantiles>,
}

/// Bytes on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketBytesTotals {
    /// Bytes of all packets.
    pub total: u64,
    /// Bytes of packets to HOST.
    #[serde(rename = "in")]
    pub inbound: u64,
    /// Bytes of packets from HOST.
    #[serde(rename = "out")]
    pub outbound: u64,
}

/// Counts by protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Protocol {
    /// TCP packets by flag.
    pub tcp: TcpFlags,
}

/// TCP packets with a flag set, regardless of other flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TcpFlags {
    /// Packets with SYN set.
    pub syn: u64,
    /// Packets with FIN set.
    pub fin: u64,
    /// Packets with RST set.
    pub rst: u64,
}

/// Distinct addresses. If packets were sampled, the counts are lower bounds. If summaries of different
/// fleet keys were merged, they are lower bounds too, and the `_max` fields are the upper bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PacketCardinality {
    /// Distinct sources of packets to HOST.
    pub src_ips_in: u64,
    /// Upper bound of `src_ips_in`. Left out unless the merged summaries have different fleet keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub src_ips_in_max: Option<u64>,
    /// Distinct destinations of packets from HOST.
    pub dst_ips_out: u64,
    /// Upper bound of `dst_ips_out`. Left out unless the merged summaries have different fleet keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dst_ips_out_max: Option<u64>,
    /// Distinct addresses, source or destination, of packets of any direction.
    #[serde(default)]
    pub ips: u64,
    /// Upper bound of `ips`. Left out unless the merged summaries have different fleet keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ips_max: Option<u64>,
    /// Standard error of the three counts in percent, for addresses chosen without knowledge of the
    /// fleet key; 0 if the counts are exact.
    #[serde(default)]
    pub error_pct: f64,
}

/// Quantiles over the full seconds of the period, including idle ones. Left out if the period has no
/// full second.
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
    /// Packets per second, all directions.
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
    /// Bits per second, all directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bps_total: Option<Quantiles>,
}
