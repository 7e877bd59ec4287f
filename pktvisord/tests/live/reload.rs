//! Options that change while interfaces are watched.

use std::time::{Duration, Instant};

use pktvisor_common::api::WirePackets;

use crate::support::capture::Folder;
use crate::support::net::{DNS_PORT, DnsServer, Pair};
use crate::support::program::{PATIENCE, Server, signal};
use crate::support::tc;
use crate::{SETTLED, can_run, dnsperf};

/// Waits until this many reloads have been logged.
fn wait_for_reload(server: &Server, times: usize) {
    let started = Instant::now();
    while server.log_so_far().matches("configuration reloaded").count() < times {
        assert!(started.elapsed() < PATIENCE, "{}", server.log_so_far());
        std::thread::sleep(Duration::from_millis(20));
    }
    // The thread that follows the interfaces checks four times a second.
    std::thread::sleep(Duration::from_millis(600));
}

#[test]
fn ports_sampling_and_filter_change_at_runtime() {
    if !can_run() {
        return;
    }
    for mode in [tc(), "libpcap"] {
        let pair = Pair::new(false, 1500);
        let _dns = DnsServer::start(&pair);
        let folder = Folder::new();
        let file = folder.store("pktvisord.toml", b"dns-port = 5399\nverbose = 1\n");
        // As root, the daemon can still read files in a folder that only root may enter.
        let user = ["--user", "root"];
        let arguments = ["--config", &file, "--summary", "--capture", mode, &pair.interface];
        let arguments = [&user[..], &arguments].concat();
        let server = Server::start(&arguments);
        let wire = || -> WirePackets {
            std::thread::sleep(SETTLED);
            server.view("/api/v1/metrics/bucket/0").dns.wire_packets
        };
        dnsperf(&pair, &pair.v4, "-n 1");
        assert_eq!(wire().queries, 0, "{mode}: another port is that of DNS");

        folder.store("pktvisord.toml", format!("dns-port = {DNS_PORT}\n").as_bytes());
        signal(&server.child, "HUP");
        wait_for_reload(&server, 1);
        assert!(server.log_so_far().contains(&format!("dns-port: [5399] -> [{DNS_PORT}]")));
        // On a slow machine, dnsperf may miss a reply.
        let completed = dnsperf(&pair, &pair.v4, "-n 1");
        let queries = wire().queries;
        assert!(completed > 0 && queries >= completed, "{mode}: {queries} of {completed}");

        let sampled = format!("dns-port = {DNS_PORT}\nmax-deep-sample = 0\n");
        folder.store("pktvisord.toml", sampled.as_bytes());
        signal(&server.child, "HUP");
        wait_for_reload(&server, 2);
        dnsperf(&pair, &pair.v4, "-n 1");
        assert_eq!(wire().queries, queries, "{mode}: none are inspected");

        let filtered = format!("dns-port = {DNS_PORT}\nfilter = \"tcp port domain\"\n");
        // libpcap looks up the name of the port in /etc/services.
        folder.store("pktvisord.toml", filtered.as_bytes());
        signal(&server.child, "HUP");
        wait_for_reload(&server, 3);
        let before = server.view("/api/v1/metrics/bucket/0").packets.udp;
        dnsperf(&pair, &pair.v4, "-n 1");
        let after = wire();
        let udp = server.view("/api/v1/metrics/bucket/0").packets.udp;
        if mode == "libpcap" {
            assert_eq!((udp, after.queries), (before, queries), "none comes through the filter");
        } else {
            let refused = "filter: not set -> \"tcp port domain\" needs a restart";
            assert!(server.log_so_far().contains(refused), "{}", server.log_so_far());
            assert_eq!(after.queries, 2 * queries, "{mode}");
        }
    }
}
