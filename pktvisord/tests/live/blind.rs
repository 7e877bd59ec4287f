//! Programs that packets no longer reach are attached again, or the daemon reports it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use pktvisor_common::api::AppMetrics;
use pktvisord::input::kernel::links::{At, Link};
use pktvisord::input::netlink::Requests;

use crate::support::bpf::{CLASSIFIER, TC_OK, XDP, XDP_DROP, verdict};
use crate::support::host::{cable, datagrams_of, host};
use crate::support::net::sh;
use crate::support::program::{PATIENCE, Server};
use crate::support::{tc, tool::skipped};
use crate::{SETTLED, can_run};

const NIC: &str = "nic";

fn index() -> u32 {
    let links = Requests::open().unwrap().links().unwrap();
    links.iter().find(|link| link.name == NIC).expect("the interface").index
}

fn plugged(test: impl FnOnce(&str) + Send) {
    if !can_run() {
        return;
    }
    host(1, |guests| {
        cable(&guests[0], NIC, "10.7.0.2/24");
        // A static neighbour entry lets the guest send without an answer.
        sh(&format!(
            "ip addr add 10.7.0.1/24 dev {NIC}; ip link set {NIC} address 02:00:00:00:00:01
             ip -n {} neigh add 10.7.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
            guests[0]
        ));
        test(&guests[0]);
    });
}

fn start(mode: &str) -> Server {
    Server::start(&["--summary", "--capture", mode, NIC])
}

/// Sends packets until the log contains this text.
fn send_until(server: &Server, guest: &str, text: &str) {
    // The daemon checks twice, 10 s apart; allow for a slow machine.
    let started = Instant::now();
    while !server.log_so_far().contains(text) {
        assert!(started.elapsed() < 2 * PATIENCE, "no `{text}` in {}", server.log_so_far());
        datagrams_of(guest, "10.7.0.1:9", 20);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the number of UDP packets that the daemon counts while 50 are sent.
fn counted(server: &Server, guest: &str) -> u64 {
    let udp = || {
        std::thread::sleep(SETTLED);
        server.view("/api/v1/metrics/bucket/0").packets.udp
    };
    let before = udp();
    datagrams_of(guest, "10.7.0.1:9", 50);
    udp() - before
}

#[test]
fn notices_deleted_queueing_discipline_at_once() {
    plugged(|guest| {
        let server = start("clsact");
        assert_eq!(counted(&server, guest), 50);
        sh(&format!("tc qdisc del dev {NIC} clsact"));
        let started = Instant::now();
        while !server.log_so_far().contains("attached it again") {
            assert!(started.elapsed() < Duration::from_secs(5), "{}", server.log_so_far());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(counted(&server, guest), 50, "{}", server.log_so_far());
        assert_eq!(server.get("/readyz").0, 200);
    });
}

/// TCX links are not part of the queueing discipline.
#[test]
fn deleted_queueing_discipline_does_not_affect_tcx() {
    if tc() != "tcx" {
        return skipped("this kernel has no TCX");
    }
    plugged(|guest| {
        let server = start("tcx");
        sh(&format!("tc qdisc add dev {NIC} clsact; tc qdisc del dev {NIC} clsact"));
        assert_eq!(counted(&server, guest), 50, "{}", server.log_so_far());
        assert!(!server.log_so_far().contains("attached it again"), "{}", server.log_so_far());
    });
}

#[test]
fn moves_in_front_of_program_that_ends_the_chain() {
    if tc() != "tcx" {
        return skipped("this kernel has no TCX");
    }
    plugged(|guest| {
        let server = start("tcx");
        assert_eq!(counted(&server, guest), 50);
        let other = verdict(CLASSIFIER, TC_OK);
        let _link = Link::create(other.as_fd(), index(), At::Tcx { egress: false }).unwrap();
        assert_eq!(counted(&server, guest), 0, "it is not in front");
        send_until(&server, guest, "attached it again");
        assert_eq!(counted(&server, guest), 50, "{}", server.log_so_far());
        assert_eq!(server.get("/readyz").0, 200);
    });
}

#[test]
fn is_not_ready_while_packets_do_not_reach_the_program() {
    plugged(|guest| {
        let server = start("tc");
        let other = verdict(XDP, XDP_DROP);
        let link = Link::create(other.as_fd(), index(), At::Xdp).unwrap();
        send_until(&server, guest, "attaching the program again does not help");
        let started = Instant::now();
        while server.get("/readyz").0 != 503 {
            assert!(started.elapsed() < Duration::from_secs(2), "it is ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (_, body) = server.get("/readyz");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("packets did not reach the program"), "{body}");
        let app: AppMetrics = server.json("/api/v1/metrics/app");
        assert_eq!(app.app.capture.faults.len(), 1, "{:?}", app.app.capture);
        // Packets reach the program again.
        drop(link);
        send_until(&server, guest, "packets reach the program again");
        let started = Instant::now();
        while server.get("/readyz").0 != 200 {
            assert!(started.elapsed() < Duration::from_secs(2), "it is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
