//! Connections: how long they last, how they are encrypted, how they end.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;

use super::{Options, router};
use crate::live::Live;

/// How long a client may take to send the head of its next request, or for its part of a TLS
/// handshake, before its connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take none of its answer before its connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets and lines of the head of a request; bodies are not read.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How long requests may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(4);
/// How long to wait after a failed accept, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long failed accepts are only counted after one that was logged.
const LOG_PAUSE: Duration = Duration::from_mins(1);

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
    let mut failures = Failures::default();
    let mut shutdown = pin!(shutdown);
    tracing::debug!(address = %listener.local_addr()?, "HTTP interface is up");
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    // Past the limit it is closed at once.
                    let Some(place) = options.connections.admit(from.ip()) else { continue };
                    let (app, options) = (app.clone(), options.clone());
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        let _place = place;
                        let Some(stream) = encrypted(stream, &options).await else { return };
                        // A connection that fails ends alone.
                        let _ = watcher.watch(connection(stream, app)).await;
                    });
                }
                Err(error) => {
                    if let Some(before) = failures.next(Instant::now()) {
                        tracing::warn!(%error, before, "could not accept an HTTP connection");
                    }
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

/// Failed accepts, ten a second while there are no file descriptors.
#[derive(Default)]
struct Failures {
    logged: Option<Instant>,
    /// Since the last one that was logged.
    unlogged: u64,
}

impl Failures {
    /// Takes in a failure. Where it is to be logged, returns how many were not before it.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|logged| now.duration_since(logged) < LOG_PAUSE) {
            self.unlogged += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// What answers are written to, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}
type BoxedStream = Pin<Box<dyn Stream>>;

/// The connection after its TLS handshake, where there is TLS; none where that fails.
async fn encrypted(stream: TcpStream, options: &Options) -> Option<BoxedStream> {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    let Some(tls) = &options.access.tls else { return Some(stream) };
    let handshake = TlsAcceptor::from(tls.now()).accept(stream);
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Some(Box::pin(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

fn connection(
    stream: BoxedStream,
    app: Router,
) -> http1::Connection<TokioIo<BoxedStream>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_logged_once_a_minute_with_those_between() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let logged: Vec<(u64, u64)> = (0..1_300)
            .filter_map(|tenth| {
                let at = start + ACCEPT_PAUSE * tenth;
                Some((u64::from(tenth), failures.next(at)?))
            })
            .collect();
        assert_eq!(logged, [(0, 0), (600, 599), (1_200, 599)]);
    }
}
