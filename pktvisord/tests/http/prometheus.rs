//! The `/metrics` route for Prometheus.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::http::{Request, StatusCode};

use crate::support::tool::has_tool;
use crate::support::{Answer, ask, get, live, live_without_packets};

async fn open_metrics() -> Answer {
    let request = Request::get("/metrics").header("accept", "application/openmetrics-text");
    ask(live(), request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn serves_text_format_and_open_metrics_on_request() {
    let text = get("/metrics").await;
    assert_eq!(text.status, StatusCode::OK);
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let open = open_metrics().await;
    assert_eq!(open.status, StatusCode::OK);
    assert_eq!(
        open.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let (text, open) =
        (String::from_utf8(text.body).unwrap(), String::from_utf8(open.body).unwrap());
    assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"));
    // Both formats have the same series, but write the bounds of classes differently.
    let series = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.contains("le=\""));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    assert_eq!(series(&text), series(&open));
}

#[tokio::test]
async fn counters_cover_all_time_and_gauges_the_last_closed_bucket() {
    let text = String::from_utf8(get("/metrics").await.body).unwrap();
    for sample in [
        "pktvisor_packets_total{direction=\"in\"} 303",
        "pktvisor_packets_total{direction=\"out\"} 0",
        "pktvisor_transport_packets_total{transport=\"udp\"} 303",
        "pktvisor_outcome_packets_total{outcome=\"headers\"} 303",
        "pktvisor_payload_size_bytes_bucket{le=\"0\"} 303",
        "pktvisor_payload_size_bytes_count 303",
        "pktvisor_distinct_ips{set=\"src_in\"} 1.0",
        "pktvisor_top_packets{list=\"ipv4\",name=\"192.0.2.7\"} 101.0",
        "pktvisor_top_packets{list=\"port\",name=\"9/udp\"} 101.0",
        "pktvisor_bucket_duration_seconds 60.0",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} in:\n{text}");
    }
    let nothing = Request::get("/metrics").body(Body::empty()).unwrap();
    let nothing = ask(live_without_packets(), nothing).await;
    assert_eq!(nothing.status, StatusCode::OK, "there is a daemon before there is a packet");
    let nothing = String::from_utf8(nothing.body).unwrap();
    assert!(nothing.contains("pktvisor_packets_total{direction=\"in\"} 0\n"));
    assert!(!nothing.contains("pktvisor_top_"));
}

#[tokio::test]
async fn passes_promtool_check() {
    if !has_tool("promtool", "prometheus") {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = get("/metrics").await.body;
    promtool.stdin.take().unwrap().write_all(&text).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
