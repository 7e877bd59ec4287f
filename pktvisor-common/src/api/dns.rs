//! `dns` of a view.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Quantiles, TopEntry};

/// DNS messages and transactions, over UDP and TCP, mDNS and LLMNR included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dns {
    /// DNS messages.
    pub wire_packets: WirePackets,
    /// Quantiles of the rates of each full second.
    #[serde(default)]
    pub rates: DnsRates,
    /// Distinct names.
    pub cardinality: DnsCardinality,
    /// Messages by the last two labels of the query name, or what `--public-suffix` makes of it.
    pub top_qname2: Vec<TopEntry>,
    /// Messages by the last three labels of the query name.
    pub top_qname3: Vec<TopEntry>,
    /// NXDOMAIN replies by query name.
    pub top_nxdomain: Vec<TopEntry>,
    /// REFUSED replies by query name.
    pub top_refused: Vec<TopEntry>,
    /// SERVFAIL replies by query name.
    pub top_srvfail: Vec<TopEntry>,
    /// NOERROR replies without answers by query name.
    #[serde(default)]
    pub top_nodata: Vec<TopEntry>,
    /// NOERROR replies by query name.
    #[serde(default)]
    pub top_noerror: Vec<TopEntry>,
    /// Bytes of replies by query name.
    #[serde(default)]
    pub top_qname_by_resp_bytes: Vec<TopEntry>,
    /// Questions by type.
    pub top_qtype: Vec<TopEntry>,
    /// Replies by response code, the extended ones of EDNS included.
    pub top_rcode: Vec<TopEntry>,
    /// UDP messages by the port of the side that is not the DNS port.
    pub top_udp_ports: Vec<TopEntry>,
    /// Queries by EDNS client subnet.
    #[serde(default)]
    pub top_ecs: Vec<TopEntry>,
    /// Queries by the place of their EDNS client subnet.
    #[serde(default, rename = "top_geoLoc_ecs")]
    pub top_geo_loc_ecs: Vec<TopEntry>,
    /// Queries by the autonomous system of their EDNS client subnet.
    #[serde(default, rename = "top_ASN_ecs")]
    pub top_asn_ecs: Vec<TopEntry>,
    /// What EDNS advertises.
    #[serde(default)]
    pub edns: Edns,
    /// Transactions: queries and their replies.
    pub xact: Xact,
}

/// DNS messages by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WirePackets {
    /// DNS messages: queries, replies and malformed ones.
    pub total: u64,
    /// DNS messages that were inspected.
    #[serde(default)]
    pub deep_samples: u64,
    /// Messages without QR.
    pub queries: u64,
    /// Messages with QR.
    pub replies: u64,
    /// Messages of less than 12 bytes or with an unreadable first question.
    #[serde(default)]
    pub malformed: u64,
    /// Messages over UDP.
    pub udp: u64,
    /// Messages over TCP.
    pub tcp: u64,
    /// Messages over IPv4.
    pub ipv4: u64,
    /// Messages over IPv6.
    pub ipv6: u64,
    /// Replies with RCODE 0.
    pub noerror: u64,
    /// Replies with RCODE 3.
    pub nxdomain: u64,
    /// Replies with RCODE 2.
    pub srvfail: u64,
    /// Replies with RCODE 5.
    pub refused: u64,
    /// Replies with RCODE 1.
    #[serde(default)]
    pub formerr: u64,
    /// Replies with RCODE 4.
    #[serde(default)]
    pub notimp: u64,
    /// Replies with any other RCODE, the extended ones of EDNS included.
    #[serde(default)]
    pub other_rcode: u64,
    /// NOERROR replies to a query without an answer of the type asked for (RFC 2308).
    #[serde(default)]
    pub nodata: u64,
    /// NOERROR replies that point to other servers: no answer, NS but no SOA, not AA.
    #[serde(default)]
    pub referral: u64,
    /// Replies with TC (truncated).
    #[serde(default)]
    pub truncated: u64,
    /// Replies with AA (authoritative answer).
    #[serde(default)]
    pub aa: u64,
    /// Replies with AD (authentic data).
    #[serde(default)]
    pub ad: u64,
    /// Queries with CD (checking disabled).
    #[serde(default)]
    pub cd: u64,
    /// Queries with DO (DNSSEC OK).
    #[serde(default, rename = "do")]
    pub dnssec_ok: u64,
    /// Queries with an EDNS client subnet.
    #[serde(default)]
    pub ecs: u64,
}

/// Quantiles over the full seconds of the period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsRates {
    /// DNS messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub total: Option<Quantiles>,
}

/// Distinct names; a lower bound where messages were sampled, and where the fleet keys of summaries
/// that were merged differ: then there is an upper bound too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DnsCardinality {
    /// Distinct query names, case-insensitively (RFC 4343).
    pub qname: u64,
    /// What they are at most; left out where `qname` is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub qname_max: Option<u64>,
    /// Standard error in percent, for names that were chosen without knowledge of the fleet's key; 0
    /// while exact.
    #[serde(default)]
    pub error_pct: f64,
}

/// What EDNS advertises.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edns {
    /// Advertised UDP payload sizes in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub udp_size: Option<Quantiles>,
}

/// Transactions. A pair belongs to the bucket of its reply, a timeout to that of its deadline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Xact {
    /// Pairs and what did not become one.
    pub counts: XactCounts,
    /// Queries that wait for their reply at the end of the view.
    #[serde(default)]
    pub open: u64,
    /// HOST is the server: its reply is an outbound packet.
    #[serde(rename = "in")]
    pub inbound: XactDirection,
    /// HOST is the client, or both ends are: the reply is an inbound packet.
    #[serde(rename = "out")]
    pub outbound: XactDirection,
    /// Neither end is HOST.
    #[serde(default)]
    pub unknown: XactDirection,
    /// Bytes of the reply per byte of the query, in hundredths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ratio: Option<Quantiles>,
}

/// Transaction counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct XactCounts {
    /// Pairs of a query and its reply.
    pub total: u64,
    /// Queries nobody answered in time.
    #[serde(default)]
    pub timed_out: u64,
    /// Replies without a query.
    #[serde(default)]
    pub orphans: u64,
    /// Further replies to a query that was answered.
    #[serde(default)]
    pub duplicates: u64,
    /// Queries that ICMP or ICMPv6 said cannot be delivered.
    #[serde(default)]
    pub unreachable: u64,
}

/// Transactions of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct XactDirection {
    /// Pairs.
    pub total: u64,
    /// Latency from query to reply in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quantiles_us: Option<Quantiles>,
    /// The latencies as a histogram, for merging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub histogram_us: Option<Histogram>,
    /// Names of slow transactions: those at or above the 90th percentile of latency.
    #[serde(default)]
    pub top_slow: Vec<TopEntry>,
}

/// A histogram with upper bounds spaced by a factor of √2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Histogram {
    /// Upper bounds in microseconds, inclusive, ascending.
    pub le: Vec<u64>,
    /// Values above the bound before and up to this one.
    pub count: Vec<u64>,
}
