//! The daemon survives faults and reports them.

use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use pktvisor_common::api::{self, AppMetrics};
use tempfile::TempDir;

use crate::support;
use crate::support::net::{DNS_PORT, DnsServer, Pair, sh};
use crate::support::program::{PATIENCE, Server};
use crate::{SETTLED, Watch, can_run, dnsperf, hooks, modes, outcomes_sum_up};

#[test]
fn killed_daemon_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(true, 1500);
    let name = &pair.interface;
    for mode in modes() {
        let mut watch = Watch::start(&pair, &["--capture", mode]);
        let attached = || {
            let link = sh(&format!("ip link show {name}"));
            let filters =
                sh(&format!("tc filter show dev {name} ingress; tc filter show dev {name} egress"));
            let tcx = SchedClassifier::query_tcx(name, TcAttachType::Egress);
            let tcx = tcx.is_ok_and(|(_, programs)| !programs.is_empty());
            (link.contains("prog/xdp"), filters.contains("pktvisor_"), tcx)
        };
        let clsact = hooks(mode).1 == Some("clsact");
        assert_eq!(attached(), (mode == "xdp", clsact, !clsact), "{mode}");
        watch.server.child.kill().unwrap();
        watch.server.child.wait().unwrap();
        // Links end with the process, after a moment. clsact filters stay until the next start.
        let killed = Instant::now();
        while attached() != (false, clsact, false) {
            assert!(killed.elapsed() < PATIENCE, "{mode}: {:?}", attached());
            std::thread::sleep(Duration::from_millis(50));
        }
        if clsact {
            let next = Watch::start(&pair, &["--capture", mode]);
            let filters = sh(&format!("tc filter show dev {name} egress"));
            assert_eq!(filters.matches("direct-action").count(), 1, "{filters}");
            let (code, _) = next.server.stop("TERM", Duration::from_secs(5));
            assert_eq!(code, Some(0));
            assert_eq!(attached(), (false, false, false));
        }
    }
}

#[test]
fn accounts_for_packets_that_a_stopped_reader_misses() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let watch = Watch::start(&pair, &["--ring-size", "1", "--workers", "1"]);
    let process = watch.server.child.id();
    sh(&format!("kill -STOP {process}"));
    let completed = dnsperf(&pair, &pair.v4, "-l 5");
    sh(&format!("kill -CONT {process}"));
    let (view, since) = watch.settled(&pair);
    assert!(completed > 10_000, "{completed} is no load");
    assert_eq!(view.packets.total, since.packets());
    outcomes_sum_up(&view);
    assert!(view.capture.ring_full > 0, "{:?}", view.capture);
    let lost = &view.capture.evictions;
    let all_lost: u64 =
        lost.iter().filter(|(r, _)| r.starts_with("ring_full_")).map(|(_, n)| n).sum();
    assert_eq!(all_lost, view.capture.ring_full);
    let read = view.dns.wire_packets.total;
    assert_eq!(read + lost["ring_full_dns"], 2 * completed, "what was sent is read or lost");
}

#[test]
fn sampling_adapts_to_the_speed_of_user_space() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let name = pair.interface.as_str();
    let server = Server::start(&[
        "--summary",
        "--dns-port",
        DNS_PORT,
        "--ring-size",
        "1",
        "--workers",
        "1",
        name,
    ]);
    let rates = || server.json::<AppMetrics>("/api/v1/metrics/app").app.capture.sampling;
    assert_eq!(rates(), api::SamplingRates { dns_pct: 100.0, rest_pct: 100.0 });
    let process = server.child.id();
    sh(&format!("kill -STOP {process}"));
    let lost = dnsperf(&pair, &pair.v4, "-l 2");
    sh(&format!("kill -CONT {process}"));
    let wait_until = |what: &str, is: &dyn Fn(api::SamplingRates) -> bool| {
        let started = Instant::now();
        while !is(rates()) {
            assert!(started.elapsed() < PATIENCE, "{what}: {:?}", rates());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_until("lowered", &|rates| rates.dns_pct <= 50.0 && rates.rest_pct <= 25.0);
    let sampled = dnsperf(&pair, &pair.v4, "-n 40 -Q 10000");
    std::thread::sleep(SETTLED);
    let view = server.view("/api/v1/metrics/bucket/0");
    outcomes_sum_up(&view);
    assert!(view.capture.outcomes["not_sampled"] > sampled / 2, "{:?}", view.capture);
    assert!(view.capture.sample_rate_pct < 99.9);
    // Sampled packets stand for all, except for lost records.
    let queries = view.dns.wire_packets.queries;
    let expected = lost + sampled - view.capture.evictions["ring_full_dns"] / 2;
    let off = queries.abs_diff(expected) as f64 / sampled as f64;
    assert!(off < 0.1, "{queries} queries where {expected} are expected");
    wait_until("raised again", &|rates| rates.dns_pct >= 100.0);
}

#[test]
fn leaves_occupied_hook_alone() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(true, 1500);
    // A daemon does not mistake another daemon's clsact filter for one that was left behind.
    let clsact = [(); 2].map(|()| Watch::start(&pair, &["--capture", "clsact"]));
    let first = Watch::start(&pair, &["--capture", "xdp"]);
    // A network card has one XDP program.
    let second = support::program::run(&["--capture", "xdp", &pair.interface]);
    assert_eq!(second.code, Some(3));
    assert!(second.stderr.contains("another program is already attached"), "{}", second.stderr);
    // TC allows any number of programs.
    let third = Watch::start(&pair, &["--capture", "tc"]);
    let ping = format!("ping -c 2 -i 0.2 {}", pair.v4);
    pair.run_there(&ping);
    for watch in clsact.into_iter().chain([first, third]) {
        let (view, since) = watch.settled(&pair);
        assert_eq!(view.packets.total, since.packets());
    }
}

#[test]
fn names_missing_capabilities() {
    if !can_run() {
        return;
    }
    // The program must be in a folder that other users may enter.
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("pktvisord");
    std::fs::copy(env!("CARGO_BIN_EXE_pktvisord"), &program).unwrap();
    sh(&format!("chmod 755 {} {}", folder.path().display(), program.display()));
    for (mode, capability) in [("tc", "CAP_BPF"), ("libpcap", "CAP_NET_RAW")] {
        let output = Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ])
            .arg(&program)
            .args(["-p", "0", "--capture", mode, "lo"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(capability), "{mode}: {text}");
    }
}

#[test]
fn uses_file_capabilities_that_are_only_permitted() {
    if !can_run() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("pktvisord");
    std::fs::copy(env!("CARGO_BIN_EXE_pktvisord"), &program).unwrap();
    sh(&format!("chmod 755 {} {}", folder.path().display(), program.display()));
    let capabilities = "cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon=p";
    sh(&format!("setcap {capabilities} {}", program.display()));
    let pair = Pair::new(false, 1500);
    // With all capabilities, and in a container that allows only one or none.
    for (bounding, source) in [("+all", "ebpf"), ("-all,+net_raw", "libpcap"), ("-all", "")] {
        let mut command = Command::new("setpriv");
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
        command.args(user).arg(format!("--bounding-set={bounding}")).arg(&program);
        command.args(Server::arguments(&[&pair.interface]));
        if source.is_empty() {
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{said}");
            assert!(said.contains("--cap-add NET_RAW"), "{said}");
            continue;
        }
        let server = Server::start_as(command);
        let app: AppMetrics = server.json("/api/v1/metrics/app");
        assert_eq!(app.app.capture.source, source, "{}", server.log_so_far());
        if let Some(why) = app.app.capture.fallback {
            assert!(why.contains("--cap-add BPF --cap-add NET_ADMIN"), "{why}");
        }
    }
}
