//! A range of past time: its view, and its charts.

use pktvisor_common::api::{MetricsView, Range, RangePart, TopEntry};
use pktvisor_common::report::losses;
use pktvisor_common::report::number::{duration, time_range};

use crate::history::{ByName, Sample};

/// Points of a chart.
const POINTS: u64 = 120;
/// Minimum seconds that a chart shows.
const LEAST: i64 = 3_600;

/// Facts about a range besides its view.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Past {
    /// Its start in Unix seconds.
    pub(crate) from: i64,
    /// Its end in Unix seconds.
    pub(crate) to: i64,
    /// Seconds for which packets were counted.
    covered: u64,
    /// Periods left out, because they were counted on other terms.
    left_out: u64,
    /// Rates over its time or, if it is short, over the time before it.
    pub(crate) samples: Vec<Sample>,
}

impl Past {
    /// Takes the facts of the only part of a range, and its view.
    pub(crate) fn of(range: Range) -> Option<(Self, MetricsView)> {
        let RangePart { from_ts, to_ts, covered, left_out, full: _, metrics } =
            range.parts.into_iter().next()?;
        let (from, to, samples) = (from_ts, to_ts, Vec::new());
        Some((Self { from, to, covered, left_out, samples }, metrics))
    }

    /// Returns the range and step of its charts in seconds.
    pub(crate) fn chart(&self) -> (i64, i64, u64) {
        let from = self.from.min(self.to.saturating_sub(LEAST));
        let step = self.to.abs_diff(from).div_ceil(POINTS).next_multiple_of(60);
        (from, self.to, step.max(60))
    }

    /// Takes the samples of its charts.
    pub(crate) fn take_samples(&mut self, range: &Range) {
        self.samples = range.parts.iter().map(sample).collect();
    }

    /// Returns its limits as text.
    pub(crate) fn limits(&self) -> String {
        let length = duration(self.to.abs_diff(self.from));
        format!("{} ({length})", time_range(self.from, self.to))
    }

    /// Describes the gaps of the range.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let length = self.to.abs_diff(self.from);
        // The first and the last second may not be full.
        if self.covered + 2 < length {
            let percent = self.covered.saturating_mul(100) / length.max(1);
            missing.push(format!("packets were counted for {percent} % of the time"));
        }
        if self.left_out > 0 {
            missing.push(format!("{} periods were counted on other terms", self.left_out));
        }
        missing
    }
}

/// Returns the rates of a part.
fn sample(part: &RangePart) -> Sample {
    let RangePart { to_ts, covered, metrics: MetricsView { packets, dns, .. }, .. } = part;
    let rate = |count: u64| count as f64 / (*covered).max(1) as f64;
    let by_name = |entries: &[TopEntry]| -> ByName<f64> {
        entries.iter().map(|entry| (entry.name.clone(), rate(entry.estimate))).collect()
    };
    let losses = losses(&part.metrics).into_iter();
    let bits = |bytes: u64| rate(bytes) * 8.0;
    let bytes = &packets.bytes;
    let neither = |total: u64, inbound: u64, outbound: u64| {
        total.saturating_sub(inbound.saturating_add(outbound))
    };
    Sample {
        at: to_ts.max(&0).unsigned_abs().saturating_mul(1_000),
        packets_in: rate(packets.inbound),
        packets_out: rate(packets.outbound),
        packets_neither: rate(packets.unknown_dir),
        bits_in: bits(bytes.inbound),
        bits_out: bits(bytes.outbound),
        bits_neither: bits(neither(bytes.total, bytes.inbound, bytes.outbound)),
        dns: rate(dns.wire_packets.total),
        rcodes: by_name(&dns.top_rcode),
        qtypes: by_name(&dns.top_qtype),
        losses: losses.map(|loss| (loss.name, rate(loss.count))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(from: i64, to: i64, covered: u64) -> Past {
        Past { from, to, covered, ..Past::default() }
    }

    #[test]
    fn charts_have_whole_minutes_and_show_at_least_an_hour() {
        assert_eq!(past(10_000, 10_060, 60).chart(), (6_460, 10_060, 60));
        assert_eq!(past(0, 86_400, 60).chart(), (0, 86_400, 720));
        assert_eq!(past(0, 90 * 86_400, 60).chart(), (0, 90 * 86_400, 64_800));
        assert_eq!(past(5, 5, 0).chart(), (-3_595, 5, 60));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(past(0, 3_600, 3_599).missing().is_empty());
        let some = Past { left_out: 3, ..past(0, 3_600, 900) };
        assert_eq!(
            some.missing(),
            ["packets were counted for 25 % of the time", "3 periods were counted on other terms"]
        );
        assert_eq!(some.limits(), "1970-01-01 00:00 to 01:00 UTC (1h)");
    }
}
