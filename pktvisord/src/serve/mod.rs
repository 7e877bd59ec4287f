//! The HTTP interface: metrics, mergeable states, the OpenAPI document and a page to browse it.
//!
//! [`router`] is the only place that maps URLs to handlers, and the OpenAPI document is made from
//! the same table. Answers come from merged snapshots, so requests do not hold up the packet path.

use std::any::Any;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Version};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::answers::Answers;
use self::connections::Connection;
use self::error::ApiError;
use crate::serve::access::Access;
use crate::serve::live::Live;
use crate::serve::prometheus::{Exposition, MAX_TOP};

pub mod access;
mod answers;
mod asset;
mod connections;
mod error;
mod health;
pub mod live;
mod metrics;
mod openapi;
mod period;
pub(crate) mod prometheus;
mod range;
mod server;

pub use connections::{Connections, KEPT_FOR_TRUSTED, MAX_CONNECTIONS, MAX_OF_CLIENT};
pub use server::serve;

/// Time limit for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of the HTTP interface.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of entries of each top list on `/metrics`.
    pub prometheus_top: u8,
    /// Authentication and TLS.
    pub access: Access,
    /// Accept any Host header. Without authentication, a page of another site could otherwise send
    /// requests through a browser on this host (DNS rebinding).
    pub any_host: bool,
    /// Connections of all listeners.
    pub connections: Arc<Connections>,
}

impl Options {
    /// Takes over the tokens and certificates of `newer`, which was opened with the same options.
    /// Closes connections of clients whose certificates are no longer accepted. A connection has to
    /// show a token again to be trusted.
    pub fn replace_access(&self, newer: &Access) {
        self.access.replace(newer);
        self.connections.forget_tokens();
        if let Some(clients) = &self.access.clients {
            let clients = clients.now();
            self.connections.close_where(|shown| !clients.accept(shown));
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prometheus_top: MAX_TOP,
            access: Access::default(),
            any_host: false,
            connections: Arc::default(),
        }
    }
}

/// Builds all routes, which answer from `live`.
pub fn router(live: Arc<Live>, options: &Options) -> Router {
    let wrong_tokens = Arc::clone(&options.access.wrong_tokens);
    let exposition = Exposition::new(Arc::clone(&live), options.prometheus_top, wrong_tokens);
    let (documented, document) = OpenApiRouter::with_openapi(openapi::Base::openapi())
        .routes(routes!(metrics::app))
        .routes(routes!(metrics::rates))
        .routes(routes!(metrics::bucket))
        .routes(routes!(metrics::window))
        .routes(routes!(range::range))
        .routes(routes!(range::history))
        .routes(routes!(metrics::state))
        .routes(routes!(prometheus::route::metrics))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .split_for_parts();
    let routes = documented
        .merge(openapi::routes(&document))
        .layer(Extension(Arc::new(exposition)))
        .layer(Extension(Arc::new(Answers::new(Arc::clone(&live)))));
    let door = Door { access: options.access.clone(), any_host: options.any_host };
    envelope(routes.with_state(live), door)
}

/// Wraps all routes with what they share: authorization, one form of error, a time limit, and
/// headers for browsers.
fn envelope(routes: Router, door: Door) -> Router {
    routes
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(middleware::from_fn_with_state(door, authorize))
        .layer(middleware::from_fn(limit_time))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| error::panicked(&*panic)))
        .layer(middleware::map_response(tell_browsers))
}

/// Content security policy: a page may load its parts and the document from this server, and
/// nothing else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Sets headers for browsers: no content sniffing, the content security policy and, by default, no
/// caching.
async fn tell_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Routes without authentication. Supervisors have no token, and these answers reveal nothing about
/// packets.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Checks of requests.
#[derive(Clone, Default)]
struct Door {
    access: Access,
    any_host: bool,
}

impl Door {
    fn opens(&self, request: &Request) -> Result<(), ApiError> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts.next().map(|host| host.to_str().unwrap_or_default());
        if hosts.next().is_some() || host.is_none() && request.version() == Version::HTTP_11 {
            return Err(ApiError::NotOneHost);
        }
        if let Some(authority) = request.uri().authority()
            && !host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str()))
        {
            return Err(ApiError::TwoHosts);
        }
        if OPEN.contains(&request.uri().path()) {
            return Ok(());
        }
        if !self.any_host && !host.is_none_or(is_own_host) {
            return Err(ApiError::OtherHost);
        }
        let Some(tokens) = &self.access.tokens else { return Ok(()) };
        let given = request.headers().get(AUTHORIZATION).ok_or(ApiError::NoToken)?;
        match given.as_bytes().split_at_checked(BEARER.len()) {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case(BEARER) && tokens.now().contain(token) =>
            {
                if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
                    connection.trust_by_token();
                }
                Ok(())
            }
            _ => {
                if let Some(wrong) = self.access.wrong_tokens.happened(Instant::now()) {
                    tracing::warn!(
                        "requests with an invalid token: {wrong} since the last message"
                    );
                }
                Err(ApiError::WrongToken)
            }
        }
    }
}

/// Returns true if a Host header names `localhost` or an IP address. DNS rebinding cannot forge
/// these.
fn is_own_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let port = host.strip_prefix(name).unwrap_or("?");
    if !port.is_empty() && !port.starts_with(':') {
        return false;
    }
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Passes on requests with an accepted token (RFC 6750), if tokens are configured, and with a Host
/// of this server.
async fn authorize(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.opens(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

const BEARER: &[u8] = b"Bearer ";

/// Logs an internal error and returns the error for the client.
fn internal(error: impl Display) -> ApiError {
    tracing::error!(%error, "cannot build an HTTP answer");
    ApiError::Internal
}

async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Response, StatusCode};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn ask(routes: Router) -> Response<Body> {
        let request = Request::get("/").header(HOST, "localhost").body(Body::empty()).unwrap();
        envelope(routes, Door::default()).oneshot(request).await.unwrap()
    }

    async fn error_of(response: Response<Body>) -> String {
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        serde_json::from_slice::<pktvisor_common::api::ErrorBody>(&body).unwrap().error
    }

    #[tokio::test]
    async fn answers_panic_with_error_envelope() {
        async fn panics() -> &'static str {
            panic!("secret")
        }
        let response = ask(Router::new().route("/", get(panics))).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(error_of(response).await, "internal error; see the log of pktvisord");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_timeout_with_error_envelope() {
        let response = ask(Router::new().route("/", get(std::future::pending::<()>))).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error_of(response).await, "no answer within 10 s");
    }
}
