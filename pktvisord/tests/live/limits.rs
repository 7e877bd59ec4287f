//! Few file descriptors, many interfaces, names that are not UTF-8.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pktvisor_common::api::AppMetrics;

use crate::support::host::{cable, datagrams_of, host};
use crate::support::net::sh;
use crate::support::program::{PATIENCE, Server, pktvisord};
use crate::{SETTLED, can_run};

/// With too few file descriptors the daemon fails with an error or does without some. It never
/// panics.
#[test]
fn few_file_descriptors_cause_no_panic() {
    if !can_run() {
        return;
    }
    host(0, |_| {
        let start = |(mode, limit): (&'static str, u32)| {
            let daemon = pktvisord(&Server::arguments(&["--capture", mode, "any"]));
            let child = Command::new("prlimit")
                .arg(format!("--nofile={limit}:{limit}"))
                .args(["timeout", "-s", "TERM", "4"])
                .arg(daemon.get_program())
                .args(daemon.get_args())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("prlimit");
            (mode, limit, child)
        };
        for mode in ["auto", "libpcap"] {
            let limits = [4, 6, 7, 8, 9, 10, 11, 12, 14, 17, 20, 24, 26, 28, 30, 34];
            let children: Vec<_> = limits.map(|limit| start((mode, limit))).into();
            for (mode, limit, child) in children {
                let output = child.wait_with_output().expect("it ends");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!said.contains("panicked"), "{mode} {limit}: {said}");
                // 124 is the code of `timeout` if the daemon kept running.
                let code = output.status.code();
                assert!([Some(1), Some(3), Some(4), Some(124)].contains(&code), "{limit}: {said}");
            }
        }
    });
}

#[test]
fn attaches_many_interfaces_in_the_background() {
    if !can_run() {
        return;
    }
    host(1, |guests| {
        let guest = &guests[0];
        // Enough interfaces that attaching TCX takes more than a second.
        let made: Vec<String> = (0..120)
            .map(|at| {
                format!("link add m{at} type veth peer name m{at} netns {guest}\nlink set m{at} up")
            })
            .collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), made.join("\n") + "\n").expect("it takes lines");
        sh(&format!("ip -b {}", file.path().display()));
        cable(guest, "nic", "10.7.0.2/24");
        sh("ip addr add 10.7.0.1/24 dev nic");
        let started = Instant::now();
        let server = Server::start(&["--summary", "--capture", "tc", "any"]);
        let app: AppMetrics = server.json("/api/v1/metrics/app");
        let first = app.app.capture;
        assert!(!first.watched.is_empty(), "{first:?}");
        while server.get("/readyz").0 != 200 {
            assert!(started.elapsed() < PATIENCE, "{}", server.log_so_far());
            std::thread::sleep(Duration::from_millis(50));
        }
        let app: AppMetrics = server.json("/api/v1/metrics/app");
        assert_eq!((app.app.capture.watched.len(), app.app.capture.pending), (122, 0));
        datagrams_of(guest, "10.7.0.1:9", 50);
        std::thread::sleep(SETTLED);
        let view = server.view("/api/v1/metrics/bucket/0");
        assert_eq!(view.packets.udp, 50, "{}", server.log_so_far());
        let (code, log) = server.stop("TERM", Duration::from_secs(20));
        assert_eq!(code, Some(0), "{log}");
    });
}

#[test]
fn name_that_is_not_utf8_does_no_harm() {
    if !can_run() {
        return;
    }
    for (mode, watched) in [("tc", vec!["bad\u{fffd}", "lo"]), ("libpcap", vec!["lo"])] {
        host(1, |guests| {
            cable(&guests[0], "nic", "10.7.0.2/24");
            // Older kernels rename only interfaces that are down.
            sh("ip link set nic down");
            let renamed = Command::new("ip")
                .args(["link", "set", "nic", "name"])
                .arg(OsStr::from_bytes(b"bad\xff"))
                .status();
            assert!(renamed.is_ok_and(|status| status.success()));
            let up = Command::new("ip")
                .args(["link", "set", "up", "dev"])
                .arg(OsStr::from_bytes(b"bad\xff"))
                .status();
            assert!(up.is_ok_and(|status| status.success()));
            let server = Server::start(&["--summary", "--capture", mode, "any"]);
            let app: AppMetrics = server.json("/api/v1/metrics/app");
            let mut names: Vec<String> =
                app.app.capture.watched.into_iter().map(|watched| watched.name).collect();
            names.sort_unstable();
            assert_eq!(names, watched, "{mode}: {}", server.log_so_far());
            let (code, log) = server.stop("TERM", Duration::from_secs(5));
            assert_eq!(code, Some(0), "{log}");
        });
    }
}

/// Interfaces are identified by index. The daemon follows one through a rename, and watches only
/// one side once it becomes the port of a bridge.
#[test]
fn libpcap_follows_interfaces_by_index() {
    if !can_run() {
        return;
    }
    host(1, |guests| {
        let guest = &guests[0];
        cable(guest, "nic", "10.7.0.2/24");
        sh("ip addr add 10.7.0.1/24 dev nic; sysctl -qw net.ipv6.conf.nic.disable_ipv6=1");
        let server = Server::start(&["--summary", "--capture", "libpcap", "any"]);
        let wait_for = |what: &str, is: &dyn Fn(&pktvisor_common::api::Watched) -> bool| {
            let started = Instant::now();
            loop {
                let app: AppMetrics = server.json("/api/v1/metrics/app");
                if app.app.capture.watched.iter().any(is) {
                    return;
                }
                assert!(started.elapsed() < PATIENCE, "{what}: {:?}", app.app.capture);
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        wait_for("watched", &|watched| watched.name == "nic");
        datagrams_of(guest, "10.7.0.1:9", 20);
        std::thread::sleep(Duration::from_millis(500));
        sh("ip link set nic down; ip link set nic name other; ip link set other up
            ip addr replace 10.7.0.1/24 dev other");
        wait_for("renamed", &|watched| watched.name == "other");
        std::thread::sleep(Duration::from_millis(300));
        datagrams_of(guest, "10.7.0.1:9", 30);
        std::thread::sleep(Duration::from_millis(500));
        sh("ip link add br0 type bridge; ip link set br0 up; ip link set other master br0
            ip addr del 10.7.0.1/24 dev other; ip addr add 10.7.0.1/24 dev br0");
        wait_for("a port", &|watched| watched.name == "other" && watched.one_sided.is_some());
        std::thread::sleep(Duration::from_millis(300));
        datagrams_of(guest, "10.7.0.1:9", 40);
        std::thread::sleep(SETTLED);
        let view = server.view("/api/v1/metrics/bucket/0");
        assert_eq!(view.packets.udp, 90, "{}", server.log_so_far());
        let missed = view.capture.evictions.get("not_watched_yet").copied().unwrap_or(0);
        assert!(missed < 10, "{missed} missed: {}", server.log_so_far());
    });
}
