//! Static content: the page to browse the OpenAPI document, its parts, and the document.

use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::answers::{Answer, describe, gzip, takes_gzip};

/// Serves `body` with an entity tag. A client that has this version gets 304 instead of the body
/// (RFC 9110 section 13.1.2).
pub(super) fn asset<S>(content_type: &'static str, body: impl Into<Bytes>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let body: Bytes = body.into();
    // A weak tag, because compressed and plain responses have different bytes.
    let tag = format!("W/\"{}\"", &blake3::hash(&body).to_hex()[..16]);
    // If compression fails, the body is served uncompressed.
    let compressed = Answer::new(gzip(&body).unwrap_or_default());
    let plain = Answer::new(body);
    get(async move |headers: HeaderMap| -> Response {
        let fixed = [(ETAG, tag.clone()), (CACHE_CONTROL, "no-cache".to_owned())];
        if is_among(&headers, &tag) {
            return (StatusCode::NOT_MODIFIED, fixed).into_response();
        }
        let is_gzip = takes_gzip(&headers) && !compressed.is_empty();
        let body = if is_gzip { compressed.body() } else { plain.body() };
        let mut response = (fixed, body).into_response();
        describe(&mut response, HeaderValue::from_static(content_type), is_gzip);
        response
    })
}

/// Returns true if If-None-Match lists this tag or `*`.
fn is_among(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    tags.any(|known| known.trim() == tag || known.trim() == "*")
}
