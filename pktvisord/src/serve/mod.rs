//! The HTTP interface: metrics, mergeable states, the OpenAPI document and a page to browse it.
//!
//! [`router`] is the one place where URLs meet handlers; the OpenAPI document is made from the
//! same table. Answers come from merged snapshots: nothing here holds the packet path up.

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
pub mod prometheus;
mod server;

pub use connections::{Connections, KEPT_FOR_TRUSTED, MAX_CONNECTIONS, MAX_OF_CLIENT};
pub use server::serve;

/// How long an answer may take to make.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How the interface is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries of each top list for Prometheus.
    pub prometheus_top: u8,
    /// Who may ask.
    pub access: Access,
    /// Whether requests may name any host as the one they are for. Where nobody has to show who they
    /// are, a page of another site must not ask in the name of a browser here (DNS rebinding).
    pub any_host: bool,
    /// The connections of all listeners.
    pub connections: Arc<Connections>,
}

impl Options {
    /// Takes the tokens and certificates of `newer`, which was opened with the same options. Connections
    /// of clients whose certificates are not right any more are closed; a token has to be shown again for
    /// a connection to be trusted.
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

/// The whole interface, answering from `live`.
pub fn router(live: Arc<Live>, options: &Options) -> Router {
    let wrong_tokens = Arc::clone(&options.access.wrong_tokens);
    let exposition = Exposition::new(Arc::clone(&live), options.prometheus_top, wrong_tokens);
    let (documented, document) = OpenApiRouter::with_openapi(openapi::Base::openapi())
        .routes(routes!(metrics::app))
        .routes(routes!(metrics::rates))
        .routes(routes!(metrics::bucket))
        .routes(routes!(metrics::window))
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

/// What holds for every route: who may ask, one form of error, a bound on time, compression, and what
/// browsers are told.
fn envelope(routes: Router, door: Door) -> Router {
    routes
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(middleware::from_fn_with_state(door, authorize))
        .layer(middleware::from_fn(limit_time))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| error::panicked(&*panic)))
        .layer(middleware::map_response(tell_browsers))
}

/// What pages may do: load their parts and the document from here, and nothing else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Tells browsers to take an answer for what it is, to let a page do nothing more than ours does, and
/// to keep no answer that is not made to be kept.
async fn tell_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Routes that are open to all: supervisors have no token, and learn nothing of the packets.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// What is asked of requests.
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
                    tracing::warn!("requests with a wrong token: {wrong} since this was last said");
                }
                Err(ApiError::WrongToken)
            }
        }
    }
}

/// Whether a Host header names this host, whatever others call it: loopback, or an address.
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

/// Lets those through who have a token, where there are tokens (RFC 6750), and who mean this host.
async fn authorize(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.opens(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

const BEARER: &[u8] = b"Bearer ";

/// A fault of the daemon: the log tells which.
fn internal(error: impl Display) -> ApiError {
    tracing::error!(%error, "the HTTP interface could not make an answer");
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
    async fn a_panic_is_an_error_in_the_envelope() {
        async fn panics() -> &'static str {
            panic!("secret")
        }
        let response = ask(Router::new().route("/", get(panics))).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(error_of(response).await, "internal error: see the log of pktvisord");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_too_long_is_an_error_in_the_envelope() {
        let response = ask(Router::new().route("/", get(std::future::pending::<()>))).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error_of(response).await, "the answer was not made within 10 s");
    }
}
