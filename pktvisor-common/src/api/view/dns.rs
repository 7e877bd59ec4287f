//! The DNS part of the view.

use super::{list, named, quantiles};
use crate::api::{self, Dns, DnsCardinality, DnsRates, Edns, Histogram, WirePackets, XactCounts};
use crate::iana;
use crate::sketch::latency::Latencies;
use crate::sketch::tally::Tally;
use crate::summary::dns::{DnsSummary, Wire, Xact, XactDirection};
use crate::summary::rates::RatePercentiles;

/// Returns the `dns` part of a view.
pub(super) fn view(dns: &DnsSummary, rates: &RatePercentiles) -> Dns {
    Dns {
        wire_packets: wire_packets(&dns.wire, &dns.rcodes),
        rates: DnsRates { total: quantiles(rates.dns) },
        cardinality: DnsCardinality {
            qname: dns.distinct_qnames(),
            qname_max: None,
            error_pct: dns.qnames.error_pct(),
        },
        top_qname2: list(dns.qname2.entries()),
        top_qname3: list(dns.qname3.entries()),
        top_nxdomain: list(dns.nxdomain.entries()),
        top_refused: list(dns.refused.entries()),
        top_srvfail: list(dns.servfail.entries()),
        top_nodata: list(dns.nodata.entries()),
        top_noerror: list(dns.noerror.entries()),
        top_qname_by_resp_bytes: list(dns.reply_bytes.entries()),
        top_qtype: named(&dns.qtypes, |qtype| iana::type_name(qtype).into_owned()),
        top_rcode: named(&dns.rcodes, |rcode| iana::rcode_name(rcode).into_owned()),
        top_udp_ports: list(dns.top_udp_ports()),
        top_ecs: list(dns.ecs.entries()),
        top_geo_loc_ecs: list(dns.ecs_places.entries()),
        top_asn_ecs: list(dns.ecs_systems.entries()),
        edns: Edns { udp_size: quantiles(dns.udp_size.percentiles()) },
        xact: transactions(&dns.xact),
    }
}

fn wire_packets(wire: &Wire, rcodes: &Tally) -> WirePackets {
    let Wire { deep_samples, queries, replies, malformed, tcp, ipv6, nodata, .. } = *wire;
    let total = wire.total();
    let named =
        [iana::NOERROR, iana::FORMERR, iana::SERVFAIL, iana::NXDOMAIN, iana::NOTIMP, iana::REFUSED]
            .map(|wanted| {
                rcodes.iter().find(|&(rcode, _)| rcode == wanted).map_or(0, |(_, count)| count)
            });
    let [noerror, formerr, srvfail, nxdomain, notimp, refused] = named;
    let other_rcode = named.iter().fold(replies, |rest, &count| rest.saturating_sub(count));
    WirePackets {
        total,
        deep_samples,
        queries,
        replies,
        malformed,
        udp: total.saturating_sub(tcp),
        tcp,
        ipv4: total.saturating_sub(ipv6),
        ipv6,
        noerror,
        nxdomain,
        srvfail,
        refused,
        formerr,
        notimp,
        other_rcode,
        nodata,
        referral: wire.referral,
        truncated: wire.truncated,
        aa: wire.aa,
        ad: wire.ad,
        cd: wire.cd,
        dnssec_ok: wire.dnssec_ok,
        ecs: wire.ecs,
    }
}

fn transactions(xact: &Xact) -> api::Xact {
    let direction =
        |XactDirection { quantiles: latencies, classes }: &XactDirection| api::XactDirection {
            total: classes.total(),
            quantiles_us: quantiles(latencies.percentiles()),
            histogram_us: histogram(classes),
            top_slow: list(classes.slow()),
        };
    let [inbound, outbound, unknown] = xact.directions.by_query().as_array().map(direction);
    api::Xact {
        counts: XactCounts {
            total: inbound.total.saturating_add(outbound.total).saturating_add(unknown.total),
            timed_out: xact.unpaired.timed_out,
            orphans: xact.unpaired.orphans,
            duplicates: xact.unpaired.duplicates,
            unreachable: xact.unpaired.unreachable,
        },
        open: xact.unpaired.open,
        inbound,
        outbound,
        unknown,
        ratio: quantiles(xact.ratio.percentiles()),
    }
}

/// Returns the counts by class; `None` without transactions.
fn histogram(latencies: &Latencies) -> Option<Histogram> {
    let (le, count): (Vec<u64>, Vec<u64>) = latencies.filled().unzip();
    (!le.is_empty()).then_some(Histogram { le, count })
}
