//! Hosts with several interfaces, where `any` sees each packet once.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pktvisor_common::api::{AppMetrics, MetricsView};

use crate::support::host::{cable, datagrams, datagrams_of, host};
use crate::support::net::sh;
use crate::support::program::{PATIENCE, Server};
use crate::support::tc;
use crate::{SETTLED, can_run};

/// Returns the modes that treat all interfaces alike.
fn captures() -> Vec<&'static str> {
    let mut modes = vec![tc(), "clsact", "libpcap"];
    modes.dedup();
    modes
}

/// Watches `any` while `happens` runs. Returns the view and the log.
fn watch(mode: &str, happens: impl FnOnce(&Server)) -> (MetricsView, String) {
    // `mode` may contain further options.
    let options = ["--summary", "--capture"].into_iter().chain(mode.split(' '));
    let server = Server::start(&options.chain(["any"]).collect::<Vec<_>>());
    let started = Instant::now();
    while server.get("/readyz").0 != 200 {
        assert!(started.elapsed() < PATIENCE, "{}", server.log_so_far());
        std::thread::sleep(Duration::from_millis(20));
    }
    happens(&server);
    std::thread::sleep(SETTLED);
    let view = server.view("/api/v1/metrics/bucket/0");
    let (code, log) = server.stop("TERM", Duration::from_secs(5));
    assert_eq!(code, Some(0), "{mode}: {log}");
    assert!(!log.contains("panicked"), "{log}");
    (view, log)
}

#[test]
fn sees_containers_on_a_bridge_once() {
    if !can_run() {
        return;
    }
    for mode in captures() {
        host(2, |guests| {
            let [first, second] = guests else { panic!("two guests") };
            sh("ip link add br0 type bridge; ip addr add 10.7.0.1/24 dev br0; ip link set br0 up");
            cable(first, "veth1", "10.7.0.2/24");
            cable(second, "veth2", "10.7.0.3/24");
            sh("ip link set veth1 master br0; ip link set veth2 master br0");
            let (view, log) = watch(mode, |_| {
                datagrams_of(first, "10.7.0.3:9", 50);
                datagrams_of(first, "10.7.0.1:9", 30);
                datagrams("10.7.0.3:9", 20);
                // A bridge in promiscuous mode also sees packets between its ports.
                let mut tcpdump = Command::new("tcpdump")
                    .args(["-i", "br0", "-w", "/dev/null"])
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("tcpdump");
                std::thread::sleep(Duration::from_millis(500));
                datagrams_of(second, "10.7.0.2:9", 100);
                tcpdump.kill().expect("it runs");
                tcpdump.wait().expect("it ends");
            });
            assert_eq!(view.packets.udp, 200, "{mode}: {log}");
            // The bridge's address is in HOST, although its packets are seen at the ports.
            assert!(view.packets.inbound >= 30 && view.packets.outbound >= 20, "{mode}: {log}");
        });
    }
}

#[test]
fn sees_guests_beside_a_network_card_and_the_host_once() {
    if !can_run() {
        return;
    }
    for mode in captures() {
        host(2, |guests| {
            let [world, guest] = guests else { panic!("two guests") };
            sh("ip link add br0 type bridge; ip addr add 10.7.0.1/24 dev br0; ip link set br0 up");
            cable(world, "nic", "10.7.0.2/24");
            cable(guest, "guest", "10.7.0.3/24");
            sh("ip link set nic master br0; ip link set guest master br0");
            let (view, log) = watch(mode, |_| {
                datagrams_of(world, "10.7.0.3:9", 20);
                datagrams_of(world, "10.7.0.1:9", 30);
                datagrams_of(guest, "10.7.0.1:9", 10);
                datagrams_of(guest, "10.7.0.2:9", 25);
                datagrams("10.7.0.2:9", 15);
            });
            assert_eq!(view.packets.udp, 100, "{mode}: {log}");
        });
    }
}

#[test]
fn counts_routed_packets_at_each_interface() {
    if !can_run() {
        return;
    }
    host(2, |guests| {
        let [left, right] = guests else { panic!("two guests") };
        cable(left, "left", "10.7.1.2/24");
        cable(right, "right", "10.7.2.2/24");
        sh(&format!(
            "ip addr add 10.7.1.1/24 dev left; ip addr add 10.7.2.1/24 dev right
             sysctl -qw net.ipv4.ip_forward=1
             ip -n {left} route add default via 10.7.1.1; ip -n {right} route add default via 10.7.2.1"
        ));
        let (view, log) = watch("tc", |_| datagrams_of(left, "10.7.2.2:9", 40));
        assert_eq!(view.packets.udp, 80, "{log}");
    });
}

#[test]
fn sees_packets_between_both_ends_of_a_pair_once() {
    if !can_run() {
        return;
    }
    for mode in captures() {
        host(0, |_| {
            sh("ip link add one type veth peer name two; ip link set one up; ip link set two up
                ip addr add 10.7.0.1/24 dev one
                ip neigh add 10.7.0.2 lladdr 02:00:00:00:00:02 dev one nud permanent");
            let (view, log) = watch(mode, |_| datagrams("10.7.0.2:9", 60));
            assert_eq!(view.packets.udp, 60, "{mode}: {log}");
            assert!(log.contains("seen at two, the other end of the pair"), "{mode}: {log}");
        });
    }
}

/// A tunnel and the interface below it are two link layers: inner and outer packets both count.
#[test]
fn counts_tunnel_and_outer_packets_once_each() {
    if !can_run() {
        return;
    }
    host(1, |guests| {
        let [far] = guests else { panic!("a guest") };
        cable(far, "eth0", "10.7.0.2/24");
        sh("ip addr add 10.7.0.1/24 dev eth0");
        let made = Command::new("ip")
            .args("link add vx0 type vxlan id 7 dev eth0 dstport 4789 remote 10.7.0.2".split(' '))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            return crate::support::tool::skipped("this kernel has no VXLAN");
        }
        sh("sysctl -qw net.ipv6.conf.vx0.disable_ipv6=1
            ip addr add 10.8.0.1/24 dev vx0; ip link set vx0 up
            ip neigh add 10.8.0.2 lladdr 02:00:00:00:00:02 dev vx0 nud permanent");
        for (mode, said) in [("tc", false), ("tc --tunnels inner", true)] {
            let (view, log) = watch(mode, |_| datagrams("10.8.0.2:9", 30));
            assert_eq!(view.packets.udp, 60, "{mode}: {log}");
            assert_eq!(
                log.contains("ignoring --tunnels inner: the tunnel interface vx0"),
                said,
                "{mode}: {log}"
            );
        }
    });
}

#[test]
fn host_follows_addresses_that_come_and_go() {
    if !can_run() {
        return;
    }
    host(1, |guests| {
        let [world] = guests else { panic!("a guest") };
        sh("ip link add br0 type bridge; ip link set br0 up");
        cable(world, "nic", "10.7.0.2/24");
        sh("ip link set nic master br0");
        // The target is one interface by name, and the bridge above it has the address.
        let server = Server::start(&["--summary", "--capture", "tc", "nic"]);
        sh("ip addr add 10.7.0.1/24 dev br0");
        std::thread::sleep(Duration::from_millis(800));
        datagrams_of(world, "10.7.0.1:9", 30);
        sh("ip addr del 10.7.0.1/24 dev br0");
        std::thread::sleep(SETTLED);
        let view = server.view("/api/v1/metrics/bucket/0");
        assert!(view.packets.inbound >= 30, "{:?}", view.packets);
        let (_, log) = server.stop("TERM", Duration::from_secs(5));
        assert!(log.contains("added 10.7.0.1, removed none"), "{log}");
        assert!(log.contains("added none, removed 10.7.0.1"), "{log}");
    });
}

#[test]
fn advises_a_remedy_for_unknown_directions() {
    if !can_run() {
        return;
    }
    host(2, |guests| {
        let [first, second] = guests else { panic!("two guests") };
        sh("ip link add br0 type bridge; ip addr add 10.7.0.1/24 dev br0; ip link set br0 up");
        cable(first, "veth1", "10.7.0.2/24");
        cable(second, "veth2", "10.7.0.3/24");
        sh("ip link set veth1 master br0; ip link set veth2 master br0");
        watch("tc", |server| {
            // A minute may end in between.
            let started = Instant::now();
            let advice = loop {
                datagrams_of(first, "10.7.0.3:9", 150);
                std::thread::sleep(SETTLED);
                let app: AppMetrics = server.json("/api/v1/metrics/app");
                if let Some(advice) = app.app.capture.advice {
                    break advice;
                }
                assert!(started.elapsed() < PATIENCE, "no advice: {}", server.log_so_far());
            };
            assert!(advice.contains("unknown direction") && advice.contains("-H"), "{advice}");
        });
    });
}

/// An interface that moves to another namespace and back has missed no packet there.
#[test]
fn interface_that_returns_reports_no_loss() {
    if !can_run() {
        return;
    }
    for mode in captures() {
        host(2, |guests| {
            let [world, away] = guests else { panic!("two guests") };
            cable(world, "traveller", "10.7.0.2/24");
            sh("ip addr add 10.7.0.1/24 dev traveller");
            let (view, log) = watch(mode, |_| {
                datagrams_of(world, "10.7.0.1:9", 20);
                // Give libpcap time to read: it reads nothing more once the interface is gone.
                std::thread::sleep(Duration::from_millis(300));
                sh(&format!(
                    "ip link set traveller netns {away}; ip -n {away} link set traveller up
                     ip -n {away} addr add 10.7.0.1/24 dev traveller"
                ));
                std::thread::sleep(Duration::from_millis(500));
                datagrams_of(world, "10.7.0.1:9", 200);
                // The shell runs in this namespace.
                sh(&format!(
                    "ip -n {away} link set traveller netns $$
                     ip addr add 10.7.0.1/24 dev traveller; ip link set traveller up"
                ));
                std::thread::sleep(Duration::from_millis(800));
                datagrams_of(world, "10.7.0.1:9", 30);
            });
            let missed = view.capture.evictions.get("not_watched_yet").copied().unwrap_or(0);
            assert!(missed < 10, "{mode}: {missed} missed: {log}");
            assert!(
                view.packets.udp >= 50 && view.packets.udp < 60,
                "{mode}: {:?} {log}",
                view.packets.udp
            );
        });
    }
}
