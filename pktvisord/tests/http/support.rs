//! Daemons to test, and requests to them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use pktvisor_common::api::ErrorBody;
use pktvisord::serve::live::Live;
use pktvisord::serve::{Options, router};
use tower::ServiceExt;

#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/tool.rs"]
pub(crate) mod tool;

/// Returns a daemon that keeps 5 minutes and has seen 3: 102 packets in the first one, then 101,
/// then 100.
pub(crate) fn live() -> Arc<Live> {
    daemon::live(&[102, 101, 100])
}

/// Returns a daemon that has seen no packets.
pub(crate) fn live_without_packets() -> Arc<Live> {
    daemon::live(&[])
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn error(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice::<ErrorBody>(&self.body).unwrap().error
    }
}

/// Sends a request to `live`.
pub(crate) async fn ask(live: Arc<Live>, request: Request<Body>) -> Answer {
    ask_router(router(live, &Options::default()), request).await
}

/// Sends a request to a router, for localhost unless the request has a Host header.
pub(crate) async fn ask_router(router: Router, mut request: Request<Body>) -> Answer {
    let localhost = HeaderValue::from_static("localhost");
    request.headers_mut().entry(HOST).or_insert(localhost);
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Requests a path of [`live`].
pub(crate) async fn get(path: &str) -> Answer {
    ask(live(), Request::get(path).body(Body::empty()).unwrap()).await
}
