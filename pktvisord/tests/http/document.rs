//! The OpenAPI document and the page to browse it.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::Value;

use crate::support::{ask, get, live};

async fn document() -> Value {
    let answer = get("/api/v1/openapi.json").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (StatusCode::OK, "application/json")
    );
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn repository_document_is_the_one_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let served = serde_json::to_string_pretty(&document().await).unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == served,
        "docs/openapi.json is not what is served; look at the difference after \
         `UPDATE_OPENAPI=1 cargo test -p pktvisord --test http`"
    );
}

#[tokio::test]
async fn documented_routes_answer_as_documented() {
    let document = document().await;
    let paths = document["paths"].as_object().unwrap();
    assert!(!paths.is_empty());
    for (path, methods) in paths {
        let documented = &methods["get"]["responses"]["200"]["content"];
        let parameters = methods["get"]["parameters"].as_array().into_iter().flatten();
        let required = parameters.filter(|one| one["in"] == "query" && one["required"] == true);
        let query = required.map(|one| {
            format!("{}={}", one["name"].as_str().unwrap(), one["example"].as_str().unwrap())
        });
        let query: Vec<String> = query.collect();
        let answer = get(&format!("{}?{}", path.replace("{n}", "1"), query.join("&"))).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let content_type = answer.header("content-type").split(';').next().unwrap();
        assert!(documented.get(content_type).is_some(), "{path}: {content_type}");
    }
}

#[tokio::test]
async fn describes_every_schema_and_property() {
    let document = document().await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.len() > 20);
    for (name, schema) in schemas {
        assert!(schema["description"].is_string(), "{name}");
        for (property, schema) in schema["properties"].as_object().into_iter().flatten() {
            // `null` or a reference: the description is beside it.
            assert!(schema["description"].is_string(), "{name}.{property}");
        }
    }
}

#[tokio::test]
async fn resolves_every_reference() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document().await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn serves_all_parts_of_the_page() {
    let root = get("/").await;
    assert_eq!((root.status, root.header("location")), (StatusCode::SEE_OTHER, "/docs"));
    for (path, content_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css"),
        ("/docs/page.js", "text/javascript"),
        ("/docs/icon.svg", "image/svg+xml"),
    ] {
        let part = get(path).await;
        assert_eq!((part.status, part.header("content-type")), (StatusCode::OK, content_type));
        let text = String::from_utf8(part.body).unwrap();
        // The page works offline, has no inline code or style, and inserts data only as text.
        let mine = text.replace("http://www.w3.org/2000/svg", "");
        for outside in
            ["http://", "https://", "data:", "@import", "innerHTML", "insertAdjacentHTML", "style="]
        {
            assert!(!mine.contains(outside), "{path}: {outside}");
        }
        assert!(!text.contains("<style") && !text.contains("<script>"), "{path}");
        let links = text.split('"').filter(|link| link.starts_with("/docs/"));
        for link in links {
            assert_eq!(get(link).await.status, StatusCode::OK, "{path}: {link}");
        }
    }
}

#[tokio::test]
async fn answers_304_to_clients_with_the_current_version() {
    for path in ["/docs", "/docs/page.js", "/api/v1/openapi.json"] {
        let first = get(path).await;
        assert_eq!(first.header("cache-control"), "no-cache");
        let tag = first.header("etag").to_owned();
        for (known, status) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"other\", {tag}"), StatusCode::NOT_MODIFIED),
            ("*".to_owned(), StatusCode::NOT_MODIFIED),
            ("W/\"0\"".to_owned(), StatusCode::OK),
        ] {
            let request = Request::get(path).header("if-none-match", &known);
            let answer = ask(live(), request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{path}: {known}");
            assert_eq!(answer.body.is_empty(), status == StatusCode::NOT_MODIFIED);
            assert_eq!(answer.header("etag"), tag);
        }
    }
}

#[tokio::test]
async fn sets_security_headers() {
    for path in ["/docs", "/api/v1/metrics/app", "/metrics", "/healthz", "/no/such/route"] {
        let answer = get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{path}");
        assert!(!policy.contains("unsafe") && !policy.contains("data:"), "{path}");
        let kept = if path == "/docs" { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
    }
}
