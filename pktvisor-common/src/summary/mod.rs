//! The summary of a minute, or of several merged.
//!
//! `merge` is associative and commutative: workers make an agent, minutes a window and agents a
//! fleet in any order, exactly for counters, rates, quantiles, latencies and cardinality, and
//! within the stated bounds for top lists.

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

/// What became of packets, and what was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Packets by outcome.
    pub outcomes: [u64; OUTCOMES],
    /// Packets of a time before the bucket they were counted in.
    pub late: u64,
    /// Packets whose time the reader did not believe: they count where they stand in the file.
    pub time_outliers: u64,
    /// Packets of a link type that is not read; they are in no other count.
    pub unread_link_types: u64,
    /// What was lost or given up, by reason: by name, since other releases have other reasons.
    pub losses: BTreeMap<String, u64>,
}

impl Account {
    /// Adds to a loss.
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

/// The summary of the packets of a span of time.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How often the packet time of a file went back before it; of several merged, the latest.
    pub turn: u64,
    /// The newest unix minute in it.
    pub minute: i64,
    /// Start: of the minute, or the first packet within it.
    pub start: Timestamp,
    /// End: of the minute, or the present within it.
    pub end: Timestamp,
    /// Exact counts.
    pub totals: packets::Totals,
    /// Counts by second.
    pub rates: rates::Rates,
    /// What inspected packets add up to.
    pub packets: packets::PacketSketches,
    /// DNS.
    pub dns: dns::DnsSummary,
    /// Outcomes and losses.
    pub account: Account,
}

impl Summary {
    /// Takes in all that `other` took in.
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

    /// Percentiles of what each second saw.
    pub fn rate_percentiles(&self) -> rates::RatePercentiles {
        self.rates.percentiles(self.start, self.end)
    }

    /// A minute in which nothing happened.
    pub fn empty(minute: i64, start: Timestamp, end: Timestamp) -> Self {
        let rates = rates::Rates::of(minute, rates::Minute::default());
        Self { minute, start, end, rates, ..Self::default() }
    }

    /// Whether nothing was counted: no packet, no message, no end of a transaction, no loss.
    pub fn is_empty(&self) -> bool {
        self.totals == packets::Totals::default()
            && self.packets.deep_samples == 0
            && self.packets.addresses.is_empty()
            && self.dns.wire == dns::Wire::default()
            && self.dns.xact == dns::Xact::default()
            && self.account == Account::default()
    }

    /// Takes in another minute and folds the seconds of the oldest ones into distributions, so that
    /// a summary of any length stays small.
    pub fn absorb(&mut self, minute: &Self) {
        self.merge(minute);
        self.rates.fold(self.start);
    }

    /// What tells summaries of minutes apart: how often packet time went back, and the minute.
    pub fn place(&self) -> (u64, i64) {
        (self.turn, self.minute)
    }
}
