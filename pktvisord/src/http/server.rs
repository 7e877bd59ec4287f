//! Connections: how many there are, how long they last, how they end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Options, router};
use crate::live::Live;

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send the head of its next request before its connection is
/// closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(4);
/// How long to wait after a failed accept, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the HTTP interface on `listener` until `shutdown` resolves; then no connection is
/// accepted any more, and requests under way may end within 4 s before they are cut off.
///
/// # Errors
/// Where the listener has no address. A connection that fails ends alone.
pub async fn serve(
    listener: TcpListener,
    live: Arc<Live>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let app = router(live, &options);
    let graceful = GracefulShutdown::new();
    // Dropped at the end, it ends what hangs.
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    tracing::debug!(address = %listener.local_addr()?, "HTTP interface is up");
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(graceful.watch(connection(stream, app.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace_s = GRACE.as_secs(), "HTTP connections were cut off");
    }
    Ok(())
}

fn connection(
    stream: TcpStream,
    app: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
}
