//! Access control: tokens and hosts.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use pktvisord::serve::access::{Access, AccessFiles};
use pktvisord::serve::{Options, router};

use crate::support::{Answer, ask_router, live};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn ask(path: &str, authorization: Option<&str>) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("# the old one\nfedcba9876543210fedcba9876543210\n\n{TOKEN}\n"))
        .unwrap();
    let file = file.to_str().unwrap();
    let access =
        Access::open(&AccessFiles { token_file: Some(file.into()), ..AccessFiles::default() })
            .unwrap();
    let mut request = Request::get(path);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let options = Options { access, ..Options::default() };
    ask_router(router(live(), &options), request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn all_routes_but_health_need_a_token() {
    for path in [
        "/",
        "/docs",
        "/metrics",
        "/api/v1/openapi.json",
        "/api/v1/metrics/app",
        "/api/v1/metrics/window/1",
        "/api/v1/state/bucket/0",
        "/healthz/",
        "/no/such/route",
    ] {
        let answer = ask(path, None).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"pktvisord\"");
        assert_eq!(answer.error(), "missing token; send `Authorization: Bearer TOKEN`");
        let answer = ask(path, Some(&format!("Bearer {TOKEN}"))).await;
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(ask("/healthz", None).await.status, StatusCode::OK);
    assert_eq!(ask("/readyz", None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn accepts_only_tokens_of_the_file() {
    let longer = format!("Bearer {TOKEN}0");
    let shorter = format!("Bearer {}", &TOKEN[1..]);
    let basic = format!("Basic {TOKEN}");
    for wrong in ["", "Bearer", "Bearer ", "Bearer #", TOKEN, &longer, &shorter, &basic] {
        let answer = ask("/metrics", Some(wrong)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    for right in ["Bearer fedcba9876543210fedcba9876543210", &format!("bearer {TOKEN}")] {
        assert_eq!(ask("/metrics", Some(right)).await.status, StatusCode::OK, "{right}");
    }
}

#[tokio::test]
async fn rejects_foreign_hosts_without_tokens() {
    let ask = async |host: Option<&str>, any_host| {
        let mut request = Request::get("/api/v1/metrics/app");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let options = Options { any_host, ..Options::default() };
        let request = request.body(Body::empty()).unwrap();
        ask_router(router(live(), &options), request).await.status
    };
    for own in
        ["localhost", "LOCALHOST:10853", "127.0.0.1:10853", "[::1]:10853", "192.0.2.1", "[::1]"]
    {
        assert_eq!(ask(Some(own), false).await, StatusCode::OK, "{own}");
    }
    assert_eq!(ask(None, false).await, StatusCode::OK);
    for other in [
        "evil.example",
        "evil.example:10853",
        "localhost.evil.example",
        "",
        "[::1",
        "[::1]evil.example",
        "127.0.0.1.evil.example",
    ] {
        assert_eq!(ask(Some(other), false).await, StatusCode::FORBIDDEN, "{other}");
        assert_eq!(ask(Some(other), true).await, StatusCode::OK, "{other}");
    }
}
