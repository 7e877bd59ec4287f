//! Summaries of DNS messages and transactions.

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use crate::direction::PerDirection;
use crate::sketch::cardinality::Cardinality;
use crate::sketch::latency::Latencies;
use crate::sketch::quantiles::Quantiles;
use crate::sketch::tally::Tally;
use crate::sketch::top::{Entry, Top, rank};

/// DNS messages by kind. Each message counts as 1 / sampling rate, whichever packets carried it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Inspected messages, not scaled.
    pub deep_samples: u64,
    /// Messages with QR clear.
    pub queries: u64,
    /// Messages with QR set.
    pub replies: u64,
    /// Unreadable messages.
    pub malformed: u64,
    /// Messages over TCP. All others came over UDP.
    pub tcp: u64,
    /// Messages over IPv6. All others came over IPv4.
    pub ipv6: u64,
    /// NOERROR replies to a standard query without an answer of the queried type (RFC 2308).
    pub nodata: u64,
    /// NOERROR replies to a standard query that refer to other servers.
    pub referral: u64,
    /// Replies with TC set.
    pub truncated: u64,
    /// Replies with AA set.
    pub aa: u64,
    /// Replies with AD set.
    pub ad: u64,
    /// Queries with CD set.
    pub cd: u64,
    /// Queries with DO set.
    pub dnssec_ok: u64,
    /// Queries with an EDNS client subnet.
    pub ecs: u64,
}

impl Wire {
    /// Returns the number of all messages.
    pub fn total(&self) -> u64 {
        self.queries.saturating_add(self.replies).saturating_add(self.malformed)
    }
}

impl Counters for Wire {
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        let Self {
            deep_samples,
            queries,
            replies,
            malformed,
            tcp,
            ipv6,
            nodata,
            referral,
            truncated,
            aa,
            ad,
            cd,
            dnssec_ok,
            ecs,
        } = self;
        vec![
            ("dns.deep_samples", deep_samples),
            ("dns.queries", queries),
            ("dns.replies", replies),
            ("dns.malformed", malformed),
            ("dns.tcp", tcp),
            ("dns.ipv6", ipv6),
            ("dns.nodata", nodata),
            ("dns.referral", referral),
            ("dns.truncated", truncated),
            ("dns.aa", aa),
            ("dns.ad", ad),
            ("dns.cd", cd),
            ("dns.do", dnssec_ok),
            ("dns.ecs", ecs),
        ]
    }
}

/// Transactions of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct XactDirection {
    /// Latencies in microseconds, not scaled.
    pub quantiles: Quantiles,
    /// Latencies by class, with the names of slow transactions.
    pub classes: Latencies,
}

impl XactDirection {
    fn merge(&mut self, other: &Self) {
        let Self { quantiles, classes } = self;
        quantiles.merge(&other.quantiles);
        classes.merge(&other.classes);
    }
}

/// Queries and replies that did not form a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpaired {
    /// Queries without a reply before the timeout.
    pub timed_out: u64,
    /// Replies without a query.
    pub orphans: u64,
    /// Further replies to an answered query.
    pub duplicates: u64,
    /// Queries that ICMP reported as undeliverable.
    pub unreachable: u64,
    /// Queries that wait for their reply. Set only in summaries that end at the current time.
    pub open: u64,
}

impl Counters for Unpaired {
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        let Self { timed_out, orphans, duplicates, unreachable, open } = self;
        vec![
            ("dns.xact.timed_out", timed_out),
            ("dns.xact.orphans", orphans),
            ("dns.xact.duplicates", duplicates),
            ("dns.xact.unreachable", unreachable),
            ("dns.xact.open", open),
        ]
    }
}

/// Transactions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Xact {
    /// Queries and replies that did not form a transaction. The byte form has them among its
    /// counters.
    #[serde(skip)]
    pub unpaired: Unpaired,
    /// Answered queries by direction of the reply.
    pub directions: PerDirection<XactDirection>,
    /// Bytes of the reply per byte of the query, in hundredths, not scaled.
    pub ratio: Quantiles,
}

impl Xact {
    fn merge(&mut self, other: &Self) {
        let Self { unpaired, directions, ratio } = self;
        unpaired.add(&other.unpaired);
        for (mine, theirs) in directions.zip_mut(&other.directions) {
            mine.merge(theirs);
        }
        ratio.merge(&other.ratio);
    }
}

/// DNS messages and transactions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DnsSummary {
    /// Messages by kind. The byte form has them among its counters.
    #[serde(skip)]
    pub wire: Wire,
    /// Distinct query names.
    pub qnames: Cardinality,
    /// Messages by the last two labels of the query name.
    pub qname2: Top<Box<str>>,
    /// Messages by the last three labels of the query name.
    pub qname3: Top<Box<str>>,
    /// NXDOMAIN replies by query name.
    pub nxdomain: Top<Box<str>>,
    /// REFUSED replies by query name.
    pub refused: Top<Box<str>>,
    /// SERVFAIL replies by query name.
    pub servfail: Top<Box<str>>,
    /// NODATA replies (RFC 2308) by query name.
    pub nodata: Top<Box<str>>,
    /// NOERROR replies by query name.
    pub noerror: Top<Box<str>>,
    /// Bytes of replies by query name.
    pub reply_bytes: Top<Box<str>>,
    /// Questions by type.
    pub qtypes: Tally,
    /// Replies by response code.
    pub rcodes: Tally,
    /// UDP messages by the port that is not the DNS port.
    pub udp_ports: Tally,
    /// Queries by client subnet.
    pub ecs: Top<Box<str>>,
    /// Queries by the location of their client subnet.
    pub ecs_places: Top<Box<str>>,
    /// Queries by the autonomous system of their client subnet.
    pub ecs_systems: Top<Box<str>>,
    /// Advertised UDP payload sizes, not scaled.
    pub udp_size: Tally,
    /// Transactions. The byte form has them in a section of their own.
    #[serde(skip)]
    pub xact: Xact,
}

impl DnsSummary {
    /// Returns the number of distinct query names, at most the number of questions.
    pub fn distinct_qnames(&self) -> u64 {
        self.qnames.count(self.qtypes.total())
    }

    /// Returns the client ports with the most UDP messages.
    pub fn top_udp_ports(&self) -> Vec<Entry> {
        rank(self.udp_ports.iter().map(|(port, count)| (port.to_string(), count)), |_| None)
    }

    /// Keeps the `keys` highest keys of each top list, see [`Top::truncate`].
    pub(super) fn truncate_lists(&mut self, keys: usize) {
        let Self {
            wire: _,
            qnames: _,
            qname2,
            qname3,
            nxdomain,
            refused,
            servfail,
            nodata,
            noerror,
            reply_bytes,
            qtypes: _,
            rcodes: _,
            udp_ports: _,
            ecs,
            ecs_places,
            ecs_systems,
            udp_size: _,
            xact: _,
        } = self;
        let of_names = [qname2, qname3, nxdomain, refused, servfail, nodata, noerror, reply_bytes];
        for list in of_names.into_iter().chain([ecs, ecs_places, ecs_systems]) {
            list.truncate(keys);
        }
    }

    /// Removes all keys: top lists, cardinalities, ports and the names of slow transactions.
    pub(super) fn drop_keys(&mut self) {
        let Self {
            wire,
            qnames: _,
            qname2: _,
            qname3: _,
            nxdomain: _,
            refused: _,
            servfail: _,
            nodata: _,
            noerror: _,
            reply_bytes: _,
            qtypes,
            rcodes,
            udp_ports: _,
            ecs: _,
            ecs_places: _,
            ecs_systems: _,
            udp_size,
            mut xact,
        } = std::mem::take(self);
        for direction in xact.directions.as_array_mut() {
            direction.classes.drop_names();
        }
        *self = Self { wire, qtypes, rcodes, udp_size, xact, ..Self::default() };
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Self {
            wire,
            qnames,
            qname2,
            qname3,
            nxdomain,
            refused,
            servfail,
            nodata,
            noerror,
            reply_bytes,
            qtypes,
            rcodes,
            udp_ports,
            ecs,
            ecs_places,
            ecs_systems,
            udp_size,
            xact,
        } = self;
        wire.add(&other.wire);
        qnames.merge(&other.qnames);
        qname2.merge(&other.qname2);
        qname3.merge(&other.qname3);
        nxdomain.merge(&other.nxdomain);
        refused.merge(&other.refused);
        servfail.merge(&other.servfail);
        nodata.merge(&other.nodata);
        noerror.merge(&other.noerror);
        reply_bytes.merge(&other.reply_bytes);
        qtypes.merge(&other.qtypes);
        rcodes.merge(&other.rcodes);
        udp_ports.merge(&other.udp_ports);
        ecs.merge(&other.ecs);
        ecs_places.merge(&other.ecs_places);
        ecs_systems.merge(&other.ecs_systems);
        udp_size.merge(&other.udp_size);
        xact.merge(&other.xact);
    }
}
