//! Connections of the HTTP server: timeouts, TLS, shutdown.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::connections::Place;
use super::{Options, router};
use crate::serve::live::Live;
use crate::system::occasional::Occasional;

/// Time without progress of a write after which the connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a request head in bytes and in header lines. Bodies are not read.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Time that requests have to finish after a shutdown was requested.
const GRACE: Duration = Duration::from_secs(4);
/// Pause after a failed accept, for example when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the HTTP interface on `listener` until `shutdown` resolves. After that it accepts no
/// connection, and cuts requests off that do not finish within 4 s.
///
/// # Errors
/// Fails if the listener has no address. A connection that fails ends alone.
pub async fn serve(
    listener: TcpListener,
    live: Arc<Live>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let app = router(live, &options);
    let graceful = GracefulShutdown::new();
    // Dropping the set aborts connections that hang.
    let mut connections = JoinSet::new();
    let failures = Occasional::default();
    let mut shutdown = pin!(shutdown);
    let local = listener.local_addr()?;
    tracing::debug!(address = %local, "HTTP interface is up");
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    // A connection past the limit is closed at once.
                    let to = stream.local_addr().unwrap_or(local);
                    let Some(place) = options.connections.admit(from.ip(), to.ip()) else { continue };
                    let (app, options) = (app.clone(), options.clone());
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        let serving = async {
                            let Some(stream) = encrypted(stream, &options, &place).await else { return };
                            // An error ends this connection only.
                            let _ = watcher.watch(connection(stream, app, &place)).await;
                        };
                        tokio::select! {
                            // A request that arrives after the eviction is not answered.
                            biased;
                            () = place.taken() => {}
                            () = serving => {}
                        }
                    });
                }
                Err(error) => {
                    if let Some(failed) = failures.happened(Instant::now()) {
                        tracing::warn!(%error, failed, "cannot accept an HTTP connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            grace_s = GRACE.as_secs(),
            "closed HTTP connections that did not finish in time"
        );
    }
    Ok(())
}

/// A connection, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}
type BoxedStream = Pin<Box<dyn Stream>>;

/// Performs the TLS handshake if TLS is configured. Returns `None` if it fails.
async fn encrypted(stream: TcpStream, options: &Options, place: &Place) -> Option<BoxedStream> {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE_TIMEOUT));
    let stream = Box::pin(stream);
    let Some(tls) = &options.access.tls else { return Some(stream) };
    let handshake = TlsAcceptor::from(tls.now()).accept(stream);
    match tokio::time::timeout(place.head_timeout(), handshake).await {
        Ok(Ok(stream)) => {
            if let Some(shown) = stream.get_ref().1.peer_certificates() {
                place.connection().trust_by(shown);
            }
            Some(Box::pin(stream))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Serves the requests of a connection, one after the other.
fn connection(
    stream: BoxedStream,
    app: Router,
    place: &Place,
) -> http1::Connection<
    TokioIo<BoxedStream>,
    impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send> + use<>,
> {
    let connection = Arc::clone(place.connection());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answering = connection.answer();
        request.extensions_mut().insert(Arc::clone(&connection));
        let answer = app.clone().oneshot(request);
        async move {
            let _answering = answering;
            answer.await
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(place.head_timeout())
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
}
