//! clsact filters belong to the agent that attached them. The daemon removes no filter of another
//! agent.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use pktvisord::input::netlink::Requests;
use pktvisord::input::netlink::filters::{Filter, Place};

use crate::support::bpf::{CLASSIFIER, TC_SHOT, verdict};
use crate::support::host::{cable, datagrams_of, host};
use crate::support::net::sh;
use crate::support::program::{PATIENCE, Server};
use crate::{SETTLED, can_run};

const PORT: &str = "nic";

fn index() -> u32 {
    let links = Requests::open().unwrap().links().unwrap();
    links.iter().find(|link| link.name == PORT).expect("the interface").index
}

fn filters() -> Vec<Filter> {
    Requests::open().unwrap().filters(index(), false).unwrap()
}

fn ours() -> Vec<Filter> {
    filters().into_iter().filter(|filter| filter.name.starts_with("pktvisor")).collect()
}

fn theirs() -> usize {
    filters().iter().filter(|filter| filter.name == "firewall").count()
}

/// Returns true if a ping gets an answer.
fn passes(guest: &str) -> bool {
    let ping = format!("ip netns exec {guest} ping -c 1 -W 1 10.7.0.1 >/dev/null; echo $?");
    sh(&ping).trim() == "0"
}

fn start() -> Server {
    Server::start(&["--summary", "--capture", "clsact", PORT])
}

fn stop(server: Server) -> String {
    let (code, log) = server.stop("TERM", Duration::from_secs(5));
    assert_eq!(code, Some(0), "{log}");
    log
}

fn kill(mut server: Server) {
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

fn plugged(test: impl FnOnce(&str) + Send) {
    if !can_run() {
        return;
    }
    host(1, |guests| {
        cable(&guests[0], PORT, "10.7.0.2/24");
        sh(&format!("ip addr add 10.7.0.1/24 dev {PORT}"));
        assert!(passes(&guests[0]));
        test(&guests[0]);
    });
}

#[test]
fn filter_of_another_agent_still_drops_after_stop() {
    plugged(|guest| {
        let requests = Requests::open().unwrap();
        let index = index();
        requests.add_clsact(index).unwrap();
        let firewall = verdict(CLASSIFIER, TC_SHOT);
        // The place that clsact gives to a first filter, which the daemon might take for its own.
        let place = Place { index, egress: false, priority: 1, handle: 1 };
        requests.add_filter(place, firewall.as_fd(), "firewall").unwrap();
        assert!(!passes(guest));
        let server = start();
        // The daemon sees what the firewall drops.
        datagrams_of(guest, "10.7.0.1:9", 20);
        std::thread::sleep(SETTLED);
        let view = server.view("/api/v1/metrics/bucket/0");
        assert!(view.packets.total >= 20 || view.packets.protocol.tcp.syn == 0, "{view:?}");
        stop(server);
        assert_eq!((ours().len(), theirs()), (0, 1));
        assert!(!passes(guest), "the firewall is gone");
    });
}

#[test]
fn keeps_filter_that_took_the_place_of_ours() {
    plugged(|_| {
        let requests = Requests::open().unwrap();
        let server = start();
        let filter = ours().pop().expect("a filter");
        let Filter { priority, handle, .. } = filter;
        let place = Place { index: index(), egress: false, priority, handle };
        let firewall = verdict(CLASSIFIER, TC_SHOT);
        requests.remove_filter(place).unwrap();
        requests.add_filter(place, firewall.as_fd(), "firewall").unwrap();
        // The daemon takes another place.
        let started = Instant::now();
        while ours().is_empty() {
            assert!(started.elapsed() < PATIENCE, "{}", server.log_so_far());
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = stop(server);
        assert!(log.contains("no longer at its hook; attached it again"), "{log}");
        assert_eq!((ours().len(), theirs()), (0, 1), "{log}");
    });
}

#[test]
fn daemons_leave_filters_of_other_daemons() {
    plugged(|guest| {
        let [first, second] = [(); 2].map(|()| start());
        assert_eq!(ours().len(), 2);
        let third = start();
        assert_eq!(ours().len(), 3);
        stop(third);
        assert_eq!(ours().len(), 2);
        datagrams_of(guest, "10.7.0.1:9", 20);
        std::thread::sleep(SETTLED);
        for server in [&first, &second] {
            let view = server.view("/api/v1/metrics/bucket/0");
            assert_eq!(view.packets.udp, 20, "{}", server.log_so_far());
        }
        // A killed daemon leaves a filter behind. The next daemon removes this one and no other.
        kill(first);
        assert_eq!(ours().len(), 2);
        // That holds even if a daemon for another interface has started since.
        let elsewhere = Server::start(&["--summary", "--capture", "clsact", "lo"]);
        let fourth = start();
        assert_eq!(ours().len(), 2, "{:?} {}", ours(), fourth.log_so_far());
        stop(elsewhere);
        stop(fourth);
        stop(second);
        assert_eq!(ours(), []);
    });
}

#[test]
fn removes_filter_of_killed_daemon_when_attaching_again() {
    plugged(|_| {
        let server = start();
        let own = ours();
        kill(start());
        assert_eq!(ours().len(), 2);
        // The first daemon attaches again from within its sandbox.
        let Filter { priority, handle, .. } = own[0];
        let place = Place { index: index(), egress: false, priority, handle };
        Requests::open().unwrap().remove_filter(place).unwrap();
        let started = Instant::now();
        while ours().len() != 1 || ours()[0].program != own[0].program {
            assert!(started.elapsed() < PATIENCE, "{:?} {}", ours(), server.log_so_far());
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = stop(server);
        assert!(log.contains("removed a clsact filter that a killed daemon had left"), "{log}");
        assert_eq!(ours(), []);
    });
}
