//! HTTP requests and clock steps lose no packet.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::net::{DnsServer, Pair, sh};
use crate::support::program::Server;
use crate::support::tool::has_tool;
use crate::{SETTLED, Watch, can_run, dnsperf};

#[test]
fn a_thousand_requests_a_second_lose_no_packet() {
    if !can_run() || !has_tool("curl", "curl") {
        return;
    }
    let pair = Pair::new(false, 1500);
    let _dns = DnsServer::start(&pair);
    let watch = Watch::start(&pair, &["--capture", crate::tc()]);
    let clients = ["/metrics", "/api/v1/metrics/window/1"].map(|path| {
        let url = format!("{}?[1-2500]", watch.server.url(path));
        let curl = ["-s", "--fail", "--rate", "500/s", "-o", "/dev/null", &url];
        Command::new("curl").args(curl).stdout(Stdio::null()).spawn().expect("curl starts")
    });
    let mut queries = 0;
    for _ in 0..4 {
        queries += dnsperf(&pair, &pair.v4, "-n 20 -Q 10000");
    }
    for mut client in clients {
        assert!(client.wait().expect("curl ends").success());
    }
    let (view, since) = watch.settled(&pair);
    assert_eq!(view.packets.total, since.packets());
    assert_eq!(view.dns.wire_packets.queries, queries, "{:?}", view.capture);
    assert_eq!(view.dns.wire_packets.replies, queries, "{:?}", view.capture);
    assert_eq!(view.capture.ring_full, 0);
}

/// Returns the packets since the start, from `/metrics`.
fn packets(server: &Server) -> u64 {
    let text = String::from_utf8(server.get("/metrics").1).expect("UTF-8");
    let samples = text.lines().filter(|line| line.starts_with("pktvisor_packets_total{"));
    samples
        .map(|line| line.rsplit_once(' ').expect("a value").1.parse::<u64>().expect("a count"))
        .sum()
}

#[test]
#[ignore = "sets the clock of the machine: for a virtual one"]
fn loses_no_packet_when_the_clock_is_set_by_an_hour() {
    if !can_run() {
        return;
    }
    for mode in [crate::tc(), "libpcap"] {
        let pair = Pair::new(false, 1500);
        let _dns = DnsServer::start(&pair);
        let server = Server::start(&["--capture", mode, &pair.interface]);
        std::thread::sleep(Duration::from_secs(1));
        let before = (pair.statistics(), packets(&server));
        for step in ["+1 hour", "-2 hours", "+1 hour"] {
            dnsperf(&pair, &pair.v4, "-n 2");
            sh(&format!("date -s '{step}'"));
            dnsperf(&pair, &pair.v4, "-n 2");
        }
        std::thread::sleep(SETTLED);
        let since = pair.statistics().since(&before.0).packets();
        let counted = packets(&server) - before.1;
        // A host sends packets of its own now and then, also between the two reads.
        assert!(counted.abs_diff(since) <= 20, "{mode}: {counted} of {since}");
        assert!(since >= 12_000, "{since}");
        if mode != "libpcap" {
            let log = server.log_so_far();
            assert_eq!(log.matches("the clock was set by").count(), 3, "{log}");
        }
    }
}
