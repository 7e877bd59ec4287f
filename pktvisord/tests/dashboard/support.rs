//! The dashboard program, and a daemon for it.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pktvisord::serve::live::Live;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[path = "../support/daemon.rs"]
mod daemon;

/// Builds the dashboard, which is in another package, and returns the path of its program.
pub(crate) fn program() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--quiet", "--package", "pktvisor-tui"]).status();
    assert!(built.unwrap().success());
    Path::new(env!("CARGO_BIN_EXE_pktvisord")).with_file_name("pktvisor")
}

/// Returns a daemon that keeps 5 minutes and has seen 3.
pub(crate) fn live() -> Arc<Live> {
    daemon::live(&[1003, 1002, 1001])
}

/// An HTTP server that stops with its runtime.
pub(crate) struct Server {
    pub address: SocketAddr,
    _runtime: Runtime,
}

/// Serves at an address; port 0 selects a free port.
pub(crate) fn serve_at(address: SocketAddr) -> Server {
    serve_with(address, pktvisord::serve::Options::default())
}

/// Serves at an address with these options.
pub(crate) fn serve_with(address: SocketAddr, options: pktvisord::serve::Options) -> Server {
    serve_live(address, options, live())
}

/// Serves a daemon with `--summary` at a free port.
pub(crate) fn serve_single() -> Server {
    let address = ([127, 0, 0, 1], 0).into();
    serve_live(
        address,
        pktvisord::serve::Options::default(),
        daemon::live_with(&[1003, 1002, 1001], true),
    )
}

fn serve_live(address: SocketAddr, options: pktvisord::serve::Options, live: Arc<Live>) -> Server {
    let listener = StdListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(async { TcpListener::from_std(listener) }).unwrap();
    runtime.spawn(pktvisord::serve::serve(listener, live, options, std::future::pending()));
    Server { address, _runtime: runtime }
}

/// Serves at a free port.
pub(crate) fn serve() -> Server {
    serve_at(([127, 0, 0, 1], 0).into())
}

/// Returns a capture file of `packets` UDP packets from 192.0.2.7 to 192.0.2.1, ten each second.
pub(crate) fn capture(packets: u32) -> Vec<u8> {
    // Microseconds, version 2.4, Ethernet.
    let header = [0xa1b2_c3d4, 0x0002_0004, 0, 0, 65_535, 1];
    let words =
        |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let length = daemon::FRAME.len() as u32;
    let mut file = words(&header);
    for packet in 0..packets {
        let (seconds, tenths) = (1_700_000_000 + packet / 10, packet % 10);
        file.extend(words(&[seconds, tenths * 100_000, length, length]));
        file.extend(daemon::FRAME);
    }
    file
}
