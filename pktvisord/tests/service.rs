//! Notifications to a service manager.

mod support;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use support::capture::Folder;
use support::program::{PATIENCE, Server, pktvisord, signal, wait};
use support::traffic::stored;

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message that contains this line. Returns the message.
    fn wait_for(&self, line: &str) -> String {
        let started = Instant::now();
        loop {
            let mut bytes = [0; 4_096];
            if let Ok(length) = self.0.recv(&mut bytes) {
                let message = String::from_utf8(bytes[..length].to_vec()).expect("UTF-8");
                if message.lines().any(|one| one == line) {
                    return message;
                }
            }
            assert!(started.elapsed() < PATIENCE, "{line} is never said");
        }
    }
}

#[test]
fn notifies_about_start_life_reload_and_stop() {
    let (folder, capture) = stored();
    let sockets = Folder::new();
    let manager = Manager(UnixDatagram::bind(sockets.file("notify")).expect("a socket"));
    manager.0.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let mut command = pktvisord(&Server::arguments(&["--replay=max", &capture]));
    command.env("NOTIFY_SOCKET", sockets.file("notify")).env("WATCHDOG_USEC", "600000");
    let server = Server::start_as(command);
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=") && ready.contains("traffic.pcap (file)"), "{ready}");
    // The daemon notifies more often than the watchdog demands.
    let started = Instant::now();
    for _ in 0..5 {
        manager.wait_for("WATCHDOG=1");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    signal(&server.child, "HUP");
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");
    signal(&server.child, "TERM");
    manager.wait_for("STOPPING=1");
    drop(folder);
}

/// A socket name in the abstract namespace, as some container runtimes use.
#[test]
fn notifies_abstract_socket() {
    let (_folder, capture) = stored();
    let name = format!("pktvisor-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let manager = Manager(UnixDatagram::bind_addr(&address).expect("a socket"));
    manager.0.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let mut command = pktvisord(&Server::arguments(&["--replay=max", &capture]));
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let server = Server::start_as(command);
    manager.wait_for("READY=1");
    signal(&server.child, "TERM");
    manager.wait_for("STOPPING=1");
}

#[test]
fn serves_although_log_cannot_be_written() {
    let (_folder, capture) = stored();
    for log in ["/dev/full", "a pipe that nobody reads any more"] {
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("an address").port().to_string()
        };
        let mut command =
            pktvisord(&["-vv", "-l", "127.0.0.1", "-p", &port, "--replay=max", &capture]);
        if let Ok(full) = std::fs::OpenOptions::new().write(true).open(log) {
            command.stderr(full);
        }
        let mut child = command.spawn().expect("pktvisord starts");
        drop(child.stderr.take());
        let url = format!("http://127.0.0.1:{port}/readyz");
        let started = Instant::now();
        while ureq::get(&url).call().is_err() {
            assert!(started.elapsed() < PATIENCE, "{log}: it does not serve");
            std::thread::sleep(Duration::from_millis(50));
        }
        signal(&child, "HUP");
        std::thread::sleep(Duration::from_millis(200));
        assert!(ureq::get(&url).call().is_ok(), "{log}: it does not serve any more");
        signal(&child, "TERM");
        assert_eq!(wait(&mut child, PATIENCE), Some(0), "{log}");
    }
}
