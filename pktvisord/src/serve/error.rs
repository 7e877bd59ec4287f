//! Errors of the HTTP interface, in one envelope: `{"error": "…"}`.

use std::any::Any;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use pktvisor_common::api::ErrorBody;
use thiserror::Error;

use super::REQUEST_TIMEOUT;
use super::period::PeriodRange;

/// Reason why a request fails.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    /// The period in the path is not a number.
    #[error("the period is not a number; expected {0}")]
    NotANumber(PeriodRange),
    /// The period is larger than the number kept, or the window is empty.
    #[error("the period is out of range; expected {0}")]
    OutOfRange(PeriodRange),
    /// The daemon has not run long enough for this period.
    #[error("the period is not available yet; available: {0}")]
    NotYet(PeriodRange),
    /// The bucket was counted with other DNS ports, so its state cannot be merged.
    #[error(
        "the state of this minute cannot be merged, because the DNS ports changed in it or later; \
         request a newer minute"
    )]
    OtherPorts,
    /// A limit or the step of a range is malformed, or there are too many steps.
    #[error("{0}")]
    BadRange(String),
    /// The daemon has no data of the range.
    #[error("no data of this range; /api/v1/history lists the stored periods")]
    NothingStored,
    /// No period has begun.
    #[error("no period is available yet: no packet was read")]
    NoneYet,
    /// Nothing is served at this path.
    #[error("no route {0}; /docs lists all routes")]
    NoRoute(String),
    /// The route has no such method.
    #[error("method not allowed; the Allow header lists the allowed methods")]
    NoMethod,
    /// An HTTP/1.1 request needs exactly one Host header (RFC 9112 section 3.2).
    #[error("the request must have exactly one Host header")]
    NotOneHost,
    /// The URI names another host than the Host header (RFC 9112 section 3.2.2).
    #[error("the URI of the request names another host than the Host header")]
    TwoHosts,
    /// The Host header is not a name of this server.
    #[error(
        "the Host header names neither localhost nor an IP address; to allow other names, start \
             pktvisord with --token-file or --insecure-listen"
    )]
    OtherHost,
    /// The request has no token.
    #[error("missing token; send `Authorization: Bearer TOKEN`")]
    NoToken,
    /// The token is wrong.
    #[error("invalid token")]
    WrongToken,
    /// The answer was not made in time.
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// A worker does not answer.
    #[error("a worker does not respond; see the log of pktvisord")]
    NoLife,
    /// A fault of the daemon. The log has the details.
    #[error("internal error; see the log of pktvisord")]
    Internal,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            ApiError::NotANumber(_)
            | ApiError::OutOfRange(_)
            | ApiError::BadRange(_)
            | ApiError::NotOneHost
            | ApiError::TwoHosts => StatusCode::BAD_REQUEST,
            ApiError::NotYet(_)
            | ApiError::NoneYet
            | ApiError::NothingStored
            | ApiError::OtherPorts
            | ApiError::NoRoute(_) => StatusCode::NOT_FOUND,
            ApiError::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::OtherHost => StatusCode::FORBIDDEN,
            ApiError::NoToken | ApiError::WrongToken => StatusCode::UNAUTHORIZED,
            ApiError::Timeout | ApiError::NoLife => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response =
            (self.status(), Json(ErrorBody { error: self.to_string() })).into_response();
        if matches!(self, ApiError::NoToken | ApiError::WrongToken) {
            let scheme = HeaderValue::from_static("Bearer realm=\"pktvisord\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Answers a request for an unknown path.
pub(super) async fn no_route(uri: Uri) -> ApiError {
    ApiError::NoRoute(uri.path().to_owned())
}

/// Answers a request whose method the route does not have.
pub(super) async fn no_method() -> ApiError {
    ApiError::NoMethod
}

/// Logs a panic and answers with an internal error.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(message, "an HTTP request caused a panic");
    ApiError::Internal.into_response()
}
