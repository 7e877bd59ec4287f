//! Converts summaries to the JSON types.

mod across;
mod dns;
mod packets;

use std::collections::BTreeMap;

use super::{Capture, MetricsView, Period, Quantiles, TopEntry};
use crate::loss::Loss;
use crate::outcome::Outcome;
use crate::sketch::quantiles::Percentiles;
use crate::sketch::tally::Tally;
use crate::sketch::top::{Entry, rank};
use crate::summary::rates::RatePercentiles;
use crate::summary::{Account, Summary};

impl From<Percentiles> for Quantiles {
    fn from(Percentiles { p50, p90, p95, p99 }: Percentiles) -> Self {
        Self { p50, p90, p95, p99 }
    }
}

/// Converts percentiles.
fn quantiles(percentiles: Option<Percentiles>) -> Option<Quantiles> {
    percentiles.map(Quantiles::from)
}

/// Converts a top list.
fn list(entries: Vec<Entry>) -> Vec<TopEntry> {
    let entry = |Entry { name, estimate, error }| TopEntry { name, estimate, error };
    entries.into_iter().map(entry).collect()
}

/// Returns the numbers with the highest counts, under the names given by `name`.
fn named(tally: &Tally, name: impl Fn(u16) -> String) -> Vec<TopEntry> {
    list(rank(tally.iter().map(|(number, count)| (name(number), count)), |_| None))
}

impl Summary {
    /// Returns the view that the REST API serves, without the fields that only the packet source
    /// knows.
    pub fn view(&self) -> MetricsView {
        self.view_with(&self.rate_percentiles())
    }

    /// Does the same if packets were counted for `covered` seconds of its time only.
    pub fn view_covering(&self, covered: u64) -> MetricsView {
        self.view_with(&self.rates.percentiles_covering(self.start, self.end, covered))
    }

    fn view_with(&self, rates: &RatePercentiles) -> MetricsView {
        let (start, end) = (self.start.second(), self.end.second());
        MetricsView {
            packets: packets::view(&self.totals, &self.packets, rates),
            dns: dns::view(&self.dns, rates),
            period: Period {
                start_ts: start,
                length: end.saturating_sub(start).max(0) as u64,
                minute: self.minute,
            },
            capture: Capture {
                sample_rate_pct: percent(self.packets.deep_samples, self.totals.total()),
                ..capture(&self.account)
            },
        }
    }
}

fn capture(account: &Account) -> Capture {
    let Account { outcomes, late, time_outliers, unread_link_types, losses } = account;
    let lost = |loss: Loss| losses.get(loss.name()).copied().unwrap_or(0);
    let outcomes_by_name: BTreeMap<String, u64> = Outcome::ALL
        .iter()
        .zip(outcomes)
        .filter(|&(_, &count)| count > 0)
        .map(|(outcome, &count)| (outcome.name().to_owned(), count))
        .collect();
    let of_tcp = Loss::ALL.into_iter().filter(|loss| loss.is_of_tcp()).map(lost);
    Capture {
        outcomes: outcomes_by_name,
        ring_full: outcomes[Outcome::RingFull as usize],
        tcp_reassembly_errors: of_tcp.fold(0, u64::saturating_add),
        kernel_drops: lost(Loss::KernelDrops),
        if_drops: lost(Loss::IfDrops),
        evictions: losses.clone(),
        late_packets: *late,
        time_outliers: *time_outliers,
        unread_link_types: *unread_link_types,
        ..Capture::default()
    }
}

/// Returns `some` as a percentage of `all`, rounded to two decimals; 100 if `all` is 0.
fn percent(some: u64, all: u64) -> f64 {
    match all {
        0 => 100.0,
        all => (some as f64 / all as f64 * 10_000.0).round() / 100.0,
    }
}
