//! Interfaces that disappear, return, are renamed, change their addresses, or are new.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::net::{Pair, sh};
use crate::support::program::PATIENCE;
use crate::support::{self, shapes, tc};
use crate::{SETTLED, Watch, can_run, hooks, modes, wait_for};

#[test]
fn follows_an_interface_and_its_addresses() {
    if !can_run() {
        return;
    }
    for mode in modes() {
        let mut pair = Pair::new(true, 1500);
        let watch = Watch::start(&pair, &["--capture", mode, "--user", "nobody"]);
        let status = sh(&format!("cat /proc/{}/task/*/status", watch.server.child.id()));
        let clsact = hooks(mode).1 == Some("clsact");
        let kept = if clsact { "0000000000001000" } else { "0000000000000000" };
        for line in status.lines() {
            match line.split_once(":\t") {
                Some(("Uid", uids)) => assert_eq!(uids, "65534\t65534\t65534\t65534", "{mode}"),
                Some(("CapEff" | "CapPrm", capabilities)) => {
                    assert_eq!(capabilities, kept, "{mode}");
                }
                _ => {}
            }
        }

        let name = pair.interface.clone();
        // Remove it and create it again with the same name.
        pair.unplug();
        wait_for(&watch, "gone", <[_]>::is_empty);
        assert_eq!(watch.server.get("/readyz").0, 503);
        pair.plug();
        wait_for(&watch, "there again", |watched| watched.len() == 1);
        assert_eq!(watch.server.get("/readyz").0, 200);

        // Set it down, rename it, set it up, and add an address.
        sh(&format!("ip link set {name} down"));
        pair.rename("pvr");
        let interface = pair.interface.clone();
        sh(&format!("ip link set {interface} up; ip addr add 100.127.255.1/32 dev {interface}"));
        wait_for(&watch, "renamed", |watched| watched.iter().any(|w| w.name == interface));
        std::thread::sleep(Duration::from_millis(500));
        let before = watch.server.view("/api/v1/metrics/bucket/0");
        std::thread::sleep(Duration::from_millis(1_100));
        pair.run_there(&format!(
            "ip route add 100.127.255.1 via {}; ping -c 3 -i 0.2 100.127.255.1",
            pair.v4
        ));
        std::thread::sleep(SETTLED);
        let view = watch.server.view("/api/v1/metrics/bucket/0");
        let icmp = (
            view.packets.inbound - before.packets.inbound,
            view.packets.outbound - before.packets.outbound,
        );
        assert!(icmp.0 >= 3 && icmp.1 >= 3, "{mode}: {icmp:?} with an address that came later");
        let (code, log) = watch.server.stop("TERM", Duration::from_secs(5));
        assert_eq!(code, Some(0), "{mode}: {log}");
    }
}

#[test]
fn accounts_for_an_interface_that_returns_under_load() {
    if !can_run() {
        return;
    }
    for mode in [modes(), vec!["libpcap"]].concat() {
        let pair = Pair::new(false, 1500);
        pair.forget_addresses();
        let watch = Watch::start(&pair, &["--capture", mode, "--user", "nobody"]);
        let frame = shapes::frames().remove(0);
        let load = vec![frame; 5_000];
        pair.send(&load);
        let (first, since) = watch.settled(&pair);
        assert_eq!(first.packets.total, since.packets(), "{mode}");

        // Packets between the return of the interface and attachment count as missed.
        pair.unplug();
        wait_for(&watch, "gone", <[_]>::is_empty);
        support::program::signal(&watch.server.child, "STOP");
        pair.plug();
        pair.forget_addresses();
        pair.send(&load);
        support::program::signal(&watch.server.child, "CONT");
        wait_for(&watch, "there again", |watched| watched.len() == 1);
        pair.send(&load);
        std::thread::sleep(SETTLED);
        let now = pair.statistics();
        let view = watch.server.view("/api/v1/metrics/bucket/0");
        assert_eq!(now, pair.statistics(), "{mode}: the interface is not quiet");
        let counted = view.packets.total - first.packets.total;
        let missed = view.capture.evictions.get("not_watched_yet").copied().unwrap_or(0);
        assert!((5_000..10_000).contains(&missed), "{mode}: {missed} of {now:?}");
        // Packets at the moment of attachment may be in both counts.
        let off = (counted + missed).abs_diff(now.packets());
        assert!(off < 200, "{mode}: {counted} counted, {missed} missed of {now:?}");
        let (code, log) = watch.server.stop("TERM", Duration::from_secs(5));
        assert_eq!(code, Some(0), "{mode}: {log}");
        assert!(log.contains("packets passed before capture started"), "{mode}: {log}");
    }
}

#[test]
fn any_watches_new_interfaces() {
    if !can_run() {
        return;
    }
    // In a namespace of its own, because other tests create interfaces elsewhere.
    let pair = Pair::new(true, 1500);
    let program = env!("CARGO_BIN_EXE_pktvisord");
    let log = TempDir::new().unwrap();
    let path = log.path().join("log");
    let command = format!("exec {program} -l 127.0.0.1 -p 0 any 2>{}", path.display());
    let mut child = pair.there(&command).spawn().unwrap();
    let wait_for_log = |text: &str| {
        let started = Instant::now();
        while !std::fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "no `{text}` in {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let tc = tc();
    wait_for_log(&format!("watching {}: {tc} in, {tc} out", pair.interface));
    wait_for_log(&format!(
        "watching lo: {tc} in only: loopback receives all packets that it sends"
    ));
    pair.run_there("ip link add later type veth peer name other; ip link set later up");
    wait_for_log(&format!("watching later: {tc} in, {tc} out"));
    // A bridge takes over the interface. From then on, what the port sends comes from the bridge.
    pair.run_there(
        "ip link add bridge type bridge; ip link set bridge up; ip link set later master bridge",
    );
    wait_for_log(&format!("watching later: {tc} in only"));
    wait_for_log(&format!("watching bridge: {tc} out only"));
    support::program::signal(&child, "TERM");
    assert_eq!(support::program::wait(&mut child, Duration::from_secs(5)), Some(0));
}
