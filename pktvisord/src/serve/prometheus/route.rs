//! The `/metrics` route for Prometheus.

use std::sync::Arc;

use axum::Extension;
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use crate::serve::answers::{Answers, Question};
use crate::serve::error::ApiError;
use crate::serve::internal;
use crate::serve::prometheus::{Exposition, Format};

/// The metrics for Prometheus
///
/// Prometheus' text format 0.0.4, or OpenMetrics 1.0 if the client asks for it. Counters and
/// histograms count since the start; gauges describe the last closed bucket.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "metrics",
    responses(
        (status = 200, description = "The metrics", content(
            (String = "text/plain"),
            (String = "application/openmetrics-text"),
        )),
    ),
)]
pub(crate) async fn metrics(
    Extension(exposition): Extension<Arc<Exposition>>,
    Extension(answers): Extension<Arc<Answers>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = preferred(accept);
    let make = move || exposition.text(format).map(String::into_bytes).map_err(internal);
    let mut response = answers.answer(Question::Metrics(format), None, &headers, make).await?;
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Returns the format that an Accept header prefers (RFC 9110, section 12.5.1). `OpenMetrics` has
/// to be named, with a quality no lower than that of text.
fn preferred(accept: &str) -> Format {
    let (mut text, mut open) = (None::<f32>, None::<f32>);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let place = match parts.next().map(str::to_ascii_lowercase).as_deref() {
            Some("application/openmetrics-text") => &mut open,
            Some("text/plain" | "text/*" | "*/*") => &mut text,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        *place = Some(place.unwrap_or(0.0_f32).max(quality));
    }
    match open {
        Some(open) if open > 0.0 && open >= text.unwrap_or(0.0) => Format::OpenMetrics,
        _ => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_open_metrics_only_on_request() {
        use Format::{OpenMetrics, Text};
        for (accept, format) in [
            ("", Text),
            ("*/*", Text),
            ("text/html, */*;q=0.1", Text),
            ("text/plain;version=0.0.4", Text),
            ("application/openmetrics-text", OpenMetrics),
            // The header that Prometheus 2.42 sends.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.5", Text),
            ("application/openmetrics-text;q=0", Text),
            ("APPLICATION/OpenMetrics-Text ; q=nonsense", OpenMetrics),
        ] {
            assert_eq!(preferred(accept), format, "{accept}");
        }
    }
}
