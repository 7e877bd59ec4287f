//! Summaries of packet traffic: of one minute, or of several minutes or agents merged.
//!
//! `merge` is associative and commutative: workers merge into an agent, minutes into a window and
//! agents into a fleet, in any order. It is exact for counters, rates, quantiles, latencies and
//! cardinality, and within the stated bounds for top lists.

use std::collections::BTreeMap;

use self::counters::Counters;
use crate::loss::Loss;
use crate::outcome::{OUTCOMES, Outcome};
use crate::time::Timestamp;

pub mod across;
pub mod counters;
pub mod cumulative;
pub mod dns;
pub mod mask;
pub mod packets;
pub mod rates;
pub mod state;

/// Packets by outcome, and losses by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Packets by outcome.
    pub outcomes: [u64; OUTCOMES],
    /// Packets whose time lies before the bucket that they were counted in.
    pub late: u64,
    /// Packets whose time the reader did not trust. They count at their position in the file.
    pub time_outliers: u64,
    /// Packets of an unsupported link type. No other counter includes them.
    pub unread_link_types: u64,
    /// Losses and evictions by the name of their reason: other releases have other reasons.
    pub losses: BTreeMap<String, u64>,
}

impl Account {
    /// Adds `count` to a loss.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        self.lose_by_name(loss.name(), count);
    }

    fn lose_by_name(&mut self, reason: &str, count: u64) {
        if count > 0 {
            let lost = self.losses.entry(reason.to_owned()).or_default();
            *lost = lost.saturating_add(count);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.add(other);
        for (reason, count) in &other.losses {
            self.lose_by_name(reason, *count);
        }
    }
}

impl Counters for Account {
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        let Self { outcomes, late, time_outliers, unread_link_types, losses: _ } = self;
        let outcomes = Outcome::ALL.iter().zip(outcomes);
        let mut counters: Vec<_> =
            outcomes.map(|(outcome, count)| (outcome.name(), count)).collect();
        counters.extend([
            ("late_packets", late),
            ("time_outliers", time_outliers),
            ("unread_link_types", unread_link_types),
        ]);
        counters
    }
}

/// The summary of the packets of a time span.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Number of times that the packet time of a file went back before this summary; the maximum of
    /// merged ones.
    pub turn: u64,
    /// The newest Unix minute that it covers.
    pub minute: i64,
    /// Start: of the minute, or of the first packet within it.
    pub start: Timestamp,
    /// End: of the minute, or the current time within it.
    pub end: Timestamp,
    /// Exact counts of all packets.
    pub totals: packets::Totals,
    /// Counts per second.
    pub rates: rates::Rates,
    /// Sketches and tallies of inspected packets.
    pub packets: packets::PacketSketches,
    /// DNS messages and transactions.
    pub dns: dns::DnsSummary,
    /// Outcomes and losses.
    pub account: Account,
}

impl Summary {
    /// Merges `other` into this summary.
    pub fn merge(&mut self, other: &Self) {
        let Self { turn, minute, start, end, totals, rates, packets, dns, account } = self;
        *turn = other.turn.max(*turn);
        *minute = other.minute.max(*minute);
        *start = other.start.min(*start);
        *end = other.end.max(*end);
        totals.add(&other.totals);
        rates.merge(&other.rates);
        packets.merge(&other.packets);
        dns.merge(&other.dns);
        account.merge(&other.account);
    }

    /// Returns percentiles of the per-second counts.
    pub fn rate_percentiles(&self) -> rates::RatePercentiles {
        self.rates.percentiles(self.start, self.end)
    }

    /// Creates the summary of a minute without packets.
    pub fn empty(minute: i64, start: Timestamp, end: Timestamp) -> Self {
        let rates = rates::Rates::of(minute, rates::Minute::default());
        Self { minute, start, end, rates, ..Self::default() }
    }

    /// Returns true if it counted nothing: no packet, message, ended transaction or loss.
    pub fn is_empty(&self) -> bool {
        self.totals == packets::Totals::default()
            && self.packets.deep_samples == 0
            && self.packets.addresses.is_empty()
            && self.dns.wire == dns::Wire::default()
            && self.dns.xact == dns::Xact::default()
            && self.account == Account::default()
    }

    /// Keeps the `keys` highest keys of each top list, to save space. The errors of the lists grow, so all
    /// bounds still hold. Cardinalities, counters, rates, quantiles and latencies stay as they are.
    pub fn truncate_lists(&mut self, keys: usize) {
        self.packets.truncate_lists(keys);
        self.dns.truncate_lists(keys);
    }

    /// Removes the largest parts: top lists, cardinalities, ports and the names of slow
    /// transactions. Counters, rates, types, response codes, sizes and latencies stay.
    pub fn drop_keys(&mut self) {
        self.packets.drop_keys();
        self.dns.drop_keys();
    }

    /// Merges another minute and folds the seconds of the oldest minutes into distributions, so
    /// that a summary of any length stays small.
    pub fn absorb(&mut self, minute: &Self) {
        self.merge(minute);
        self.rates.fold(self.start);
    }

    /// Returns the sort key of a minute: how often packet time went back before it, then the minute.
    pub fn place(&self) -> (u64, i64) {
        (self.turn, self.minute)
    }
}
