//! Merges summaries of agents whose fleet keys differ, as far as possible.
//!
//! Counters, rates and histograms merge whatever the keys are. Top lists are matched by label, and
//! their errors are added. Distinct counts cannot be matched: the true count over all keys lies
//! between the largest count of one key and the sum of all counts.

use std::collections::BTreeMap;

use super::Summary;
use super::dns::{DnsSummary, Xact};
use super::packets::PacketSketches;
use super::state::Keyed;

/// One merged summary per key.
#[derive(Clone, Debug, Default)]
pub struct AcrossKeys(BTreeMap<Keyed, Summary>);

impl AcrossKeys {
    /// Merges a summary into the sum of its key.
    pub fn add(&mut self, keyed: Keyed, summary: &Summary) {
        match self.0.get_mut(&keyed) {
            Some(sum) => sum.merge(summary),
            None => {
                self.0.insert(keyed, summary.clone());
            }
        }
    }

    /// Merges the sums of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(keyed, summary)| self.add(*keyed, summary));
    }

    /// Returns the number of keys.
    pub fn keys(&self) -> usize {
        self.0.len()
    }

    /// Returns the merged summary of each key.
    pub fn sums(&self) -> impl Iterator<Item = &Summary> {
        self.0.values()
    }

    /// Returns the merged summary of all keys, without distinct counts; `None` without a summary.
    pub fn sum_by_label(&self) -> Option<Summary> {
        let mut summaries = self.sums();
        let mut sum = summaries.next()?.by_label();
        summaries.for_each(|summary| sum.merge(&summary.by_label()));
        Some(sum)
    }
}

impl Summary {
    /// Returns a copy without distinct counts, whose lists are keyed by the hash of their labels. It
    /// merges with those of other fleet keys.
    fn by_label(&self) -> Self {
        let Self { packets, dns, .. } = self;
        Self {
            packets: PacketSketches {
                ipv4: packets.ipv4.by_label(),
                ipv6: packets.ipv6.by_label(),
                bytes: packets.bytes.by_label(),
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
                reply_bytes: dns.reply_bytes.by_label(),
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
    for direction in xact.directions.as_array_mut() {
        direction.classes.key_by_label();
    }
    xact
}
