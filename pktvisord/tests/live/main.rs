//! Live capture with a real DNS server, and real clients on a second host: a network namespace at
//! the other end of a veth pair.

mod blind;
mod counts;
mod faults;
mod hosts;
mod interfaces;
mod limits;
mod load;
mod offloads;
mod owners;
mod reload;
mod sandbox;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use pktvisor_common::api::{self, AppMetrics, MetricsView};
use support::net::{DNS_PORT, Pair, Statistics, queries};
use support::program::{PATIENCE, Server};
use support::tool::skipped;
use support::{has_rights, tc};
use tempfile::TempDir;

/// Returns the capture modes with kernel programs that this kernel supports.
fn modes() -> Vec<&'static str> {
    let mut modes = vec!["xdp", tc(), "clsact"];
    modes.dedup();
    modes
}

/// Returns the names of a mode's hooks for ingress and egress.
fn hooks(mode: &str) -> (Option<&str>, Option<&str>) {
    match mode {
        "xdp" => (Some("xdp"), Some(tc())),
        "libpcap" => (None, None),
        mode => (Some(mode), Some(mode)),
    }
}

/// Time until all packets sent are counted and earlier answers have expired.
const SETTLED: Duration = Duration::from_millis(2_300);

fn can_run() -> bool {
    let can = has_rights();
    if !can {
        skipped("creating and watching interfaces requires root");
    }
    can
}

/// Attempts to start a daemon while the interface is quiet. A start takes seconds on a busy
/// emulated machine.
const STARTS: usize = 20;

/// A daemon that watches an interface, and the interface's counters at its start.
struct Watch {
    server: Server,
    before: Statistics,
}

impl Watch {
    fn start(pair: &Pair, args: &[&str]) -> Self {
        let args = [
            &["--summary", "--adaptive", "off", "--dns-port", DNS_PORT],
            args,
            &[pair.interface.as_str()],
        ]
        .concat();
        for _ in 0..STARTS {
            let before = pair.statistics();
            let server = Server::start(&args);
            // A host sends packets of its own now and then, mostly in its first seconds.
            if pair.statistics() == before {
                return Self { server, before };
            }
        }
        panic!("the interface is never quiet while the daemon starts");
    }

    /// Returns the daemon's view, and the interface's counters over the same time.
    fn settled(&self, pair: &Pair) -> (MetricsView, Statistics) {
        let started = Instant::now();
        loop {
            let before = pair.statistics();
            std::thread::sleep(SETTLED);
            let view = self.server.view("/api/v1/metrics/bucket/0");
            let after = pair.statistics();
            if after == before {
                let since = after.since(&self.before);
                return (view, since);
            }
            assert!(started.elapsed() < PATIENCE, "the interface is never quiet");
        }
    }
}

/// Waits until the daemon reports a state of its interfaces.
fn wait_for(watch: &Watch, what: &str, is: impl Fn(&[api::Watched]) -> bool) {
    let started = Instant::now();
    loop {
        let app: AppMetrics = watch.server.json("/api/v1/metrics/app");
        if is(&app.app.capture.watched) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", app.app.capture);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs dnsperf. Returns the number of completed queries.
fn dnsperf(pair: &Pair, server: &str, args: &str) -> u64 {
    let folder = TempDir::new().unwrap();
    let file = queries(folder.path(), 500);
    let report = pair.run_there(&format!("dnsperf -s {server} -p {DNS_PORT} -d {file} {args}"));
    let line = report.lines().find(|line| line.contains("Queries completed:")).expect(&report);
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// Returns the bytes that an interface leaves out: with XDP, the driver of a veth pair counts
/// received packets without their Ethernet headers.
fn ethernet_headers(mode: &str, since: &Statistics) -> u64 {
    if mode == "xdp" { 14 * since.rx_packets } else { 0 }
}

/// Sends this many bytes to this host in one TCP stream.
fn stream(pair: &Pair, bytes: u64) {
    let listener = std::net::TcpListener::bind((pair.v4.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sink = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let send = format!("head -c {bytes} /dev/zero > /dev/tcp/{}/{port}", pair.v4);
    let mut client = Command::new("ip");
    client.args(["netns", "exec", &pair.namespace, "bash", "-c", &send]);
    assert!(client.status().unwrap().success());
    assert_eq!(sink.join().unwrap(), bytes);
}

#[track_caller]
fn outcomes_sum_up(view: &MetricsView) {
    let sum: u64 = view.capture.outcomes.values().sum();
    assert_eq!(sum, view.packets.total, "{:?}", view.capture);
}
