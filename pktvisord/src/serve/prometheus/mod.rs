//! The metrics in Prometheus' text formats: counters and histograms since the start, and gauges of
//! the last closed bucket.
//!
//! The number of series is bounded. Names from packets appear only in top lists, a fixed number of
//! lists with at most [`MAX_TOP`] entries each.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use pktvisor_common::api;
use pktvisor_common::direction::Direction;
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::cumulative::{Classes, Cumulative};
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

/// Maximum number of entries of a top list.
pub(crate) const MAX_TOP: u8 = 10;

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// All formats.
    #[cfg(test)]
    pub(crate) const ALL: [Format; 2] = [Format::Text, Format::OpenMetrics];

    /// Returns the content type of the format.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Text => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A snapshot of everything that is exported.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The daemon's own state.
    pub app: api::AppMetrics,
    /// True if packets are taken in from everything that is to be watched.
    pub ready: bool,
    /// Delay of user space behind the packets, in milliseconds, if known.
    pub lag_ms: Option<u64>,
    /// Counts since the start.
    pub cumulative: Cumulative,
    /// Packets that no counter of a protocol covers.
    pub rest: Rest,
    /// The last closed bucket, or with `--summary` the single summary. `None` before the first
    /// bucket has closed.
    pub closed: Option<Arc<Summary>>,
    /// True if no packet had a time, so that there are no rates and no latencies.
    pub timeless: bool,
    /// Number of requests with a wrong token.
    pub wrong_tokens: u64,
    /// Maximum number of entries of each top list.
    pub top: usize,
}

impl Metrics {
    /// Takes a snapshot with at most `top` entries in each top list.
    pub(crate) fn of(live: &Live, top: u8) -> Self {
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

    /// Writes the metrics as text.
    ///
    /// # Errors
    /// None known: writing to memory does not fail.
    pub(crate) fn write(self, format: Format) -> Result<String, fmt::Error> {
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

/// Exporter of a daemon's metrics.
pub(crate) struct Exposition {
    live: Arc<Live>,
    top: u8,
    wrong_tokens: Arc<Occasional>,
    /// The values written last.
    rest: Mutex<Rest>,
}

/// Packets that no counter of a protocol covers, as differences of counters. The kernel's counters
/// are not read at one moment, so a difference can be lower at the next read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    /// Neither TCP, UDP nor ICMP.
    transport: u64,
    /// Neither IPv4 nor IPv6.
    ip: u64,
}

impl Rest {
    fn of(totals: &Totals) -> Self {
        Self { transport: totals.other_transports(), ip: totals.non_ip() }
    }

    /// Raises each value to at least the one `before`.
    fn since(self, before: Self) -> Self {
        Self { transport: self.transport.max(before.transport), ip: self.ip.max(before.ip) }
    }
}

impl Exposition {
    /// Exports the metrics of `live` with at most `top` entries in each top list. `wrong_tokens`
    /// counts requests with a wrong token.
    pub(crate) fn new(live: Arc<Live>, top: u8, wrong_tokens: Arc<Occasional>) -> Self {
        Self { live, top, wrong_tokens, rest: Mutex::default() }
    }

    /// Writes the current metrics as text.
    ///
    /// # Errors
    /// None known: writing to memory does not fail.
    pub(crate) fn text(&self, format: Format) -> Result<String, fmt::Error> {
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

/// A label: name and value.
type Label<'a> = (&'static str, Cow<'a, str>);

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// Writes a counter. `name` has no `_total` suffix.
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

    /// Writes a gauge, or nothing if there are no samples.
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

    /// Writes a histogram, with its values divided by `unit`.
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

/// Makes a label with a constant value.
fn label(name: &'static str, value: &'static str) -> Label<'static> {
    (name, Cow::Borrowed(value))
}

/// Builds the label of a direction.
fn direction(direction: Direction) -> Label<'static> {
    label("direction", direction.name())
}

#[cfg(test)]
mod tests;
