//! The OpenAPI document, made from routes and types, and the page to browse it.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::asset::asset;

/// Parts of the document other than routes and schemas.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pktvisord",
        description = "Summaries of the packets that pktvisord sees, one for each minute of packet time. \
            Every error has a body of the form `{\"error\": \"…\"}`. Besides the listed status codes, each route may \
            answer 400 (missing, repeated or contradictory Host header), 405, 500 and 503. All routes except the health routes may also answer 401 (missing or invalid token) and \
            403 (request for another host). \
            Answers are compressed with gzip if the client accepts it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "metrics", description = "Summaries as JSON"),
        (name = "state", description = "Summaries in a mergeable form"),
        (name = "health", description = "For supervisors and load balancers"),
    ),
    modifiers(&Guard),
    security((), ("token" = [])),
)]
pub(super) struct Base;

/// Adds the bearer token as a security scheme.
struct Guard;

impl Modify for Guard {
    fn modify(&self, document: &mut Document) {
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token from the file that `--token-file` names, if pktvisord was started with this option"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

/// Returns the routes of the document and of the page to browse it.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: &Document) -> Router<S> {
    let json = serde_json::to_vec(document).expect("an OpenAPI document is JSON");
    Router::new()
        .route("/", get(async || Redirect::to("/docs")))
        .route("/docs", asset("text/html; charset=utf-8", include_str!("docs/page.html")))
        .route("/docs/page.css", asset("text/css", include_str!("docs/page.css")))
        .route("/docs/page.js", asset("text/javascript", include_str!("docs/page.js")))
        .route("/docs/icon.svg", asset("image/svg+xml", include_str!("docs/icon.svg")))
        .route("/api/v1/openapi.json", asset("application/json", json))
}
