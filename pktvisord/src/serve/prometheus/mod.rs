//! The metrics in Prometheus' text formats: what grew since the start as counters and histograms,
//! what the last closed bucket says as gauges.
//!
//! The number of series is bounded: names from the wire stand in top lists only, of which each has
//! [`MAX_TOP`] entries at most, and so many lists there are.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use pktvisor_common::api;
use pktvisor_common::direction::Direction;
use pktvisor_common::summary::cumulative::{Classes, Cumulative};
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::packets::Totals;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::serve::live::Live;
use crate::system::occasional::Occasional;

mod counters;
mod gauges;
mod process;
pub(super) mod route;

/// Entries of a top list, at most.
pub const MAX_TOP: u8 = 10;

/// A way to write the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 2] = [Format::Text, Format::OpenMetrics];

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What is written.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The daemon's own state.
    pub app: api::AppMetrics,
    /// Whether packets are taken in.
    pub ready: bool,
    /// How far user space is behind the packets, in milliseconds, where that can be told.
    pub lag_ms: Option<u64>,
    /// What was counted since the start.
    pub cumulative: Cumulative,
    /// Packets of no kind that is counted by itself.
    pub rest: Rest,
    /// The last closed bucket, or all of a single summary; none in the first minute.
    pub closed: Option<Arc<Summary>>,
    /// No packet had a time, so there are no rates and no latencies.
    pub timeless: bool,
    /// How often a wrong token was shown.
    pub wrong_tokens: u64,
    /// Entries of each top list.
    pub top: usize,
}

impl Metrics {
    /// The metrics as of now, with so many entries of each top list.
    pub fn of(live: &Live, top: u8) -> Self {
        let cumulative = live.cumulative();
        Self {
            app: live.app(),
            ready: live.ready(),
            lag_ms: live.status().lag_ms(),
            rest: Rest::of(&cumulative.totals),
            cumulative,
            closed: live.last_closed(),
            timeless: live.status().is_timeless(),
            wrong_tokens: 0,
            top: top.into(),
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// None that is known of: memory is written to.
    pub fn write(self, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        match format {
            Format::Text => prometheus_text::encode(&mut text, &registry)?,
            Format::OpenMetrics => text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

/// The metrics of a daemon.
pub struct Exposition {
    live: Arc<Live>,
    top: u8,
    wrong_tokens: Arc<Occasional>,
    /// As it was written last.
    rest: Mutex<Rest>,
}

/// Packets that are none of those counted by themselves. The kernel's counters are not read at one
/// moment, so that a difference of theirs can be one packet less the next time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// Neither TCP nor UDP nor ICMP.
    transport: u64,
    /// Neither version of IP.
    ip: u64,
}

impl Rest {
    fn of(totals: &Totals) -> Self {
        Self { transport: totals.other_transports(), ip: totals.non_ip() }
    }

    /// No less than before.
    fn since(self, before: Self) -> Self {
        Self { transport: self.transport.max(before.transport), ip: self.ip.max(before.ip) }
    }
}

impl Exposition {
    /// The metrics of `live`, with so many entries of each top list, and how often a wrong token was
    /// shown.
    pub fn new(live: Arc<Live>, top: u8, wrong_tokens: Arc<Occasional>) -> Self {
        Self { live, top, wrong_tokens, rest: Mutex::default() }
    }

    /// The metrics as they are written.
    ///
    /// # Errors
    /// None that is known of: memory is written to.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics = Metrics::of(&self.live, self.top);
        metrics.wrong_tokens = self.wrong_tokens.count();
        metrics.rest = metrics.rest.since(*rest);
        *rest = metrics.rest;
        metrics.write(format)
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        counters::write(&mut families, &self.cumulative, self.rest)?;
        if let Some(closed) = &self.closed {
            gauges::write(&mut families, closed, self.timeless, self.top)?;
        }
        process::write(&mut families, self)
    }
}

/// A label: its name and its value.
type Label<'a> = (&'static str, Cow<'a, str>);

/// Families of metrics, as they are written.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// What only grows. `name` is without `_total`.
    fn counter<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label<'l>; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in samples {
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What goes up and down.
    fn gauge<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label<'l>; N], f64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A distribution, in units of `unit`.
    fn histogram<'l, 'c, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: f64,
        samples: impl IntoIterator<Item = ([Label<'l>; N], &'c Classes)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, classes) in samples {
            let buckets: Vec<(f64, u64)> = classes
                .iter()
                .map(|(bound, count)| (bound.map_or(f64::INFINITY, |b| b as f64 / unit), count))
                .collect();
            let sum = classes.sum as f64 / unit;
            family.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(
                sum,
                classes.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// A label with a value that is known beforehand.
fn label(name: &'static str, value: &'static str) -> Label<'static> {
    (name, Cow::Borrowed(value))
}

/// The label of a direction.
fn direction(direction: Direction) -> Label<'static> {
    label("direction", direction.name())
}

#[cfg(test)]
mod tests;
