//! The metrics of the daemon: its own state, rates, buckets and windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pktvisor_common::api::{AppMetrics, ErrorBody, MetricsView, Rates};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{Answers, Question};
use super::error::ApiError;
use super::internal;
use super::period::{Bucket, PeriodKind, Window, unavailable};
use crate::serve::live::Live;

/// The daemon's own state
///
/// Version, configuration, uptime, and the source of packets.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/app",
    tag = "metrics",
    responses((status = 200, description = "The current state", body = AppMetrics)),
)]
pub(super) async fn app(
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answers.answer(Question::App, None, &headers, move || json(&live.app())).await
}

/// Rates of the last full second
///
/// Packets and bytes by direction.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/rates",
    tag = "metrics",
    responses((status = 200, description = "The rates", body = Rates)),
)]
pub(super) async fn rates(
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answers.answer(Question::Rates, None, &headers, move || json(&live.rates())).await
}

/// One bucket: a minute of packet time
///
/// Bucket 0 is the live minute, which still grows; bucket 1 is the minute before it, and so on.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/bucket/{n}",
    tag = "metrics",
    params(("n" = u64, Path, description = "Number of the bucket: 0 (the live minute) to periods − 1", example = 0)),
    responses(
        (status = 200, description = "The view, under the key `1m`", body = BTreeMap<String, MetricsView>),
        (status = 400, description = "Not a number, or out of range", body = ErrorBody),
        (status = 404, description = "Not available yet", body = ErrorBody),
    ),
)]
pub(super) async fn bucket(
    Bucket(n): Bucket,
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let make = move || {
        let view = live.bucket(n).map_err(|error| unavailable(PeriodKind::Bucket, error))?;
        json(&BTreeMap::from([("1m", &*view)]))
    };
    answers.answer(Question::Bucket(n), None, &headers, make).await
}

/// A window: the newest buckets merged
///
/// Window n merges the buckets 0 to n − 1.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/window/{n}",
    tag = "metrics",
    params(("n" = u64, Path, description = "Number of buckets: 1 to periods", minimum = 1, example = 5)),
    responses(
        (status = 200, description = "The view, under the key `<n>m`", body = BTreeMap<String, MetricsView>),
        (status = 400, description = "Not a number, or out of range", body = ErrorBody),
        (status = 404, description = "Not available yet", body = ErrorBody),
    ),
)]
pub(super) async fn window(
    Window(n): Window,
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let make = move || {
        let view = live.window(n).map_err(|error| unavailable(PeriodKind::Window, error))?;
        json(&BTreeMap::from([(format!("{n}m"), &*view)]))
    };
    answers.answer(Question::Window(n), None, &headers, make).await
}

/// The byte form of a bucket's summary.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct BucketState(#[expect(dead_code, reason = "it describes bytes")] Vec<u8>);

/// The state of one bucket, for merging
///
/// The versioned byte form of the whole bucket, including its sketches. Decoded and merged with
/// the states of other agents for the same minute, it gives the summary of an agent that saw the
/// packets of all of them.
#[utoipa::path(
    get,
    path = "/api/v1/state/bucket/{n}",
    tag = "state",
    params(("n" = u64, Path, description = "Number of the bucket: 0 (the live minute) to periods − 1", example = 0)),
    responses(
        (status = 200, description = "The byte form", body = BucketState, content_type = "application/octet-stream"),
        (status = 400, description = "Not a number, or out of range", body = ErrorBody),
        (status = 404, description = "Not available yet, or counted with other DNS ports than the current ones", body = ErrorBody),
    ),
)]
pub(super) async fn state(
    Bucket(n): Bucket,
    State(live): State<Arc<Live>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // A closed minute does not change: its answer stays valid for as long as the minute is kept.
    let closed = live.closed(n);
    let make = move || live.state(n).map_err(|error| unavailable(PeriodKind::Bucket, error));
    answers.answer(Question::State(n), closed, &headers, make).await
}

/// Serializes a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(internal)
}
