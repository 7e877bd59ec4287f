//! The metrics of the daemon: its own state, rates, buckets and windows.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use pktvisor_common::api::{AppMetrics, ErrorBody, MetricsView, Rates};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::error::ApiError;
use super::period::{Bucket, PeriodKind, Window, unavailable};
use crate::live::{Live, PeriodError};

/// The daemon's own state
///
/// Version, configuration, time since the start, and where packets come from.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/app",
    tag = "metrics",
    responses((status = 200, description = "The state now", body = AppMetrics)),
)]
pub(super) async fn app(State(live): State<Arc<Live>>) -> Result<Json<AppMetrics>, ApiError> {
    unhurried(move || live.app()).await.map(Json)
}

/// Rates of the last full second
///
/// Packets and octets by direction.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/rates",
    tag = "metrics",
    responses((status = 200, description = "The rates", body = Rates)),
)]
pub(super) async fn rates(State(live): State<Arc<Live>>) -> Result<Json<Rates>, ApiError> {
    unhurried(move || live.rates()).await.map(Json)
}

/// One bucket: a minute of packet time
///
/// Bucket 0 is the live one, which still grows; 1 is the minute before it, and so on.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/bucket/{n}",
    tag = "metrics",
    params(("n" = u64, Path, description = "Which bucket: 0 (the live one) to periods − 1", example = 0)),
    responses(
        (status = 200, description = "The view, under the key `1m`", body = BTreeMap<String, MetricsView>),
        (status = 400, description = "No number, or out of range", body = ErrorBody),
        (status = 404, description = "Not there yet", body = ErrorBody),
    ),
)]
pub(super) async fn bucket(
    Bucket(n): Bucket,
    State(live): State<Arc<Live>>,
) -> Result<Response, ApiError> {
    let make = move || live.bucket(n).map(|view| views("1m", &view));
    period(PeriodKind::Bucket, make).await?.map(json).map_err(internal)
}

/// A window: the newest buckets merged
///
/// Window n merges the buckets 0 to n − 1.
#[utoipa::path(
    get,
    path = "/api/v1/metrics/window/{n}",
    tag = "metrics",
    params(("n" = u64, Path, description = "How many buckets: 1 to periods", minimum = 1, example = 5)),
    responses(
        (status = 200, description = "The view, under the key `<n>m`", body = BTreeMap<String, MetricsView>),
        (status = 400, description = "No number, or out of range", body = ErrorBody),
        (status = 404, description = "Not there yet", body = ErrorBody),
    ),
)]
pub(super) async fn window(
    Window(n): Window,
    State(live): State<Arc<Live>>,
) -> Result<Response, ApiError> {
    let make = move || live.window(n).map(|view| views(&format!("{n}m"), &view));
    period(PeriodKind::Window, make).await?.map(json).map_err(internal)
}

/// The byte form of a bucket's summary.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct BucketState(Vec<u8>);

impl IntoResponse for BucketState {
    fn into_response(self) -> Response {
        // axum's content type for octets is application/octet-stream.
        self.0.into_response()
    }
}

/// The state of one bucket, for merging
///
/// The versioned byte form of all that the bucket knows, sketches included. Decoded and merged
/// with the states of other agents for the same minute it gives what one agent would have
/// given that saw the packets of all.
#[utoipa::path(
    get,
    path = "/api/v1/state/bucket/{n}",
    tag = "state",
    params(("n" = u64, Path, description = "Which bucket: 0 (the live one) to periods − 1", example = 0)),
    responses(
        (status = 200, description = "The byte form", body = BucketState, content_type = "application/octet-stream"),
        (status = 400, description = "No number, or out of range", body = ErrorBody),
        (status = 404, description = "Not there yet, or counted by other DNS ports than those of now", body = ErrorBody),
    ),
)]
pub(super) async fn state(
    Bucket(n): Bucket,
    State(live): State<Arc<Live>>,
) -> Result<BucketState, ApiError> {
    period(PeriodKind::Bucket, move || live.state(n)).await.map(BucketState)
}

/// The JSON of a view under its key.
fn views(key: &str, view: &MetricsView) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&BTreeMap::from([(key, view)]))
}

/// The answer with these octets of JSON.
fn json(octets: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], octets).into_response()
}

/// What `make` gives for a period, or why there is none.
async fn period<T: Send + 'static>(
    kind: PeriodKind,
    make: impl FnOnce() -> Result<T, PeriodError> + Send + 'static,
) -> Result<T, ApiError> {
    unhurried(make).await?.map_err(|error| unavailable(kind, error))
}

/// Runs what may take some milliseconds, as merging shards does, where it holds no other
/// request up.
pub(super) async fn unhurried<T: Send + 'static>(
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    // Whoever has to wait too long is told so, and leaves no work behind.
    let place = AT_ONCE.acquire().await.map_err(internal)?;
    let made = tokio::task::spawn_blocking(move || (make(), place)).await.map_err(internal)?;
    Ok(made.0)
}

/// Answers that are made at once: more would only wait for one another, and pile up.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// A fault of the daemon: the log tells which.
pub(super) fn internal(error: impl Display) -> ApiError {
    tracing::error!(%error, "the HTTP interface could not make an answer");
    ApiError::Internal
}
