//! A second host: a network namespace at the other end of a veth pair.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// Runs a shell command that must succeed. Returns its standard output.
#[track_caller]
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}{text}");
    text
}

/// This host and a second one with a cable between them.
pub struct Pair {
    /// The interface on this host.
    pub interface: String,
    /// Namespace of the second host. Its interface has the same name.
    pub namespace: String,
    /// Addresses of this host.
    pub v4: String,
    pub v6: String,
    /// Addresses of the second host.
    pub peer_v4: String,
    pub peer_v6: String,
    offloads: bool,
    mtu: u32,
}

/// The interface's own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

impl Statistics {
    pub fn packets(&self) -> u64 {
        self.rx_packets + self.tx_packets
    }

    pub fn bytes(&self) -> u64 {
        self.rx_bytes + self.tx_bytes
    }

    pub fn since(&self, before: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets - before.rx_packets,
            tx_packets: self.tx_packets - before.tx_packets,
            rx_bytes: self.rx_bytes - before.rx_bytes,
            tx_bytes: self.tx_bytes - before.tx_bytes,
        }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Pair {
    /// Creates the pair. With `offloads`, segments are joined and split late, as on most hosts.
    pub fn new(offloads: bool, mtu: u32) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Tests run in separate processes, many at once.
        let process = std::process::id();
        let name = format!("pv{process:x}-{number}");
        // Shared address space of carriers (RFC 6598), four addresses for each pair, and unique
        // local addresses.
        let v4 = |host: u32| {
            let (third, fourth) = (process >> 6 & 0xff, (process & 0x3f) << 2);
            format!("100.{}.{third}.{}", 64 + number % 64, fourth + host)
        };
        let v6 = |host: u32| format!("fd00:{process:x}:{number:x}::{host}");
        let pair = Self {
            interface: name.clone(),
            namespace: name.clone(),
            v4: v4(1),
            v6: v6(1),
            peer_v4: v4(2),
            peer_v6: v6(2),
            offloads,
            mtu,
        };
        sh(&format!("ip netns add {name}; ip -n {name} link set lo up"));
        pair.plug();
        pair
    }

    /// Connects the hosts.
    pub fn plug(&self) {
        let Self { interface, namespace, v4, v6, peer_v4, peer_v6, offloads, mtu } = self;
        sh(&format!(
            "ip link add {interface} mtu {mtu} type veth peer name {namespace} \
                 netns {namespace} mtu {mtu}
             ip addr add {v4}/30 dev {interface}
             ip addr add {v6}/64 dev {interface} nodad
             ip -n {namespace} addr add {peer_v4}/30 dev {namespace}
             ip -n {namespace} addr add {peer_v6}/64 dev {namespace} nodad"
        ));
        if !offloads {
            let off = "gso off tso off gro off >/dev/null";
            sh(&format!("ethtool -K {interface} {off}"));
            self.run_there(&format!("ethtool -K {namespace} {off}"));
        }
        sh(&format!("ip link set {interface} up; ip -n {namespace} link set {namespace} up"));
        let started = Instant::now();
        while !sh(&format!("ip link show {interface}")).contains("state UP") {
            assert!(started.elapsed() < Duration::from_secs(5), "{interface} does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes all addresses, including automatic ones, so that neither host sends anything on its
    /// own.
    pub fn forget_addresses(&self) {
        let Self { interface, namespace, .. } = self;
        sh(&format!(
            "ip addr flush dev {interface}; ip -n {namespace} addr flush dev {namespace}
             ip link set {interface} arp off
             sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1
             ip netns exec {namespace} sysctl -qw net.ipv6.conf.{namespace}.disable_ipv6=1"
        ));
    }

    /// Removes the cable with both interfaces.
    pub fn unplug(&self) {
        sh(&format!("ip link del {}", self.interface));
    }

    /// Renames the interface on this host to a name with this prefix.
    pub fn rename(&mut self, prefix: &str) {
        let name = format!("{prefix}{:x}", std::process::id());
        sh(&format!("ip link set {} name {name}", self.interface));
        self.interface = name;
    }

    /// Returns a command that runs on the second host.
    pub fn there(&self, command: &str) -> Command {
        let mut shell = Command::new("ip");
        shell.args(["netns", "exec", &self.namespace, "sh", "-c", command]);
        shell
    }

    /// Runs a command on the second host. The command must succeed.
    #[track_caller]
    pub fn run_there(&self, command: &str) -> String {
        let output = self.there(command).output().expect("ip netns exec");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}{text}");
        text
    }

    /// Runs `work` in a thread whose sockets are on the second host.
    pub fn do_there<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace =
            fs::File::open(format!("/run/netns/{}", self.namespace)).expect("it is there");
        std::thread::scope(|scope| {
            // The namespace applies to this thread only.
            let done = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).expect("root may");
                work()
            });
            done.join().expect("the thread ends")
        })
    }

    /// Sends raw frames from the second host.
    pub fn send(&self, frames: &[Vec<u8>]) {
        self.do_there(|| {
            let capture = pcap::Capture::from_device(self.namespace.as_str());
            let mut capture = capture.and_then(pcap::Capture::open).expect("a packet socket");
            for some in frames.chunks(64) {
                for frame in some {
                    capture.sendpacket(frame.as_slice()).expect("a frame is sent");
                }
                // The other end of the cable can queue 256 frames.
                std::thread::sleep(Duration::from_micros(500));
            }
        });
    }

    /// Returns the counters of the interface on this host.
    pub fn statistics(&self) -> Statistics {
        let number = |name: &str| {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.interface);
            let text = fs::read_to_string(path).expect("it is there");
            text.trim().parse::<u64>().expect("a number")
        };
        Statistics {
            rx_packets: number("rx_packets"),
            tx_packets: number("tx_packets"),
            rx_bytes: number("rx_bytes"),
            tx_bytes: number("tx_bytes"),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Best effort: a failed cleanup must not fail the test.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
        let _ = Command::new("ip")
            .args(["link", "del", &self.interface])
            .stderr(Stdio::null())
            .status();
    }
}

/// Port of the DNS server. Another server may use port 53.
pub const DNS_PORT: &str = "5300";

/// A DNS server on this host with the zone `example.org`.
pub struct DnsServer {
    child: Child,
    folder: TempDir,
}

impl DnsServer {
    pub fn start(pair: &Pair) -> Self {
        let folder = TempDir::new().expect("a folder");
        let at = folder.path().display();
        let (v4, v6) = (&pair.v4, &pair.v6);
        fs::write(
            folder.path().join("nsd.conf"),
            format!(
                "server:\n port: {DNS_PORT}\n ip-address: {v4}\n ip-address: {v6}\n username: \"\"\n \
                 zonesdir: \"{at}\"\n pidfile: \"{at}/pid\"\n xfrdfile: \"{at}/xfrd\"\n \
                 xfrdir: \"{at}\"\n zonelistfile: \"{at}/list\"\n database: \"\"\n \
                 rrl-ratelimit: 0\n ipv4-edns-size: 4096\n ipv6-edns-size: 4096\n\
                 remote-control:\n control-enable: no\n\
                 zone:\n name: example.org\n zonefile: zone\n"
            ),
        )
        .expect("a file");
        let zone = format!(
            "$ORIGIN example.org.\n$TTL 60\n@ SOA ns host 1 60 60 60 60\n@ NS ns\nns A {v4}\n\
             * A 192.0.2.7\nlarge TXT {}\n",
            vec![format!("\"{}\"", "x".repeat(250)); 8].join(" ")
        );
        fs::write(folder.path().join("zone"), zone).expect("a file");
        let config = folder.path().join("nsd.conf");
        let child = Command::new("nsd")
            .arg("-d")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a file"))
            .spawn()
            .expect("nsd starts");
        let mut server = Self { child, folder };
        server.wait(pair);
        server
    }

    /// Waits until the server answers.
    fn wait(&mut self, pair: &Pair) {
        let started = Instant::now();
        let ask =
            format!("kdig +timeout=1 +retry=0 -p {DNS_PORT} @{} ns.example.org +short", pair.v4);
        while !pair.there(&ask).output().is_ok_and(|output| output.stdout.starts_with(b"100.")) {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(10), "nsd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        // The workers of nsd end with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Writes queries for `names` names of the zone, for dnsperf. Returns the path.
pub fn queries(folder: &Path, names: usize) -> String {
    let path = folder.join("queries");
    let mut file = fs::File::create(&path).expect("a file");
    for name in 0..names {
        writeln!(file, "n{name}.example.org A").expect("it takes lines");
    }
    path.display().to_string()
}
