//! Cumulative counts since the start, which never decrease. A client that polls at any interval can
//! compute what happened in between, even if minutes are no longer kept.

use super::Account;
use super::Summary;
use super::counters::Counters;
use super::dns::{Unpaired, Wire};
use super::packets::Totals;
use crate::direction::PerDirection;
use crate::sketch::tally::Tally;

/// Upper bounds of the latency classes in microseconds, inclusive: powers of two up to 8.4 s. They
/// are bounds of [`crate::sketch::latency::Latencies`] too.
pub const LATENCY_BOUNDS_US: [u64; 20] = {
    let mut bounds = [16; 20];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
};
/// Upper bounds of the payload size classes in bytes, inclusive. DNS servers advertise 1232 (DNS
/// flag day 2020), and 1472 fills an Ethernet frame.
pub const PAYLOAD_BOUNDS: [u64; 12] =
    [0, 64, 128, 256, 512, 1024, 1232, 1472, 4096, 8192, 16_384, 32_768];
/// Upper bounds of the classes of advertised UDP payload sizes (RFC 6891) in bytes, inclusive.
pub const UDP_SIZE_BOUNDS: [u64; 8] = [512, 1220, 1232, 1400, 1452, 1680, 4096, 8192];

/// Counts by class. One more class than bounds: the last one counts values above the last bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    bounds: &'static [u64],
    counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Classes {
    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    fn add(&mut self, value: u64, count: u64) {
        let class = self.bounds.partition_point(|&bound| bound < value);
        self.counts[class] = self.counts[class].saturating_add(count);
    }

    fn add_tally(&mut self, tally: &Tally) {
        for (value, count) in tally.iter() {
            self.add(value.into(), count);
            self.sum = self.sum.saturating_add(u64::from(value).saturating_mul(count));
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Returns the sum of all counts.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Returns the upper bound and count of each class. The bound of the last class is `None`.
    pub fn iter(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds.zip(self.counts.iter().copied())
    }
}

/// Cumulative counts since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cumulative {
    /// Exact counts of all packets.
    pub totals: Totals,
    /// Packets chosen for deep inspection.
    pub deep_samples: u64,
    /// DNS messages by kind.
    pub wire: Wire,
    /// Replies by response code.
    pub rcodes: Tally,
    /// Questions by type.
    pub qtypes: Tally,
    /// Queries and replies that did not form a transaction. `open` is always 0 here.
    pub unpaired: Unpaired,
    /// Latencies of transactions in microseconds, by direction of the reply. [`Self::add`] leaves
    /// their sums alone: they are added where transactions are counted.
    pub latencies: PerDirection<Classes>,
    /// Packets by bytes of TCP or UDP payload, not scaled. 65535 also counts larger payloads.
    pub payload: Classes,
    /// Advertised UDP payload sizes, not scaled.
    pub udp_size: Classes,
    /// Outcomes and losses.
    pub account: Account,
}

impl Default for Cumulative {
    fn default() -> Self {
        Self {
            totals: Totals::default(),
            deep_samples: 0,
            wire: Wire::default(),
            rcodes: Tally::default(),
            qtypes: Tally::default(),
            unpaired: Unpaired::default(),
            latencies: PerDirection::from_fn(|_| Classes::new(&LATENCY_BOUNDS_US)),
            payload: Classes::new(&PAYLOAD_BOUNDS),
            udp_size: Classes::new(&UDP_SIZE_BOUNDS),
            account: Account::default(),
        }
    }
}

impl Cumulative {
    /// Adds the counts of a bucket.
    pub fn add(&mut self, bucket: &Summary) {
        let Self {
            totals,
            deep_samples,
            wire,
            rcodes,
            qtypes,
            unpaired,
            latencies,
            payload,
            udp_size,
            account,
        } = self;
        totals.add(&bucket.totals);
        *deep_samples = deep_samples.saturating_add(bucket.packets.deep_samples);
        wire.add(&bucket.dns.wire);
        rcodes.merge(&bucket.dns.rcodes);
        qtypes.merge(&bucket.dns.qtypes);
        let xact = &bucket.dns.xact;
        unpaired.add(&Unpaired { open: 0, ..xact.unpaired.clone() });
        for (mine, theirs) in latencies.zip_mut(&xact.directions) {
            theirs.classes.counts().for_each(|(bound, count)| mine.add(bound, count));
        }
        payload.add_tally(&bucket.packets.payload);
        udp_size.add_tally(&bucket.dns.udp_size);
        account.merge(&bucket.account);
    }

    /// Adds the counts of another worker.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            totals,
            deep_samples,
            wire,
            rcodes,
            qtypes,
            unpaired,
            latencies,
            payload,
            udp_size,
            account,
        } = self;
        totals.add(&other.totals);
        *deep_samples = deep_samples.saturating_add(other.deep_samples);
        wire.add(&other.wire);
        rcodes.merge(&other.rcodes);
        qtypes.merge(&other.qtypes);
        unpaired.add(&other.unpaired);
        for (mine, theirs) in latencies.zip_mut(&other.latencies) {
            mine.merge(theirs);
        }
        payload.merge(&other.payload);
        udp_size.merge(&other.udp_size);
        account.merge(&other.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::direction::Direction;
    use crate::sketch::latency::Latencies;

    #[test]
    fn latencies_fall_into_the_right_classes() {
        let values = [0, 15, 16, 17, 32, 33, 1_000, 1_024, 1_025, 8_388_608, 8_388_609, u64::MAX];
        let mut latencies = Latencies::default();
        let mut expected = Classes::new(&LATENCY_BOUNDS_US);
        for value in values {
            latencies.record(value, 3, None, Box::default);
            expected.add(value, 3);
        }
        let mut bucket = Summary::default();
        bucket.dns.xact.directions[Direction::Out].classes = latencies;
        let mut cumulative = Cumulative::default();
        cumulative.add(&bucket);
        assert_eq!(cumulative.latencies[Direction::Out], expected);
        let counts: Vec<(Option<u64>, u64)> =
            expected.iter().filter(|&(_, count)| count > 0).collect();
        let bounds = [(16, 9), (32, 6), (64, 3), (1_024, 6), (2_048, 3), (8_388_608, 3)]
            .map(|(bound, count)| (Some(bound), count));
        assert_eq!(counts, [&bounds[..], &[(None, 6)]].concat());
    }
}
