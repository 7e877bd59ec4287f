//! A host of its own for a test: a network namespace with the daemon and its interfaces.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::net::sh;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Namespaces to delete on drop.
struct Namespaces(Vec<String>);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            // Best effort: a failed cleanup must not fail the test.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs a test in a new namespace. The test gets the names of `guests` further namespaces. Its
/// commands and sockets are in the new namespace, but sysfs is that of the machine.
pub fn host(guests: usize, test: impl FnOnce(&[String]) + Send) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = |at: usize| format!("ph{:x}-{number}-{at}", std::process::id());
    let names: Vec<String> = (0..=guests).map(name).collect();
    for name in &names {
        sh(&format!("ip netns add {name}; ip -n {name} link set lo up"));
    }
    let namespaces = Namespaces(names);
    let (own, guests) = namespaces.0.split_first().expect("one at least");
    inside(own, || test(guests));
}

/// Runs `run` in a namespace.
pub fn inside<T: Send>(name: &str, run: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).expect("it is there");
    std::thread::scope(|scope| {
        // The namespace applies to this thread only.
        let inside = scope.spawn(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).expect("root may");
            run()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Creates a veth pair: `name` here, and `eth0` with this address on a guest.
pub fn cable(guest: &str, name: &str, address: &str) {
    sh(&format!(
        "ip link add {name} type veth peer name eth0 netns {guest}
         ip link set {name} up
         ip -n {guest} addr add {address} dev eth0
         ip -n {guest} link set eth0 up"
    ));
}

/// Sends UDP datagrams from this namespace, one each millisecond.
pub fn datagrams(to: &str, number: usize) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    for _ in 0..number {
        socket.send_to(b"a datagram", to).expect("it is sent");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends UDP datagrams from a guest.
pub fn datagrams_of(guest: &str, to: &str, number: usize) {
    inside(guest, || datagrams(to, number));
}
