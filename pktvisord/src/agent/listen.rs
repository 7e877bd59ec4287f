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

/// Bound listeners that do not serve yet.
pub(super) struct Listeners {
    listeners: Vec<std::net::TcpListener>,
    options: Options,
}

/// Running servers.
pub(super) struct Servers(Vec<JoinHandle<io::Result<()>>>);

impl Listeners {
    /// Listens on every address that the configured name resolves to: `localhost` serves IPv4 and
    /// IPv6.
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

    /// Returns the options of the servers.
    pub(super) fn options(&self) -> Options {
        self.options.clone()
    }

    /// Serves `live` until shutdown is requested.
    pub(super) fn serve(
        self,
        live: &Arc<Live>,
        shutdown: &Shutdown,
        runtime: &Runtime,
    ) -> Result<Servers, AppError> {
        // Sockets are registered with the runtime they are created in.
        let _guard = runtime.enter();
        for address in self.listeners.iter().filter_map(|listener| listener.local_addr().ok()) {
            let scheme = if self.options.access.tls.is_some() { "https" } else { "http" };
            info!("serving on {scheme}://{address}, documentation at {scheme}://{address}/docs");
        }
        let servers = self.listeners.into_iter().map(|listener| {
            let listener = TcpListener::from_std(listener)?;
            let (live, shutdown) = (Arc::clone(live), shutdown.clone().wait());
            Ok(runtime.spawn(serve::serve(listener, live, self.options.clone(), shutdown)))
        });
        let servers =
            servers.collect::<io::Result<_>>().map_err(system("cannot start the HTTP servers"))?;
        service::ready(live, shutdown, runtime);
        Ok(Servers(servers))
    }
}

impl Servers {
    /// Waits until all servers have ended.
    pub(super) fn wait(self, runtime: &Runtime) {
        runtime.block_on(async {
            for server in self.0 {
                match server.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => warn!("an HTTP server stopped: {error}"),
                    Err(error) => warn!("an HTTP server stopped: {error}"),
                }
            }
        });
    }
}

fn refused(config: &ServeConfig, source: io::Error) -> AppError {
    let host = bare(&config.listen);
    // IPv6 addresses have brackets in URLs (RFC 3986, section 3.2.2).
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    AppError::Listen { address: format!("{host}:{}", config.port), source }
}

/// Returns the addresses to listen on.
///
/// Refuses an address beyond loopback without authentication, unless `--insecure-listen` is set.
/// Warns if such an address has no TLS.
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
                "{address} is reachable from other hosts without encryption: set --tls-cert and --tls-key"
            );
        }
    }
    Ok(addresses)
}

/// Strips the brackets that IPv6 addresses have in URLs.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Resolves a name. `localhost` is always loopback (RFC 6761, section 6.3): a container may have no
/// entry for it.
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
        // With port 0 the kernel picks a port for the first address, and the other addresses use it
        // too.
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
