//! Answers and errors of each route.

use std::io::Read;
use std::mem::take;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use pktvisor_common::api::{AppMetrics, Rates, Views};

use crate::support::{ask, get, live, live_without_packets};

#[tokio::test]
async fn app_and_rates_are_json() {
    // Each call asks a new daemon, and the second one may start in the next second.
    let app = get("/api/v1/metrics/app").await;
    assert_eq!((app.status, app.header("content-type")), (StatusCode::OK, "application/json"));
    let (mut served, mut expected): (AppMetrics, _) =
        (serde_json::from_slice(&app.body).unwrap(), live().app());
    // The resources that the process has used grow between two calls.
    let (then, now) = (take(&mut served.app.process), take(&mut expected.app.process));
    assert!(then.cpu_seconds > 0.0 && then.cpu_seconds <= now.cpu_seconds);
    assert!(then.resident_bytes > 1_000_000);
    assert!(take(&mut served.app.started_ts) <= take(&mut expected.app.started_ts));
    assert_eq!(served, expected);
    let rates = get("/api/v1/metrics/rates").await;
    assert_eq!((rates.status, rates.header("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(serde_json::from_slice::<Rates>(&rates.body).unwrap(), live().rates());
}

#[tokio::test]
async fn bucket_has_key_1m() {
    for n in 0..3 {
        let answer = get(&format!("/api/v1/metrics/bucket/{n}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), "application/json");
        let views: Views = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            views.into_iter().collect::<Vec<_>>(),
            [("1m".to_owned(), (*live().bucket(n).unwrap()).clone())]
        );
    }
}

#[tokio::test]
async fn window_has_key_of_its_minutes() {
    for n in 1..=3 {
        let answer = get(&format!("/api/v1/metrics/window/{n}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), "application/json");
        let views: Views = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            views.into_iter().collect::<Vec<_>>(),
            [(format!("{n}m"), (*live().window(n).unwrap()).clone())]
        );
    }
}

#[tokio::test]
async fn state_is_bytes() {
    let answer = get("/api/v1/state/bucket/1").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.body, live().state(1).unwrap());
}

#[tokio::test]
async fn error_for_unavailable_period_names_available_ones() {
    let no_number = "the period is not a number; expected";
    let out_of_range = "the period is out of range; expected";
    let not_yet = "the period is not available yet; available:";
    let (buckets, windows) = ("bucket/0 to bucket/4", "window/1 to window/5");
    let cases = [
        ("metrics/bucket/x", 400, format!("{no_number} {buckets}")),
        ("metrics/bucket/-1", 400, format!("{no_number} {buckets}")),
        ("metrics/bucket/+1", 400, format!("{no_number} {buckets}")),
        ("metrics/bucket/1.0", 400, format!("{no_number} {buckets}")),
        ("metrics/bucket/%ff", 400, format!("{no_number} {buckets}")),
        ("metrics/bucket/%20", 400, format!("{no_number} {buckets}")),
        ("metrics/bucket/5", 400, format!("{out_of_range} {buckets}")),
        ("metrics/bucket/18446744073709551616", 400, format!("{out_of_range} {buckets}")),
        ("metrics/bucket/3", 404, format!("{not_yet} bucket/0 to bucket/2")),
        ("metrics/window/x", 400, format!("{no_number} {windows}")),
        ("metrics/window/0", 400, format!("{out_of_range} {windows}")),
        ("metrics/window/6", 400, format!("{out_of_range} {windows}")),
        ("metrics/window/4", 404, format!("{not_yet} window/1 to window/3")),
        ("state/bucket/x", 400, format!("{no_number} {buckets}")),
        ("state/bucket/5", 400, format!("{out_of_range} {buckets}")),
        ("state/bucket/4", 404, format!("{not_yet} bucket/0 to bucket/2")),
    ];
    for (path, status, error) in cases {
        let answer = get(&format!("/api/v1/{path}")).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (status, error), "{path}");
    }
}

#[tokio::test]
async fn unknown_route_is_an_error_in_the_envelope() {
    for path in ["/nowhere", "/api/v1/metrics", "/api/v1/metrics/bucket", "/api/v1/metrics/bucket/"]
    {
        let answer = get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.error(), format!("no route {path}; /docs lists all routes"));
    }
}

#[tokio::test]
async fn unknown_method_is_an_error_that_lists_allowed_ones() {
    for path in ["/api/v1/metrics/app", "/api/v1/metrics/bucket/0", "/docs", "/"] {
        for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = ask(live(), request).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(answer.header("allow"), "GET,HEAD", "{path}");
            assert_eq!(
                answer.error(),
                "method not allowed; the Allow header lists the allowed methods"
            );
        }
    }
}

#[tokio::test]
async fn compresses_answers_on_request() {
    let request = Request::get("/api/v1/metrics/bucket/0").header("accept-encoding", "gzip");
    let compressed = ask(live(), request.body(Body::empty()).unwrap()).await;
    assert_eq!(compressed.header("content-encoding"), "gzip");
    let plain = get("/api/v1/metrics/bucket/0").await;
    assert_eq!(plain.header("content-encoding"), "");
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&compressed.body[..]).read_to_end(&mut body).unwrap();
    assert_eq!(body, plain.body);
    assert!(compressed.body.len() < plain.body.len());
}

#[tokio::test]
async fn separates_health_from_readiness() {
    let health = get("/healthz").await;
    assert_eq!((health.status, &health.body[..]), (StatusCode::OK, &b"ok"[..]));
    let ready = get("/readyz").await;
    let expected = br#"{"ready":true,"source":"file","interfaces":0,"pending":0,"faults":[]}"#;
    assert_eq!((ready.status, &ready.body[..]), (StatusCode::OK, &expected[..]));

    let request = |path| Request::get(path).body(Body::empty()).unwrap();
    let health = ask(live_without_packets(), request("/healthz")).await;
    assert_eq!(health.status, StatusCode::OK);
    let ready = ask(live_without_packets(), request("/readyz")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready.body,
        br#"{"ready":false,"source":"file","interfaces":0,"pending":0,"faults":[]}"#
    );
    let bucket = ask(live_without_packets(), request("/api/v1/metrics/bucket/0")).await;
    assert_eq!(bucket.status, StatusCode::NOT_FOUND);
    assert_eq!(bucket.error(), "no period is available yet: no packet was read");

    let live = live_without_packets();
    assert!(live.answers() && !live.set_alive(true));
    assert!(live.set_alive(false), "that is news");
    let health = ask(live, request("/healthz")).await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(health.error().starts_with("a worker does not respond"));
}
