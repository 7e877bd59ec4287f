//! Clients that mean harm: they hold connections, or read slowly, and nobody else notices.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use pktvisord::http::{MAX_CONNECTIONS, MAX_OF_CLIENT};
use pktvisord::summary::state::terms;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use support::capture::{Capture, Folder, MILLISECOND, START};
use support::dns::{A, Message, NXDOMAIN};
use support::frame::{self, Flow};
use support::net::{Pair, sh};
use support::program::{PATIENCE, Server};
use support::traffic::{HOSTS, stored};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// How long a client waits for an answer.
const LONG: Duration = Duration::from_secs(5);

/// A connection from an address of one's own, with little room for what it is sent.
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

/// Sends a request.
fn request(stream: &mut TcpStream, path: &str) -> std::io::Result<()> {
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes())
}

/// The status of the answer to a request over a new connection; 0 where there is none.
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
fn strangers_that_hold_connections_keep_nobody_out() {
    if !support::has_rights() {
        return;
    }
    let pair = Pair::new(true, 1500);
    // Addresses for measurements (RFC 2544): of this host, and of five there.
    let address = |host: u8| IpAddr::from([198, 18, std::process::id() as u8, host]);
    let [here, namespace] = [&pair.interface, &pair.namespace];
    sh(&format!("ip addr add {}/24 dev {here}", address(1)));
    let add = |host| format!("ip addr add {}/24 dev {namespace}", address(host));
    pair.run_there(&(2..=6).map(add).collect::<Vec<_>>().join("; "));
    let (folder, file) = stored();
    let tokens = folder.store("tokens", TOKEN.as_bytes());
    let listen = address(1).to_string();
    let server = Server::start_as(support::program::pktvisord(&[
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
                // Some say nothing, some begin and say no more.
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

/// Octets of memory that a process holds.
fn resident(server: &Server) -> usize {
    let path = format!("/proc/{}/status", server.child.id());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let digits = line.trim().strip_suffix(" kB").expect("kilobytes");
    digits.parse::<usize>().expect("a number") * 1_024
}

/// NXDOMAIN replies of long names, each of which comes often enough to have a label in several lists.
fn long_names() -> Capture {
    let flow = Flow::new(frame_address(9), 53, frame_address(1), 4_000);
    let mut capture = Capture::default();
    for number in 0..6_000_i64 {
        let name = format!("{:060}.{:060}.{:060}.n{:04}", 1, 2, 3, number % 3_000);
        let reply = Message::query(number as u16, &name, A).reply(NXDOMAIN, 0);
        let packet = frame::ethernet(&frame::udp(&flow, &reply.octets()));
        capture.push(START + number * MILLISECOND, packet);
    }
    capture
}

fn frame_address(host: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, host])
}

#[test]
fn slow_readers_share_one_copy() {
    let folder = Folder::new();
    let file = folder.store("long.pcap", &long_names().pcap());
    let server = Server::start(&["-H", "192.0.2.1/32", "--replay=max", &file]);
    server.wait_for_end();
    let path = "/api/v1/state/bucket/0";
    let (_, whole) = server.get(path);
    assert!(terms(&whole).is_ok() && whole.len() > 1 << 20, "{}", whole.len());
    let before = resident(&server);
    let mut readers: Vec<TcpStream> = (0..MAX_CONNECTIONS)
        .map(|number| {
            // Of loopback each address is a client.
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
    assert!(added <= 16 << 20, "{MAX_CONNECTIONS} slow readers added {added} octets");
    println!("{MAX_CONNECTIONS} slow readers of {} octets added {added}", whole.len());
    // The last one has all of it, if it reads on.
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
