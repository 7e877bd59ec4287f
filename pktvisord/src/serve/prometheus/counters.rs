//! Counters and histograms since the start of the daemon.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use pktvisor_common::direction::PerDirection;
use pktvisor_common::iana;
use pktvisor_common::loss::Loss;
use pktvisor_common::outcome::Outcome;
use pktvisor_common::sketch::tally::Tally;
use pktvisor_common::summary::cumulative::Cumulative;

use super::{Families, Label, Rest, direction, label};

/// Label value that sums all numbers without an IANA name, of which there may be thousands.
const OTHER: &str = "other";

pub(super) fn write(
    families: &mut Families<'_>,
    cumulative: &Cumulative,
    rest: Rest,
) -> fmt::Result {
    packets(families, cumulative, rest)?;
    account(families, cumulative)?;
    dns(families, cumulative)?;
    distributions(families, cumulative)
}

/// Builds one sample for each value of a label.
fn by<const N: usize>(
    name: &'static str,
    samples: [(&'static str, u64); N],
) -> [([Label<'static>; 1], u64); N] {
    samples.map(|(value, count)| ([label(name, value)], count))
}

fn one(count: u64) -> [([Label<'static>; 0], u64); 1] {
    [([], count)]
}

fn packets(families: &mut Families<'_>, cumulative: &Cumulative, rest: Rest) -> fmt::Result {
    let totals = &cumulative.totals;
    let directions = |counts: &PerDirection<u64>| {
        counts.iter().map(|(of, &count)| ([direction(of)], count)).collect::<Vec<_>>()
    };
    families.counter(
        "pktvisor_packets",
        "Packets by direction: to HOST, from HOST, or neither",
        directions(&totals.packets),
    )?;
    families.counter(
        "pktvisor_bytes",
        "Bytes on the wire by direction, including link headers",
        directions(&totals.bytes),
    )?;
    let transports = [("tcp", totals.tcp), ("udp", totals.udp), ("icmp", totals.icmp)];
    let other = (OTHER, rest.transport);
    let [tcp, udp, icmp] = transports;
    families.counter(
        "pktvisor_transport_packets",
        "Packets by transport; other counts other protocols, non-first fragments, malformed and non-IP packets",
        by("transport", [tcp, udp, icmp, other]),
    )?;
    families.counter(
        "pktvisor_ip_packets",
        "Packets by IP version",
        by("version", [("4", totals.ipv4), ("6", totals.ipv6), ("none", rest.ip)]),
    )?;
    families.counter(
        "pktvisor_tcp_flag_packets",
        "TCP packets by flag set",
        by("flag", [("syn", totals.syn), ("fin", totals.fin), ("rst", totals.rst)]),
    )?;
    families.counter("pktvisor_fragment_packets", "IP fragments", one(totals.fragments))?;
    families.counter(
        "pktvisor_deep_samples",
        "Packets chosen for deep inspection",
        one(cumulative.deep_samples),
    )
}

fn account(families: &mut Families<'_>, cumulative: &Cumulative) -> fmt::Result {
    let account = &cumulative.account;
    let outcomes = Outcome::ALL.into_iter().zip(account.outcomes);
    families.counter(
        "pktvisor_outcome_packets",
        "Packets by outcome; the outcomes sum to all packets",
        outcomes.map(|(outcome, count)| ([label("outcome", outcome.name())], count)),
    )?;
    let lost = |loss: Loss| account.losses.get(loss.name()).copied().unwrap_or(0);
    families.counter(
        "pktvisor_losses",
        "Packets, messages, streams or datagrams lost or evicted, by reason",
        Loss::ALL
            .into_iter()
            .filter(|loss| loss.is_lost())
            .map(|loss| ([label("reason", loss.name())], lost(loss))),
    )?;
    families.counter(
        "pktvisor_late_packets",
        "Packets with a time before the start of the bucket that counted them",
        one(account.late),
    )?;
    families.counter(
        "pktvisor_time_outliers",
        "Packets of a file with a time far off that of the surrounding packets",
        one(account.time_outliers),
    )?;
    families.counter(
        "pktvisor_unread_link_type_packets",
        "Packets of a file with an unsupported link type; no other metric counts them",
        one(account.unread_link_types),
    )
}

fn dns(families: &mut Families<'_>, cumulative: &Cumulative) -> fmt::Result {
    let wire = &cumulative.wire;
    let total = wire.total();
    families.counter(
        "pktvisor_dns_messages",
        "DNS messages by kind",
        by(
            "kind",
            [("query", wire.queries), ("reply", wire.replies), ("malformed", wire.malformed)],
        ),
    )?;
    families.counter(
        "pktvisor_dns_transport_messages",
        "DNS messages by transport",
        by("transport", [("udp", total.saturating_sub(wire.tcp)), ("tcp", wire.tcp)]),
    )?;
    families.counter(
        "pktvisor_dns_ip_messages",
        "DNS messages by IP version",
        by("version", [("4", total.saturating_sub(wire.ipv6)), ("6", wire.ipv6)]),
    )?;
    families.counter(
        "pktvisor_dns_replies",
        "DNS replies by response code, including extended codes, as IANA spells them",
        named("rcode", &cumulative.rcodes, RCODES, iana::rcode_mnemonic),
    )?;
    families.counter(
        "pktvisor_dns_questions",
        "Questions of DNS queries and replies by type, as IANA spells them",
        named("qtype", &cumulative.qtypes, 0..0, iana::type_mnemonic),
    )?;
    families.counter(
        "pktvisor_dns_flag_messages",
        "DNS messages by flag or option: replies with TC, AA, AD; queries with CD, DO, ECS",
        by(
            "flag",
            [
                ("tc", wire.truncated),
                ("aa", wire.aa),
                ("ad", wire.ad),
                ("cd", wire.cd),
                ("do", wire.dnssec_ok),
                ("ecs", wire.ecs),
            ],
        ),
    )?;
    families.counter(
        "pktvisor_dns_nodata_replies",
        "NOERROR replies without an answer of the queried type (RFC 2308)",
        one(wire.nodata),
    )?;
    families.counter(
        "pktvisor_dns_referral_replies",
        "NOERROR replies that refer to other servers",
        one(wire.referral),
    )?;
    let unpaired = &cumulative.unpaired;
    let answered: u64 =
        cumulative.latencies.iter().map(|(_, of)| of.count()).fold(0, u64::saturating_add);
    families.counter(
        "pktvisor_dns_transactions",
        "Completed DNS transactions: answered, timed out, or ended by an ICMP error",
        by(
            "outcome",
            [
                ("answered", answered),
                ("timed_out", unpaired.timed_out),
                ("unreachable", unpaired.unreachable),
            ],
        ),
    )?;
    families.counter(
        "pktvisor_dns_orphan_replies",
        "DNS replies without a matching query",
        one(unpaired.orphans),
    )?;
    families.counter(
        "pktvisor_dns_duplicate_replies",
        "Further DNS replies to an already answered query",
        one(unpaired.duplicates),
    )
}

/// Response codes that are exported even at zero: those of RFC 1035.
const RCODES: std::ops::Range<u16> = 0..6;

/// Sums counts by the names of their numbers. Numbers without a name are summed as [`OTHER`].
fn named(
    label: &'static str,
    tally: &Tally,
    always: std::ops::Range<u16>,
    name: fn(u16) -> Option<&'static str>,
) -> impl Iterator<Item = ([Label<'static>; 1], u64)> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (number, count) in always.map(|number| (number, 0)).chain(tally.iter()) {
        let sum = counts.entry(name(number).unwrap_or(OTHER)).or_default();
        *sum = sum.saturating_add(count);
    }
    counts.into_iter().map(move |(name, count)| ([(label, Cow::Borrowed(name))], count))
}

/// Microseconds in a second.
const MICROSECONDS: f64 = 1e6;

fn distributions(families: &mut Families<'_>, cumulative: &Cumulative) -> fmt::Result {
    families.histogram(
        "pktvisor_dns_transaction_duration_seconds",
        "Time from a DNS query to its reply, by direction of the query",
        MICROSECONDS,
        cumulative.latencies.by_query().iter().map(|(of, classes)| ([direction(of)], *classes)),
    )?;
    families.histogram(
        "pktvisor_dns_udp_size_bytes",
        "UDP payload sizes that inspected DNS messages advertise (RFC 6891)",
        1.0,
        [([], &cumulative.udp_size)],
    )?;
    families.histogram(
        "pktvisor_payload_size_bytes",
        "Payload sizes of inspected TCP and UDP packets",
        1.0,
        [([], &cumulative.payload)],
    )
}
