//! A daemon to be looked at.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use pktvisord::live::Live;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[path = "../../../pktvisord/tests/support/daemon.rs"]
mod daemon;

/// A daemon that has seen 3 of 5 minutes.
pub fn live() -> Arc<Live> {
    daemon::live(&[1003, 1002, 1001])
}

/// A server that ends with its runtime.
pub struct Server {
    pub address: SocketAddr,
    _runtime: Runtime,
}

/// Serves at an address; port 0 is any free one.
pub fn serve_at(address: SocketAddr) -> Server {
    let listener = StdListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(async { TcpListener::from_std(listener) }).unwrap();
    runtime.spawn(pktvisord::http::serve(listener, live(), std::future::pending()));
    Server { address, _runtime: runtime }
}

/// Serves at a free port.
pub fn serve() -> Server {
    serve_at(([127, 0, 0, 1], 0).into())
}
