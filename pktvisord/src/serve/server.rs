//! Connections: how long they last, how they are encrypted, how they end.

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

/// How long a client may take none of its answer before its connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes and lines of the head of a request; bodies are not read.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
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
                    // Past the limit it is closed at once.
                    let to = stream.local_addr().unwrap_or(local);
                    let Some(place) = options.connections.admit(from.ip(), to.ip()) else { continue };
                    let (app, options) = (app.clone(), options.clone());
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        let serving = async {
                            let Some(stream) = encrypted(stream, &options, &place).await else { return };
                            // A connection that fails ends alone.
                            let _ = watcher.watch(connection(stream, app, &place)).await;
                        };
                        tokio::select! {
                            // A request that comes after that is not answered any more.
                            biased;
                            () = place.taken() => {}
                            () = serving => {}
                        }
                    });
                }
                Err(error) => {
                    if let Some(failed) = failures.happened(Instant::now()) {
                        tracing::warn!(%error, failed, "could not accept an HTTP connection");
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

/// What answers are written to, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}
type BoxedStream = Pin<Box<dyn Stream>>;

/// The connection after its TLS handshake, where there is TLS; none where that fails.
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
            tracing::debug!(%error, "a TLS handshake failed");
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
