//! The HTTP servers of the daemon.

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{AppError, system};
use crate::cli::Cli;
use crate::http::{self, Options};
use crate::live::Live;
use crate::shutdown::Shutdown;

/// Addresses that are listened on.
pub(super) struct Listeners {
    listeners: Vec<std::net::TcpListener>,
    options: Options,
}

/// Servers that answer.
pub(super) struct Servers(Vec<JoinHandle<io::Result<()>>>);

impl Listeners {
    /// Listens on all addresses of the name given, so that `localhost` answers on IPv4 and IPv6.
    pub(super) fn bind(cli: &Cli) -> Result<Self, AppError> {
        let refused =
            |source| AppError::Listen { address: format!("{}:{}", cli.listen, cli.port), source };
        let listeners = listen(cli).map_err(refused)?;
        Ok(Self { listeners, options: Options { prometheus_top: cli.prometheus_top } })
    }

    /// Answers from `live` until the end is asked for.
    pub(super) fn serve(
        self,
        live: &Arc<Live>,
        shutdown: &Shutdown,
        runtime: &Runtime,
    ) -> Result<Servers, AppError> {
        // Sockets belong to the runtime that they are made in.
        let _guard = runtime.enter();
        for address in self.listeners.iter().filter_map(|listener| listener.local_addr().ok()) {
            info!("serving on http://{address}, see http://{address}/docs");
        }
        let servers = self.listeners.into_iter().map(|listener| {
            let listener = TcpListener::from_std(listener)?;
            let (live, shutdown) = (Arc::clone(live), shutdown.clone().wait());
            Ok(runtime.spawn(http::serve(listener, live, self.options.clone(), shutdown)))
        });
        servers.collect::<io::Result<_>>().map(Servers).map_err(system("cannot serve"))
    }
}

impl Servers {
    /// Waits until all have ended.
    pub(super) fn wait(self, runtime: &Runtime) {
        runtime.block_on(async {
            for server in self.0 {
                match server.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => warn!("a server ended: {error}"),
                    Err(error) => warn!("a server ended: {error}"),
                }
            }
        });
    }
}

fn listen(cli: &Cli) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::new();
    let mut refused = None;
    let mut port = cli.port;
    for mut address in (cli.listen.as_str(), port).to_socket_addrs()? {
        // Port 0 is chosen by the first address and shared by the others.
        address.set_port(port);
        match std::net::TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        // A host without IPv6 still has its IPv4 loopback.
        Some(error) if listeners.is_empty() || error.kind() == io::ErrorKind::AddrInUse => {
            Err(error)
        }
        _ => Ok(listeners),
    }
}
