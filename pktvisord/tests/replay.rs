//! A capture that is served as if it were live.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pktvisor_common::api::{AppMetrics, ErrorBody, MetricsView, Rates};
use serde_json::Value;
use support::capture::{Capture, Folder, SECOND, START};
use support::program::{PATIENCE, Server, run, view};
use support::traffic::{HOSTS, traffic};

/// Length of the capture in seconds. It spans three minutes.
const LENGTH: i64 = 100;
/// Time limit for a shutdown.
const GRACE: Duration = Duration::from_secs(5);

fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    CAPTURE.get_or_init(|| traffic(5, 20_000, START + 30 * SECOND, LENGTH * SECOND).capture)
}

fn stored() -> (Folder, String) {
    let folder = Folder::new();
    let file = folder.store("traffic.pcap", &capture().pcap());
    (folder, file)
}

/// Returns a view without the top lists that are estimates.
fn exact(mut view: MetricsView) -> MetricsView {
    let (packets, dns) = (&mut view.packets, &mut view.dns);
    for list in [
        &mut packets.top_ipv4,
        &mut packets.top_ipv6,
        &mut packets.top_ips_bytes,
        &mut dns.top_qname2,
        &mut dns.top_qname3,
        &mut dns.top_noerror,
        &mut dns.top_nodata,
        &mut dns.top_nxdomain,
        &mut dns.top_qname_by_resp_bytes,
    ] {
        assert!(!list.is_empty());
        if list.iter().any(|entry| entry.error.is_some()) {
            list.clear();
        }
    }
    view
}

/// Returns the status of a request with this Host header and token.
fn asked_as(server: &Server, host: &str, token: &str) -> u16 {
    let mut request = ureq::get(server.url("/metrics")).header("host", host);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    match request.call() {
        Ok(answer) => answer.status().as_u16(),
        Err(ureq::Error::StatusCode(code)) => code,
        Err(error) => panic!("{error}"),
    }
}

/// DNS rebinding: another site's name resolves to loopback.
#[test]
fn foreign_host_needs_a_token() {
    let (folder, file) = stored();
    let server = Server::start(&["--replay=max", &file]);
    assert_eq!(asked_as(&server, "localhost:10853", ""), 200);
    assert_eq!(asked_as(&server, "evil.example", ""), 403);
    let tokens = folder.store("tokens", b"0123456789abcdef\n");
    let server = Server::start(&["--token-file", &tokens, "--replay=max", &file]);
    assert_eq!(asked_as(&server, "ns1.example", "0123456789abcdef"), 200);
    assert_eq!(asked_as(&server, "ns1.example", ""), 401);
}

#[test]
fn replay_ends_with_the_summary_of_the_file() {
    let (_folder, file) = stored();
    let server = Server::start(&["-H", HOSTS, "--replay=max", &file]);
    server.wait_for_end();
    let summary = view(&run(&["-H", HOSTS, &file]));
    let window = server.view("/api/v1/metrics/window/3");
    assert_eq!(exact(window.clone()), exact(summary));

    let app: AppMetrics = server.json("/api/v1/metrics/app");
    assert_eq!((app.app.periods, app.app.deep_sample_rate_pct), (5, 100));
    assert!(!app.app.single_summary && app.app.capture.finished);
    assert_eq!(
        (app.app.capture.source.as_str(), &app.app.capture.interfaces),
        ("file", &vec![file])
    );
    assert_eq!(app.dns.xact.open, window.dns.xact.open);

    let buckets: Vec<_> =
        (0..3).map(|n| server.view(&format!("/api/v1/metrics/bucket/{n}"))).collect();
    for (bucket, start, length) in
        [(&buckets[2], 30, 30), (&buckets[1], 60, 60), (&buckets[0], 120, 9)]
    {
        assert_eq!(bucket.period.start_ts, START / SECOND + start);
        // The live bucket ends with the last packet: in the last second, or with replies after it.
        assert!((length..=length + 3).contains(&bucket.period.length), "{:?}", bucket.period);
    }
    let total = |view: &MetricsView| view.packets.total;
    assert_eq!(buckets.iter().map(total).sum::<u64>(), total(&window));
    assert_eq!(server.view("/api/v1/metrics/window/1"), buckets[0]);
    let pairs: u64 = buckets.iter().map(|bucket| bucket.dns.xact.counts.total).sum();
    assert_eq!(pairs, window.dns.xact.counts.total);

    // The last full second of packet time.
    let last = capture().packets.iter().map(|(time, _)| time / SECOND).max().unwrap();
    let of_last = capture().packets.iter().filter(|(time, _)| time / SECOND == last - 1);
    let rates: Rates = server.json("/api/v1/metrics/rates");
    assert_eq!(rates.packets.total, of_last.clone().count() as u64);
    assert_eq!(rates.bytes.total, of_last.map(|(_, frame)| frame.len() as u64).sum::<u64>());
    assert!(rates.packets.inbound + rates.packets.outbound <= rates.packets.total);
}

#[test]
fn replay_adds_buckets_as_time_passes() {
    let (_folder, file) = stored();
    let begun = Instant::now();
    // Minutes end 0.6 s and 1.8 s after the first packet, and the capture after 2 s.
    let server = Server::start(&["-H", HOSTS, "--replay=50", &file]);
    let started = Instant::now();
    let mut seen = Vec::new();
    loop {
        let app: AppMetrics = server.json("/api/v1/metrics/app");
        let there = (1..=5)
            .take_while(|n| server.get(&format!("/api/v1/metrics/window/{n}")).0 == 200)
            .count();
        seen.push(there);
        if app.app.capture.finished {
            break;
        }
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "not faster than it was asked for");
    assert!(seen.is_sorted() && seen.contains(&2) && seen.last() == Some(&3), "{seen:?}");
    server.wait_for_end();
    let summary = view(&run(&["-H", HOSTS, &file]));
    assert_eq!(exact(server.view("/api/v1/metrics/window/3")), exact(summary));
}

#[test]
fn single_summary_is_one_bucket() {
    let (_folder, file) = stored();
    let server = Server::start(&["-H", HOSTS, "--summary", "--replay=max", &file]);
    server.wait_for_end();
    let app: AppMetrics = server.json("/api/v1/metrics/app");
    assert!(app.app.single_summary);
    let summary = view(&run(&["-H", HOSTS, "--summary", &file]));
    assert_eq!(exact(server.view("/api/v1/metrics/bucket/0")), exact(summary));
    assert_eq!(server.get("/api/v1/metrics/bucket/1").0, 400);
}

#[test]
fn errors_of_wrong_requests_name_available_periods() {
    let (_folder, file) = stored();
    let server = Server::start(&["-H", HOSTS, "--replay=max", &file]);
    server.wait_for_end();
    for (path, status, told) in [
        ("/api/v1/metrics/window/6", 400, "window/1 to window/5"),
        ("/api/v1/metrics/window/0", 400, "window/1 to window/5"),
        ("/api/v1/metrics/window/many", 400, "window/1 to window/5"),
        ("/api/v1/metrics/window/-1", 400, "window/1 to window/5"),
        ("/api/v1/metrics/window/99999999999999999999", 400, "window/1 to window/5"),
        ("/api/v1/metrics/bucket/5", 400, "bucket/0 to bucket/4"),
        ("/api/v1/metrics/bucket/1.5", 400, "bucket/0 to bucket/4"),
        ("/api/v1/state/bucket/5", 400, "bucket/0 to bucket/4"),
        ("/api/v1/metrics/window/4", 404, "window/1 to window/3"),
        ("/api/v1/metrics/bucket/4", 404, "bucket/0 to bucket/2"),
        ("/api/v1/state/bucket/3", 404, "bucket/0 to bucket/2"),
        ("/api/v1/metrics/nothing", 404, "/api/v1/metrics/nothing"),
        ("/nothing", 404, "/nothing"),
    ] {
        let (found, body) = server.get(path);
        let body: ErrorBody = serde_json::from_slice(&body).expect("the envelope of errors");
        assert_eq!(found, status, "{path}: {}", body.error);
        assert!(body.error.contains(told), "{path}: {}", body.error);
    }
    for path in ["/api/v1/metrics/app", "/api/v1/metrics/bucket/0", "/api/v1/metrics/rates"] {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut response = agent.post(server.url(path)).send("{}").unwrap();
        assert_eq!((path, response.status().as_u16()), (path, 405));
        let body: Value =
            serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
        assert!(body["error"].is_string());
    }
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/docs", 200)] {
        assert_eq!((path, server.get(path).0), (path, status));
    }
}

/// Stops a server with hanging clients.
fn stop(name: &str, speed: &str, file: &str) {
    let server = Server::start(&["-H", HOSTS, speed, file]);
    // One client has sent half a request, and one never reads its answers.
    let mut half = TcpStream::connect(server.address).unwrap();
    half.write_all(b"GET /api/v1/metrics/app HTTP/1.1\r\n").unwrap();
    let mut deaf = TcpStream::connect(server.address).unwrap();
    for _ in 0..200 {
        deaf.write_all(b"GET /api/v1/metrics/bucket/0 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    let (code, log) = server.stop(name, GRACE);
    assert_eq!(code, Some(0), "{name} {speed}: {log}");
    assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
}

#[test]
fn signal_stops_server_in_time() {
    let (_folder, file) = stored();
    std::thread::scope(|scope| {
        for (name, speed) in [("TERM", "max"), ("INT", "max"), ("TERM", "1")] {
            let file = &file;
            scope.spawn(move || stop(name, &format!("--replay={speed}"), file));
        }
    });
}
