//! Summaries of agents whose fleet keys differ, summed up as far as that goes.
//!
//! Counters, rates and histograms add up whatever the keys are. Top lists are matched by what they
//! show, and their errors are added. Distinct counts can't be matched: of all keys together there are
//! at least as many as the largest count of one key, and at most as many as the counts add up to.

use std::collections::BTreeMap;

use crate::api;

use super::Summary;
use super::dns::{DnsSummary, Xact};
use super::packets::PacketSketches;
use super::state::Keyed;

/// The sum of all summaries of each key.
#[derive(Clone, Debug, Default)]
pub struct AcrossKeys(BTreeMap<Keyed, Summary>);

impl AcrossKeys {
    /// Takes in a summary.
    pub fn add(&mut self, keyed: Keyed, summary: &Summary) {
        match self.0.get_mut(&keyed) {
            Some(sum) => sum.merge(summary),
            None => {
                self.0.insert(keyed, summary.clone());
            }
        }
    }

    /// Takes in all that `other` took in.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(keyed, summary)| self.add(*keyed, summary));
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.0.len()
    }

    /// The view of all; `None` where there is no summary.
    pub fn view(&self) -> Option<api::MetricsView> {
        let mut summaries = self.0.values();
        let first = summaries.next()?;
        if self.0.len() == 1 {
            return Some(first.view());
        }
        let mut sum = first.by_label();
        summaries.for_each(|summary| sum.merge(&summary.by_label()));
        let mut view = sum.view();
        let views: Vec<api::MetricsView> = self.0.values().map(Summary::view).collect();
        let packets: Vec<_> = views.iter().map(|view| &view.packets.cardinality).collect();
        let names: Vec<_> = views.iter().map(|view| &view.dns.cardinality).collect();
        let error = |errors: &mut dyn Iterator<Item = f64>| errors.fold(0.0, f64::max);
        let (src_ips_in, src_ips_in_max) = interval(packets.iter().map(|of| of.src_ips_in));
        let (dst_ips_out, dst_ips_out_max) = interval(packets.iter().map(|of| of.dst_ips_out));
        let (ips, ips_max) = interval(packets.iter().map(|of| of.ips));
        view.packets.cardinality = api::PacketCardinality {
            src_ips_in,
            src_ips_in_max,
            dst_ips_out,
            dst_ips_out_max,
            ips,
            ips_max,
            error_pct: error(&mut packets.iter().map(|of| of.error_pct)),
        };
        let (qname, qname_max) = interval(names.iter().map(|of| of.qname));
        let error_pct = error(&mut names.iter().map(|of| of.error_pct));
        view.dns.cardinality = api::DnsCardinality { qname, qname_max, error_pct };
        Some(view)
    }
}

/// The largest and the sum.
fn interval(counts: impl Iterator<Item = u64> + Clone) -> (u64, Option<u64>) {
    let sum = counts.clone().fold(0, u64::saturating_add);
    (counts.max().unwrap_or(0), Some(sum))
}

impl Summary {
    /// The same without distinct counts, and with lists whose keys are made of what they show: it
    /// merges with those of other fleet keys.
    fn by_label(&self) -> Self {
        let Self { packets, dns, .. } = self;
        Self {
            packets: PacketSketches {
                ipv4: packets.ipv4.by_label(),
                ipv6: packets.ipv6.by_label(),
                octets: packets.octets.by_label(),
                places: packets.places.by_label(),
                systems: packets.systems.by_label(),
                tcp_ports: packets.tcp_ports.clone(),
                udp_ports: packets.udp_ports.clone(),
                payload: packets.payload.clone(),
                deep_samples: packets.deep_samples,
                ..PacketSketches::default()
            },
            dns: DnsSummary {
                wire: dns.wire.clone(),
                qname2: dns.qname2.by_label(),
                qname3: dns.qname3.by_label(),
                nxdomain: dns.nxdomain.by_label(),
                refused: dns.refused.by_label(),
                servfail: dns.servfail.by_label(),
                nodata: dns.nodata.by_label(),
                noerror: dns.noerror.by_label(),
                reply_octets: dns.reply_octets.by_label(),
                qtypes: dns.qtypes.clone(),
                rcodes: dns.rcodes.clone(),
                udp_ports: dns.udp_ports.clone(),
                ecs: dns.ecs.by_label(),
                ecs_places: dns.ecs_places.by_label(),
                ecs_systems: dns.ecs_systems.by_label(),
                udp_size: dns.udp_size.clone(),
                xact: by_label(&dns.xact),
                ..DnsSummary::default()
            },
            turn: self.turn,
            minute: self.minute,
            start: self.start,
            end: self.end,
            totals: self.totals.clone(),
            rates: self.rates.clone(),
            account: self.account.clone(),
        }
    }
}

fn by_label(xact: &Xact) -> Xact {
    let mut xact = xact.clone();
    for direction in &mut xact.directions {
        direction.classes.key_by_label();
    }
    xact
}
