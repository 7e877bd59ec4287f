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

/// Whether the daemon reads packets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// True if the daemon reads a file, or watches every selected interface and receives its packets.
    ready: bool,
    /// Source of packets: `ebpf`, `libpcap` or `file`.
    source: String,
    /// Reason why libpcap captures instead of eBPF, if eBPF was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// Number of watched interfaces.
    interfaces: u64,
    /// Number of interfaces still to be watched.
    pending: u64,
    /// Interfaces whose packets do not reach the daemon, each with the reason.
    faults: Vec<String>,
}

/// Liveness: whether all workers respond
///
/// The daemon checks its workers every 10 s.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses(
        (status = 200, description = "All workers respond: `ok`", body = String, content_type = "text/plain"),
        (status = 503, description = "A worker does not respond: restart the daemon", body = ErrorBody),
    ),
)]
pub(super) async fn healthz(State(live): State<Arc<Live>>) -> Result<&'static str, ApiError> {
    if live.is_alive() { Ok("ok") } else { Err(ApiError::NoLife) }
}

/// Readiness: whether the daemon reads packets
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "The daemon reads packets", body = Readiness),
        (status = 503, description = "The daemon does not read packets yet, no longer reads them, or misses those of some interfaces; see `pending` and `faults`", body = Readiness),
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
