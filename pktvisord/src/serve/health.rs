//! Liveness and readiness.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pktvisor_common::api::ErrorBody;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::input::status::{InputKind, Watching};
use crate::serve::live::Live;

/// Whether packets are taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Packets are taken in, or a file was opened.
    ready: bool,
    /// Where packets come from: `ebpf`, `libpcap` or `file`.
    source: String,
    /// Why packets do not come from programs in the kernel, where that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// Interfaces that are watched.
    interfaces: u64,
    /// Interfaces to which programs are still being attached.
    pending: u64,
    /// Interfaces whose packets are not seen as they should be, each with the reason.
    faults: Vec<String>,
}

/// Whether the daemon lives
///
/// That is whether all threads that sum packets up answer; it is looked at every 10 s.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses(
        (status = 200, description = "All threads that sum packets up respond: `ok`", body = String, content_type = "text/plain"),
        (status = 503, description = "One does not: the daemon has to be restarted", body = ErrorBody),
    ),
)]
pub(super) async fn healthz(State(live): State<Arc<Live>>) -> Result<&'static str, ApiError> {
    if live.is_alive() { Ok("ok") } else { Err(ApiError::NoLife) }
}

/// Whether packets are taken in
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "Packets are taken in", body = Readiness),
        (status = 503, description = "Not yet, no longer, or not of all interfaces: `pending` and `faults` say why", body = Readiness),
    ),
)]
pub(super) async fn readyz(State(live): State<Arc<Live>>) -> (StatusCode, Json<Readiness>) {
    let ready = live.ready();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = live.status();
    let Watching { watched, pending, faults } = status.watching();
    let readiness = Readiness {
        ready,
        source: status.kind.name().to_owned(),
        fallback: status.fallback.clone(),
        interfaces: if status.kind == InputKind::File { 0 } else { watched.len() as u64 },
        pending,
        faults,
    };
    (code, Json(readiness))
}
