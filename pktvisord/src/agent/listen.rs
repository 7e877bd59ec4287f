//! The HTTP servers of the daemon.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::error::{AppError, system};
use super::service;
use crate::config::ServeConfig;
use crate::serve::access::Access;
use crate::serve::live::Live;
use crate::serve::{self, Options};
use crate::system::shutdown::Shutdown;

/// Addresses that are listened on.
pub(super) struct Listeners {
    listeners: Vec<std::net::TcpListener>,
    options: Options,
}

/// Servers that answer.
pub(super) struct Servers(Vec<JoinHandle<io::Result<()>>>);

impl Listeners {
    /// Listens on all addresses of the name given, so that `localhost` answers on IPv4 and IPv6.
    pub(super) fn bind(config: &ServeConfig) -> Result<Self, AppError> {
        let access = Access::open(&config.access)?;
        let addresses = addresses(config, &access)?;
        let refused = |source| refused(config, source);
        let listeners = listen(&addresses).map_err(refused)?;
        let options = Options {
            prometheus_top: config.prometheus_top,
            any_host: access.is_guarded() || config.insecure_listen,
            access,
            ..Options::default()
        };
        Ok(Self { listeners, options })
    }

    /// How they serve.
    pub(super) fn options(&self) -> Options {
        self.options.clone()
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
            let scheme = if self.options.access.tls.is_some() { "https" } else { "http" };
            info!("serving on {scheme}://{address}, see {scheme}://{address}/docs");
        }
        let servers = self.listeners.into_iter().map(|listener| {
            let listener = TcpListener::from_std(listener)?;
            let (live, shutdown) = (Arc::clone(live), shutdown.clone().wait());
            Ok(runtime.spawn(serve::serve(listener, live, self.options.clone(), shutdown)))
        });
        let servers = servers.collect::<io::Result<_>>().map_err(system("cannot serve"))?;
        service::ready(live, shutdown, runtime);
        Ok(Servers(servers))
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

fn refused(config: &ServeConfig, source: io::Error) -> AppError {
    let host = bare(&config.listen);
    // As it stands in a URL (RFC 3986, section 3.2.2).
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    AppError::Listen { address: format!("{host}:{}", config.port), source }
}

/// The addresses to listen on, where those who ask have to show who they are, as far as they have to.
pub(super) fn addresses(
    config: &ServeConfig,
    access: &Access,
) -> Result<Vec<SocketAddr>, AppError> {
    let addresses =
        resolve(bare(&config.listen), config.port).map_err(|source| refused(config, source))?;
    let outside = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = outside {
        if !access.is_guarded() && !config.insecure_listen {
            return Err(AppError::Unguarded(*address));
        }
        if access.tls.is_none() {
            warn!(
                "{address} can be reached from other hosts, and what is sent is not encrypted: see \
                 --tls-cert and --tls-key"
            );
        }
    }
    Ok(addresses)
}

/// An address without the brackets that IPv6 has in URLs.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// The addresses of a name. `localhost` is loopback, whatever is known of it (RFC 6761, section 6.3): a
/// container may know nothing.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if name.eq_ignore_ascii_case("localhost") {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|address| (address, port).into()).to_vec());
    }
    Ok((name, port).to_socket_addrs()?.collect())
}

fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::new();
    let mut refused = None;
    let mut chosen = None;
    for mut address in addresses.iter().copied() {
        // Port 0 is chosen by the first address and shared by the others.
        address.set_port(chosen.unwrap_or(address.port()));
        match std::net::TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                chosen = Some(listener.local_addr()?.port());
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
