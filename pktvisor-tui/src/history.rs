//! The last minutes of a daemon as rates per second.

use std::collections::{BTreeMap, VecDeque};

use pktvisor_common::api::{MetricsView, RatesInOut, TopEntry};
use pktvisor_common::report::losses;

use crate::event::{Answer, Millis};

/// Length of the history in milliseconds.
const SPAN: Millis = 300_000;
/// Minimum length of the history in answers, for long intervals.
const ANSWERS: u64 = 60;
/// Minimum seconds between two counts for a rate. The end of a bucket is known only to the second.
const BASE: i64 = 15;
/// Minimum milliseconds between two measurements for a share of the processor.
const CPU_BASE: Millis = 5_000;

/// Rates or counts by name.
pub(crate) type ByName<T> = BTreeMap<String, T>;

/// Rates at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Millis,
    pub(crate) packets_in: f64,
    pub(crate) packets_out: f64,
    /// Neither in nor out.
    pub(crate) packets_neither: f64,
    pub(crate) bits_in: f64,
    pub(crate) bits_out: f64,
    pub(crate) bits_neither: f64,
    pub(crate) dns: f64,
    /// Replies by response code, the most frequent ones.
    pub(crate) rcodes: ByName<f64>,
    /// Questions by type, the most frequent ones.
    pub(crate) qtypes: ByName<f64>,
    /// Losses by reason.
    pub(crate) losses: ByName<f64>,
}

/// Counts of the live bucket at a second of packet time.
#[derive(Clone, Debug, Default)]
struct Counts {
    second: i64,
    rcodes: ByName<u64>,
    qtypes: ByName<u64>,
    losses: ByName<u64>,
}

/// History of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) samples: VecDeque<Sample>,
    /// Percent of one processor that the daemon uses, once known.
    pub(crate) cpu_pct: Option<f64>,
    /// Counts of the live bucket, from all zero at its start.
    counts: VecDeque<Counts>,
    minute: i64,
    /// Time of the last measurement of the processor time, and the processor time in seconds.
    cpu: Option<(Millis, f64)>,
}

impl History {
    /// Adds an answer. `interval` is the time between answers in milliseconds.
    pub(crate) fn note(&mut self, at: Millis, answer: &Answer, interval: Millis) {
        self.note_cpu(at, answer.app.app.process.cpu_seconds);
        let keep = SPAN.max(interval.saturating_mul(ANSWERS));
        while self.samples.front().is_some_and(|first| first.at.saturating_add(keep) < at) {
            self.samples.pop_front();
        }
        // After the end of a capture, its last second repeats in every answer.
        if answer.app.app.capture.finished {
            return;
        }
        let (packets, bytes) = (&answer.rates.packets, &answer.rates.bytes);
        let neither = |rates: &RatesInOut| {
            rates.total.saturating_sub(rates.inbound.saturating_add(rates.outbound)) as f64
        };
        let [rcodes, qtypes, losses] = self.rates(&answer.live);
        self.samples.push_back(Sample {
            at,
            packets_in: packets.inbound as f64,
            packets_out: packets.outbound as f64,
            packets_neither: neither(packets),
            bits_in: bytes.inbound as f64 * 8.0,
            bits_out: bytes.outbound as f64 * 8.0,
            bits_neither: neither(bytes) * 8.0,
            dns: answer.rates.dns.total as f64,
            rcodes,
            qtypes,
            losses,
        });
    }

    fn note_cpu(&mut self, at: Millis, seconds: f64) {
        let (then, before) = *self.cpu.get_or_insert((at, seconds));
        let elapsed = at.saturating_sub(then);
        if elapsed >= CPU_BASE || seconds < before {
            // A restarted daemon has used less processor time.
            let used = (seconds - before).max(0.0);
            self.cpu_pct = Some(used / elapsed.max(1) as f64 * 100_000.0);
            self.cpu = Some((at, seconds));
        }
    }

    /// Returns rates by name over the last seconds of the live bucket. While the bucket is too
    /// young, returns the rates of the last sample.
    fn rates(&mut self, live: &MetricsView) -> [ByName<f64>; 3] {
        let period = &live.period;
        let end = period.start_ts.saturating_add_unsigned(period.length);
        let last = self.counts.back().map_or(i64::MAX, |last| last.second);
        if period.minute != self.minute || end < last {
            self.minute = period.minute;
            self.counts.clear();
            self.counts.push_back(Counts { second: period.start_ts, ..Counts::default() });
        }
        let tops = |entries: &[TopEntry]| {
            entries.iter().map(|entry| (entry.name.clone(), entry.estimate)).collect()
        };
        let now = Counts {
            second: end,
            rcodes: tops(&live.dns.top_rcode),
            qtypes: tops(&live.dns.top_qtype),
            losses: losses(live).into_iter().map(|loss| (loss.name, loss.count)).collect(),
        };
        let old = |counts: &Counts| end.saturating_sub(counts.second) >= BASE;
        while self.counts.get(1).is_some_and(old) {
            self.counts.pop_front();
        }
        let rates = match self.counts.front().filter(|counts| old(counts)) {
            Some(then) => [
                rates(&now.rcodes, &then.rcodes, end.saturating_sub(then.second)),
                rates(&now.qtypes, &then.qtypes, end.saturating_sub(then.second)),
                rates(&now.losses, &then.losses, end.saturating_sub(then.second)),
            ],
            None => self.samples.back().map_or_else(Default::default, |last| {
                [last.rcodes.clone(), last.qtypes.clone(), last.losses.clone()]
            }),
        };
        if self.counts.back().is_none_or(|last| last.second < end) {
            self.counts.push_back(now);
        }
        rates
    }
}

fn rates(now: &ByName<u64>, then: &ByName<u64>, seconds: i64) -> ByName<f64> {
    let rate = |(name, now): (&String, &u64)| {
        let counted = now.saturating_sub(then.get(name).copied().unwrap_or(0));
        (name.clone(), counted as f64 / seconds as f64)
    };
    now.iter().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an answer at a second of packet time under a steady load.
    fn answer(second: u64, per_second: u64) -> Answer {
        let mut answer = Answer::default();
        let period = &mut answer.live.period;
        period.minute = (second / 60) as i64;
        period.start_ts = period.minute * 60;
        period.length = second % 60;
        let counted = second % 60 * per_second;
        let entry = TopEntry { name: "NOERROR".into(), estimate: counted, error: None };
        answer.live.dns.top_rcode = vec![entry];
        answer.app.app.process.cpu_seconds = second as f64 * 0.02;
        answer
    }

    #[test]
    fn steady_load_gives_steady_rate() {
        for interval in [200, 1_000, 10_000] {
            let mut history = History::default();
            for at in (0..200_000).step_by(interval) {
                let at = at as u64;
                history.note(at, &answer(at / 1_000, 100), interval as u64);
                let rate = history.samples.back().unwrap().rcodes.get("NOERROR").copied();
                if at >= 20_000 {
                    let rate = rate.unwrap();
                    assert!((rate - 100.0).abs() < 1e-6, "{rate} at {at}");
                }
            }
            assert!((history.cpu_pct.unwrap() - 2.0).abs() < 0.5);
        }
    }

    #[test]
    fn bounds_history_and_stops_at_end_of_capture() {
        let mut history = History::default();
        for at in (0..1_000_000).step_by(1_000) {
            history.note(at, &answer(at / 1_000, 1), 1_000);
        }
        assert!(history.samples.len() <= 302 && history.counts.len() <= 20);
        let mut ended = answer(1_000, 1);
        ended.app.app.capture.finished = true;
        history.note(2_000_000, &ended, 1_000);
        assert!(history.samples.is_empty());
    }

    #[test]
    fn accepts_any_bucket_time() {
        let mut history = History::default();
        for (start, length) in [(i64::MAX, u64::MAX), (i64::MIN, 0), (0, u64::MAX), (5, 1)] {
            let mut answer = answer(1, 1);
            (answer.live.period.start_ts, answer.live.period.length) = (start, length);
            history.note(1, &answer, u64::MAX);
        }
    }
}
