//! Attacks by HTTP clients that hold connections or read slowly. Other clients must not be
//! affected.

mod support;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pktvisor_common::summary::state::terms;
use pktvisord::serve::{MAX_CONNECTIONS, MAX_OF_CLIENT};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use support::capture::{Capture, Folder, MILLISECOND, SECOND, START};
use support::dns::{NOERROR, NXDOMAIN, REFUSED, SERVFAIL};
use support::frame::{self, Flow};
use support::net::{Pair, sh};
use support::program::{PATIENCE, Server, pktvisord};
use support::tool::skipped;
use support::traffic::{HOSTS, stored};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Timeout of a client for an answer.
const LONG: Duration = Duration::from_secs(5);

/// Connects from a given address, with a small receive buffer.
fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, 4_096)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    Ok(stream)
}

/// Sends a request with the token.
fn request(stream: &mut TcpStream, path: &str) -> std::io::Result<()> {
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes())
}

/// Returns the status of a request over a new connection, or 0 if there is no answer.
fn status(from: IpAddr, to: SocketAddr, path: &str) -> u16 {
    let answer = || -> std::io::Result<[u8; 12]> {
        let mut stream = connect_from(from, to)?;
        request(&mut stream, path)?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    let head = answer().unwrap_or_default();
    std::str::from_utf8(&head[9..]).ok().and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[test]
fn strangers_that_hold_connections_keep_no_other_client_out() {
    if !support::has_rights() {
        return;
    }
    let pair = Pair::new(true, 1500);
    // Addresses for benchmarks (RFC 2544): one of this host and five of the other one.
    let address = |host: u8| IpAddr::from([198, 18, std::process::id() as u8, host]);
    let [here, namespace] = [&pair.interface, &pair.namespace];
    sh(&format!("ip addr add {}/24 dev {here}", address(1)));
    let add = |host| format!("ip addr add {}/24 dev {namespace}", address(host));
    pair.run_there(&(2..=6).map(add).collect::<Vec<_>>().join("; "));
    let (folder, file) = stored();
    let tokens = folder.store("tokens", TOKEN.as_bytes());
    let listen = address(1).to_string();
    let server = Server::start_as(pktvisord(&[
        "-l",
        &listen,
        "-p",
        "0",
        "-H",
        HOSTS,
        "--token-file",
        &tokens,
        "--replay=max",
        &file,
    ]));
    let to = server.address;
    let paths = ["/healthz", "/readyz", "/metrics", "/api/v1/metrics/app"];
    let seen: Vec<(usize, Vec<u16>, Vec<u16>)> = (1..=3)
        .map(|round| {
            let (held, there) = pair.do_there(|| {
                let hosts = (2..=5).flat_map(|host| [host; MAX_OF_CLIENT]);
                // In the first round the clients send nothing, in the others the start of a
                // request.
                let hold = |host: u8| {
                    let mut stream = connect_from(address(host), to)?;
                    if round > 1 {
                        stream.write_all(b"GET /metrics HT")?;
                    }
                    Ok(stream)
                };
                let held: Vec<std::io::Result<TcpStream>> = hosts.map(hold).collect();
                let there = paths.map(|path| status(address(6), to, path)).to_vec();
                (held.iter().filter(|held| held.is_ok()).count(), there)
            });
            (held, there, paths.map(|path| status(address(1), to, path)).to_vec())
        })
        .collect();
    for (held, there, here) in seen {
        assert_eq!(held, MAX_CONNECTIONS, "the attack has no effect");
        assert_eq!((there, here), (vec![200; 4], vec![200; 4]));
    }
    let (code, log) = server.stop("TERM", PATIENCE);
    assert_eq!(code, Some(0), "{log}");
}

/// Returns the resident memory of a daemon in bytes.
fn resident(server: &Server) -> usize {
    let path = format!("/proc/{}/status", server.child.id());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let digits = line.trim().strip_suffix(" kB").expect("kilobytes");
    digits.parse::<usize>().expect("a number") * 1_024
}

/// Returns a minute of transactions that fill all lists of names with long, unprintable names, and
/// much of the counts by port, type, size and latency.
fn full_minute(number: i64) -> Capture {
    const TRANSACTIONS: i64 = 12_288;
    let start = START + number * 60 * SECOND;
    let codes = [NOERROR, SERVFAIL, NXDOMAIN, REFUSED];
    let mut capture = Capture::default();
    for transaction in 0..TRANSACTIONS {
        let [a, b] = (transaction as u16).to_be_bytes();
        let mut name = [&[63][..], &[0xff; 63]].concat().repeat(3);
        name.extend([&[58][..], &[0xfe; 56], &[a | 0x80, b | 0x80]].concat());
        // Each of the two bytes has seven bits here; the first label has all of them.
        (name[1], name[2]) = (a, b);
        let flow = Flow::new(IpAddr::from([198, 51, a, b]), 2_000 + transaction as u16, HERE, 53);
        let message = |flags: u16| {
            let head = [transaction as u16, flags, 1, 0, 0, 1].map(u16::to_be_bytes);
            let question = [&[0][..], &[a, b], &[0, 1]].concat();
            let options = [&[0, 0, 41][..], &[a, b], &[0; 6]].concat();
            [head.as_flattened(), &name[..], &question, &options].concat()
        };
        let at = start + transaction * 4 * MILLISECOND;
        let took = MILLISECOND << (transaction % 12);
        let code = codes[(transaction / (TRANSACTIONS / 4)) as usize];
        let (query, reply) = (message(0x0100), message(0x8180 | code));
        capture.push(at, frame::ethernet(&frame::udp(&flow, &query)));
        capture.push(at + took, frame::ethernet(&frame::udp(&flow.reversed(), &reply)));
    }
    capture.sort();
    capture
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Starts a daemon that has seen this many of these minutes, from a file.
fn full_minutes(folder: &Folder, minutes: i64, limit: Option<&Cgroup>) -> Server {
    let packets = (0..minutes).flat_map(|minute| full_minute(minute).packets).collect();
    let file = folder.store("full.pcap", &Capture { packets }.pcap());
    let mut command = pktvisord(&Server::arguments(&["-H", "192.0.2.1/32", "--replay=max", &file]));
    if let Some(limit) = limit {
        limit.enter(&mut command);
    }
    let server = Server::start_as(command);
    server.wait_for_end();
    server
}

#[test]
fn slow_readers_share_one_copy() {
    let server = full_minutes(&Folder::new(), 1, None);
    let path = "/api/v1/state/bucket/0";
    let (_, whole) = server.get(path);
    assert!(terms(&whole).is_ok() && whole.len() > 1 << 19, "{}", whole.len());
    let before = resident(&server);
    let mut readers: Vec<TcpStream> = (0..MAX_CONNECTIONS)
        .map(|number| {
            // Each loopback address counts as a client.
            let from = IpAddr::from([127, 0, 1, 1 + (number / MAX_OF_CLIENT) as u8]);
            let mut stream = connect_from(from, server.address).expect("there is room");
            request(&mut stream, path).expect("it is sent");
            let mut start = [0; 12];
            stream.read_exact(&mut start).expect("an answer");
            assert_eq!(&start, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let added = resident(&server).saturating_sub(before);
    assert!(added <= 16 << 20, "{MAX_CONNECTIONS} slow readers added {added} bytes");
    println!("{MAX_CONNECTIONS} slow readers of {} bytes added {added}", whole.len());
    // The last reader gets the whole answer if it reads on.
    let mut rest = Vec::new();
    let mut last = readers.pop().expect("a reader");
    let mut part = [0; 1 << 13];
    while rest.len() < whole.len() {
        match last.read(&mut part).expect("it goes on") {
            0 => break,
            read => rest.extend_from_slice(&part[..read]),
        }
    }
    assert!(rest.len() >= whole.len(), "{} of {}", rest.len(), whole.len());
}

/// A control group with a limit on memory (cgroups(7)).
struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Creates a group with a limit in bytes, or returns `None` if the system does not allow it.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("pktvisor-test-{}", std::process::id());
        // cgroup version 2, then version 1.
        let kinds =
            [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        kinds.into_iter().find_map(|(parent, limit)| {
            let folder = Path::new(parent).join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Self { folder };
            let bounded = fs::write(group.folder.join(limit), bytes.to_string());
            bounded.is_ok().then_some(group)
        })
    }

    /// Changes a command so that it starts in the group.
    fn enter(&self, command: &mut Command) {
        let program = command.get_program().to_owned();
        let arguments: Vec<OsString> = command.get_args().map(OsString::from).collect();
        let mut inside = Command::new("sh");
        let procs = self.folder.join("cgroup.procs");
        inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(procs).arg(program);
        inside.args(arguments);
        *command = inside;
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The group is empty once its processes have ended.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Returns the memory limit of the shipped `DaemonSet` in bytes, less 32 MiB for four ring buffers
/// in the kernel.
fn shipped_limit() -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy/daemonset.yaml");
    let text = fs::read_to_string(path).expect("it is shipped");
    let (_, limit) = text.split_once("limits: { memory: ").expect("it has a limit");
    let (mebibytes, _) = limit.split_once("Mi").expect("in MiB");
    (mebibytes.parse::<u64>().expect("a number") << 20) - 4 * (8 << 20)
}

#[test]
fn filled_minutes_fit_the_shipped_limits() {
    const MINUTE: usize = 6 << 20;
    if !support::has_rights() {
        return;
    }
    let Some(group) = Cgroup::new(shipped_limit()) else {
        return skipped("no cgroup can be made to bound memory");
    };
    let folder = Folder::new();
    let one = full_minutes(&folder, 1, None);
    let alone = resident(&one);
    drop(one);
    let server = full_minutes(&folder, 7, Some(&group));
    let view = server.view("/api/v1/metrics/window/5");
    assert_eq!(view.dns.xact.counts.total, 5 * 12_288, "the attack has no effect");
    let states: Vec<usize> =
        (0..5).map(|n| server.get(&format!("/api/v1/state/bucket/{n}")).1.len()).collect();
    assert!(states.iter().all(|&bytes| bytes < MINUTE), "{states:?}");
    let grown = resident(&server).saturating_sub(alone);
    println!("states of {states:?} bytes; 4 further minutes took {grown}");
    assert!(grown < 4 * MINUTE + (16 << 20), "{grown} bytes for 4 minutes, and answers");
    let (code, log) = server.stop("TERM", PATIENCE);
    assert_eq!(code, Some(0), "{log}");
}
