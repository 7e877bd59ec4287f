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
    #[error("the period is not a number: ask for {0}")]
    NotANumber(PeriodRange),
    /// The period is larger than the number kept, or the window is empty.
    #[error("the period is out of range: ask for {0}")]
    OutOfRange(PeriodRange),
    /// The daemon has not run long enough for this period.
    #[error("the period is not there yet: so far there is {0}")]
    NotYet(PeriodRange),
    /// The bucket was counted with other DNS ports, so its state cannot be merged.
    #[error(
        "the DNS ports changed in that minute or after it, so its state can be merged with nothing; \
         ask for a newer one"
    )]
    OtherPorts,
    /// No period has begun.
    #[error("there is no period yet: no packet was taken in")]
    NoneYet,
    /// Nothing is served at this path.
    #[error("there is no route {0}: see /docs for those there are")]
    NoRoute(String),
    /// The route has no such method.
    #[error("the method is not allowed here: see the Allow header for those that are")]
    NoMethod,
    /// An HTTP/1.1 request needs exactly one Host header (RFC 9112 section 3.2).
    #[error("a request has to have one Host header")]
    NotOneHost,
    /// The URI names another host than the Host header (RFC 9112 section 3.2.2).
    #[error("the URI of the request is for another host than its Host header")]
    TwoHosts,
    /// The Host header is not a name of this server.
    #[error(
        "the Host header names neither localhost nor an address: whoever asks by another name \
             needs a token, see --token-file, or --insecure-listen"
    )]
    OtherHost,
    /// The request has no token.
    #[error("a token is needed: `Authorization: Bearer TOKEN`")]
    NoToken,
    /// The token is wrong.
    #[error("the token is not among those that are accepted here")]
    WrongToken,
    /// The answer was not made in time.
    #[error("the answer was not made within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// A worker does not answer.
    #[error("a thread that sums packets up does not answer: see the log of pktvisord")]
    NoLife,
    /// A fault of the daemon. The log has the details.
    #[error("internal error: see the log of pktvisord")]
    Internal,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            ApiError::NotANumber(_)
            | ApiError::OutOfRange(_)
            | ApiError::NotOneHost
            | ApiError::TwoHosts => StatusCode::BAD_REQUEST,
            ApiError::NotYet(_)
            | ApiError::NoneYet
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
    tracing::error!(message, "a request made the HTTP interface panic");
    ApiError::Internal.into_response()
}
