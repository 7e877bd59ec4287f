//! Tests the dashboard and the alerting rules with a real Prometheus that scrapes real daemons.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::capture::{Folder, SECOND, START};
use support::known::databases;
use support::located::located;
use support::program::{PATIENCE, Server};
use support::tool::has_tool;
use support::traffic::{HOSTS, traffic};

/// Lists that are empty without databases.
const LOCATED: [&str; 4] = ["\"geo_loc\"", "\"asn\"", "\"geo_loc_ecs\"", "\"asn_ecs\""];

fn grafana(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana").join(file)
}

fn has_prometheus() -> bool {
    has_tool("promtool", "prometheus") && has_tool("prometheus", "prometheus")
}

#[test]
fn alerting_rules_are_valid_and_pass_their_tests() {
    if !has_prometheus() {
        return;
    }
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(grafana("")).output();
        let output = output.expect("promtool starts");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

/// Checks every Prometheus configuration in the documents.
#[test]
fn prometheus_configurations_in_documents_are_valid() {
    if !has_prometheus() {
        return;
    }
    let folder = Folder::new();
    let deployed = fs::read_to_string(grafana("../deploy/prometheus.yml")).expect("prometheus.yml");
    let central = fs::read_to_string(grafana("../FLEET.md")).expect("FLEET.md");
    let blocks = central.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let of_prometheus =
        |block: &&str| ["scrape_configs:", "remote_write:"].iter().any(|key| block.contains(key));
    let configurations: Vec<&str> =
        blocks.filter(of_prometheus).chain([deployed.as_str()]).collect();
    assert_eq!(configurations.len(), 6);
    for configuration in configurations {
        // Debian's Prometheus is built without Kubernetes.
        let kubernetes =
            "kubernetes_sd_configs:\n      - role: pod\n        namespaces: { names: [pktvisor] }";
        let configuration = configuration.replace(kubernetes, "static_configs: []");
        let file = folder.store("prometheus.yml", configuration.as_bytes());
        // The files that they name do not exist here.
        let arguments = ["check", "config", "--syntax-only", &file];
        let output = Command::new("promtool").args(arguments).output().expect("promtool starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{configuration}: {said}");
    }
}

/// A Prometheus server. Dropping it kills the server.
struct Prometheus {
    child: Child,
    port: u16,
    _data: Folder,
}

impl Prometheus {
    /// Starts a server that scrapes these ports of this host each second and evaluates the alerting
    /// rules.
    fn scraping(ports: &[u16]) -> Self {
        let data = Folder::new();
        let targets: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let rules = grafana("alerts.yml");
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{ "job_name": "pktvisor", "static_configs": [{ "targets": targets }] }],
        });
        // JSON is valid YAML.
        let config = data.store("prometheus.yml", config.to_string().as_bytes());
        // The system picks a free port. Prometheus binds it a moment later.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port").port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", data.file("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("prometheus starts");
        Self { child, port, _data: data }
    }

    /// Returns the answer to a query, or `None` while Prometheus is starting.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = ureq::get(url).query("query", query).call();
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(ureq::Error::StatusCode(code @ 400..500)) => panic!("{code}: {query}"),
            Err(_) => return None,
        };
        let answer: Value = serde_json::from_reader(answer.body_mut().as_reader()).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}");
        Some(answer["data"]["result"].as_array().expect("a vector").clone())
    }

    /// Waits until a query has data.
    fn wait_for(&self, query: &str) {
        let started = Instant::now();
        while self.query(query).is_none_or(|result| result.is_empty()) {
            assert!(started.elapsed() < 2 * PATIENCE, "no data: {query}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the queries of the dashboard with the titles of their panels.
fn queries() -> Vec<(String, String)> {
    let dashboard = std::fs::read_to_string(grafana("dashboard.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut query = target["expr"].as_str().expect("an expression").to_owned();
            for (variable, value) in [
                ("$__rate_interval", "30s"),
                ("$__interval", "30s"),
                ("$__range", "30s"),
                ("$job", ".+"),
                ("$instance", ".+"),
                ("$interface", ".+"),
            ] {
                query = query.replace(variable, value);
            }
            assert!(!query.contains('$'), "{query}");
            queries.push((title.to_owned(), query));
        }
    }
    queries
}

#[test]
fn every_query_of_the_dashboard_has_data() {
    if !has_prometheus() {
        return;
    }
    let queries = queries();
    assert!(queries.len() > 50, "{}", queries.len());
    let folder = Folder::new();
    let databases = databases();
    let mut capture = traffic(5, 60_000, START, 300 * SECOND).capture;
    for at in 0..100 {
        let shift = 3 * at * SECOND;
        let shifted = located(true).packets.into_iter().map(|(time, frame)| (time + shift, frame));
        capture.packets.extend(shifted);
    }
    capture.sort();
    let file = folder.store("traffic.pcap", &capture.pcap());
    let mut arguments = vec!["--replay=15"];
    if let Some([city, asn]) = &databases {
        arguments.extend(["--geo-city", city, "--geo-asn", asn]);
    }
    let with_host = Server::start(&[&arguments[..], &["-H", HOSTS, &file]].concat());
    let without_host = Server::start(&["--replay=15", &file]);
    let prometheus = Prometheus::scraping(&[with_host.address.port(), without_host.address.port()]);
    // The first bucket is shorter than a minute, so wait for a later one.
    prometheus.wait_for("pktvisor_bucket_duration_seconds > 59");
    prometheus.wait_for("rate(pktvisor_packets_total{direction=\"in\"}[30s]) > 0");
    // Only kernel programs provide this metric.
    let of_kernel = |query: &str| query.contains("pktvisor_lag_seconds");
    let of_databases = |query: &str| LOCATED.iter().any(|list| query.contains(list));
    let empty: Vec<&(String, String)> = queries
        .iter()
        .filter(|(_, query)| !of_kernel(query) && (databases.is_some() || !of_databases(query)))
        .filter(|(_, query)| prometheus.query(query).is_none_or(|result| result.is_empty()))
        .collect();
    assert!(empty.is_empty(), "without data: {empty:#?}");
    // Everything is healthy, so no alert fires.
    let alerts = prometheus.query("ALERTS{alertstate=\"firing\"}").expect("an answer");
    assert!(alerts.is_empty(), "{alerts:#?}");
}
