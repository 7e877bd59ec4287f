//! The `dns` part of a view.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Quantiles, TopEntry};

/// DNS messages and transactions over UDP and TCP, including mDNS and LLMNR.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dns {
    /// DNS messages.
    pub wire_packets: WirePackets,
    /// Quantiles of the rates over the full seconds.
    #[serde(default)]
    pub rates: DnsRates,
    /// Distinct query names.
    pub cardinality: DnsCardinality,
    /// Messages by the last two labels of the query name, or as cut by `--public-suffix`.
    pub top_qname2: Vec<TopEntry>,
    /// Messages by the last three labels of the query name, or as cut by `--public-suffix`.
    pub top_qname3: Vec<TopEntry>,
    /// NXDOMAIN replies by query name.
    pub top_nxdomain: Vec<TopEntry>,
    /// REFUSED replies by query name.
    pub top_refused: Vec<TopEntry>,
    /// SERVFAIL replies by query name.
    pub top_srvfail: Vec<TopEntry>,
    /// NODATA replies (RFC 2308) by query name.
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
    /// Replies by response code, including extended ones (EDNS).
    pub top_rcode: Vec<TopEntry>,
    /// UDP messages by the port that is not the DNS port.
    pub top_udp_ports: Vec<TopEntry>,
    /// Queries by EDNS client subnet.
    #[serde(default)]
    pub top_ecs: Vec<TopEntry>,
    /// Queries by location of their EDNS client subnet.
    #[serde(default, rename = "top_geoLoc_ecs")]
    pub top_geo_loc_ecs: Vec<TopEntry>,
    /// Queries by autonomous system of their EDNS client subnet.
    #[serde(default, rename = "top_ASN_ecs")]
    pub top_asn_ecs: Vec<TopEntry>,
    /// Parameters advertised in EDNS.
    #[serde(default)]
    pub edns: Edns,
    /// Transactions: queries and their replies.
    pub xact: Xact,
}

/// DNS messages by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WirePackets {
    /// All DNS messages: queries, replies and malformed ones.
    pub total: u64,
    /// Inspected DNS messages, not scaled.
    #[serde(default)]
    pub deep_samples: u64,
    /// Messages with QR clear.
    pub queries: u64,
    /// Messages with QR set.
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
    /// Replies with any other RCODE, including extended ones (EDNS).
    #[serde(default)]
    pub other_rcode: u64,
    /// NOERROR replies to a standard query without an answer of the queried type (RFC 2308).
    #[serde(default)]
    pub nodata: u64,
    /// NOERROR replies to a standard query that refer to other servers: no answer, NS but no SOA, AA
    /// clear.
    #[serde(default)]
    pub referral: u64,
    /// Replies with TC (truncated) set.
    #[serde(default)]
    pub truncated: u64,
    /// Replies with AA (authoritative answer) set.
    #[serde(default)]
    pub aa: u64,
    /// Replies with AD (authentic data) set.
    #[serde(default)]
    pub ad: u64,
    /// Queries with CD (checking disabled) set.
    #[serde(default)]
    pub cd: u64,
    /// Queries with DO (DNSSEC OK) set.
    #[serde(default, rename = "do")]
    pub dnssec_ok: u64,
    /// Queries with an EDNS client subnet.
    #[serde(default)]
    pub ecs: u64,
}

/// Quantiles over the full seconds of the period, including idle ones. Left out if the period has no
/// full second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsRates {
    /// DNS messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub total: Option<Quantiles>,
}

/// Distinct query names. If messages were sampled, the count is a lower bound. If summaries of
/// different fleet keys were merged, it is a lower bound too, and `qname_max` is the upper bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DnsCardinality {
    /// Distinct query names, compared case-insensitively (RFC 4343).
    pub qname: u64,
    /// Upper bound of `qname`. Left out unless the merged summaries have different fleet keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub qname_max: Option<u64>,
    /// Standard error in percent, for names chosen without knowledge of the fleet key; 0 if the
    /// count is exact.
    #[serde(default)]
    pub error_pct: f64,
}

/// Parameters advertised in EDNS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edns {
    /// Advertised UDP payload sizes in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub udp_size: Option<Quantiles>,
}

/// Transactions. A transaction belongs to the bucket of its reply, a timeout to that of its
/// deadline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Xact {
    /// Transactions, and queries and replies that did not form one.
    pub counts: XactCounts,
    /// Queries that wait for their reply at the end of the view.
    #[serde(default)]
    pub open: u64,
    /// HOST is the server: the reply is an outbound packet.
    #[serde(rename = "in")]
    pub inbound: XactDirection,
    /// HOST is the client, or both ends are HOST: the reply is an inbound packet.
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
    /// Queries without a reply before the timeout.
    #[serde(default)]
    pub timed_out: u64,
    /// Replies without a query.
    #[serde(default)]
    pub orphans: u64,
    /// Further replies to an answered query.
    #[serde(default)]
    pub duplicates: u64,
    /// Queries that ICMP or ICMPv6 reported as undeliverable.
    #[serde(default)]
    pub unreachable: u64,
}

/// Transactions of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct XactDirection {
    /// Number of transactions.
    pub total: u64,
    /// Latency from query to reply in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quantiles_us: Option<Quantiles>,
    /// Histogram of the latencies, for merging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub histogram_us: Option<Histogram>,
    /// Query names of slow transactions: those in the latency class of the 90th percentile or above.
    #[serde(default)]
    pub top_slow: Vec<TopEntry>,
}

/// A histogram whose upper bounds are spaced by a factor of √2. Empty classes at both ends are left
/// out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Histogram {
    /// Upper bounds in microseconds, inclusive, ascending.
    pub le: Vec<u64>,
    /// Number of values in each class: above the previous bound, up to and including this one.
    pub count: Vec<u64>,
}
