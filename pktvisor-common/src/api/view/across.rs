//! The view of summaries with different fleet keys. Its distinct counts are intervals.

use crate::api::{DnsCardinality, MetricsView, PacketCardinality};
use crate::summary::Summary;
use crate::summary::across::AcrossKeys;

impl AcrossKeys {
    /// Returns the merged view; `None` without a summary.
    pub fn view(&self) -> Option<MetricsView> {
        if self.keys() == 1 {
            return self.sums().next().map(Summary::view);
        }
        let mut view = self.sum_by_label()?.view();
        let views: Vec<MetricsView> = self.sums().map(Summary::view).collect();
        let packets: Vec<_> = views.iter().map(|view| &view.packets.cardinality).collect();
        let names: Vec<_> = views.iter().map(|view| &view.dns.cardinality).collect();
        let error = |errors: &mut dyn Iterator<Item = f64>| errors.fold(0.0, f64::max);
        let (src_ips_in, src_ips_in_max) = interval(packets.iter().map(|of| of.src_ips_in));
        let (dst_ips_out, dst_ips_out_max) = interval(packets.iter().map(|of| of.dst_ips_out));
        let (ips, ips_max) = interval(packets.iter().map(|of| of.ips));
        view.packets.cardinality = PacketCardinality {
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
        view.dns.cardinality = DnsCardinality { qname, qname_max, error_pct };
        Some(view)
    }
}

/// Returns the largest count and the sum of all counts.
fn interval(counts: impl Iterator<Item = u64> + Clone) -> (u64, Option<u64>) {
    let sum = counts.clone().fold(0, u64::saturating_add);
    (counts.max().unwrap_or(0), Some(sum))
}
