//! Metrics of the daemon itself: version, interfaces, sampling, resource use.

use std::borrow::Cow;
use std::fmt;

use pktvisor_common::api::HistoryState;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use rustix::process::{Resource, getrlimit};

use super::{Families, Metrics, label};

/// Returns the number of open file descriptors and its limit, or `None` if the system does not
/// report them.
fn descriptors() -> Option<(u64, u64)> {
    // Subtract the descriptor that reads this directory.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
    Some((open, getrlimit(Resource::Nofile).current?))
}

pub(super) fn write(families: &mut Families<'_>, metrics: &Metrics) -> fmt::Result {
    let app = &metrics.app.app;
    let capture = &app.capture;
    families.gauge(
        "pktvisor_build_info",
        "Version of the daemon and source of its packets",
        [(
            [
                ("version", Cow::Borrowed(app.version.as_str())),
                ("source", Cow::Borrowed(capture.source.as_str())),
            ],
            1.0,
        )],
    )?;
    families.gauge(
        "pktvisor_interface_info",
        "Watched interfaces and their hooks",
        capture.watched.iter().map(|watched| {
            let hook = |hook: &'_ Option<String>| Cow::Owned(hook.clone().unwrap_or_default());
            (
                [
                    ("interface", Cow::Borrowed(watched.name.as_str())),
                    ("ingress", hook(&watched.ingress)),
                    ("egress", hook(&watched.egress)),
                ],
                1.0,
            )
        }),
    )?;
    families.gauge(
        "pktvisor_sampling_ratio",
        "Current share of packets chosen for deep inspection: on DNS ports, and all others",
        [("dns", capture.sampling.dns_pct), ("rest", capture.sampling.rest_pct)]
            .map(|(class, percent)| ([label("class", class)], percent / 100.0)),
    )?;
    families.gauge(
        "pktvisor_sampling_limit_ratio",
        "Configured maximum share of packets chosen for deep inspection",
        [([], app.deep_sample_rate_pct as f64 / 100.0)],
    )?;
    families.gauge(
        "pktvisor_ready",
        "1 if the daemon reads a file, or watches every selected interface and receives its packets; else 0",
        [([], f64::from(u8::from(metrics.ready)))],
    )?;
    families.gauge(
        "pktvisor_lag_seconds",
        "Delay of the daemon behind the packets, with eBPF capture",
        metrics.lag_ms.map(|lag| ([], lag as f64 / 1000.0)),
    )?;
    families.gauge(
        "pktvisor_dns_open_transactions",
        "DNS queries that currently wait for their reply",
        [([], metrics.app.dns.xact.open as f64)],
    )?;
    families.counter(
        "pktvisor_http_wrong_tokens",
        "Requests with an invalid token",
        [([], metrics.wrong_tokens)],
    )?;
    if let Some(history) = &app.history {
        write_history(families, history)?;
    }
    // Names that the Prometheus client libraries use for these metrics.
    let cpu = families.0.encode_descriptor(
        "process_cpu_seconds",
        "CPU time of all threads since the start",
        None,
        MetricType::Counter,
    )?;
    ConstCounter::new(app.process.cpu_seconds).encode(cpu)?;
    families.gauge(
        "process_resident_memory_bytes",
        "Resident memory of the daemon in bytes",
        [([], app.process.resident_bytes as f64)],
    )?;
    if let Some((open, limit)) = descriptors() {
        families.gauge(
            "process_open_fds",
            "Open file descriptors of the daemon",
            [([], open as f64)],
        )?;
        families.gauge(
            "process_max_fds",
            "Maximum number of open file descriptors",
            [([], limit as f64)],
        )?;
    }
    families.gauge(
        "process_start_time_seconds",
        "Start of the daemon in unix seconds",
        [([], app.started_ts as f64)],
    )
}

fn write_history(families: &mut Families<'_>, history: &HistoryState) -> fmt::Result {
    families.gauge(
        "pktvisor_history_bytes",
        "Bytes of the history on disk that are in use",
        [([], history.bytes as f64)],
    )?;
    families.gauge(
        "pktvisor_history_limit_bytes",
        "Maximum bytes of the history on disk",
        [([], history.max_bytes as f64)],
    )?;
    families.gauge(
        "pktvisor_history_ok",
        "1 if the history on disk is written; 0 if it cannot be used, or if the last minute could not be stored",
        [([], f64::from(u8::from(history.problem.is_none())))],
    )?;
    families.counter(
        "pktvisor_history_lost_minutes",
        "Minutes that could not be stored in the history on disk",
        [([], history.lost_minutes)],
    )
}
