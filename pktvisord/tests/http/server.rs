//! The HTTP interface over TCP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pktvisor_common::api::Views;
use pktvisord::serve::{MAX_OF_CLIENT, Options};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::live;

/// A server, the sender that stops it, and its task.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    end: JoinHandle<io::Result<()>>,
}

async fn start() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let end = tokio::spawn(pktvisord::serve::serve(listener, live(), Options::default(), shutdown));
    Server { address, stop, end }
}

#[tokio::test]
async fn client_reads_json() {
    let server = start().await;
    let url = format!("http://{}/api/v1/metrics/window/2", server.address);
    let views = spawn_blocking(move || {
        let mut response = ureq::get(url).call().unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_str::<Views>(&response.body_mut().read_to_string().unwrap()).unwrap()
    });
    assert_eq!(views.await.unwrap()["2m"], *live().window(2).unwrap());
}

#[tokio::test]
async fn head_answers_without_body() {
    let server = start().await;
    let answer = spawn_blocking(move || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let request =
            "HEAD /api/v1/metrics/app HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn idle_clients_do_not_delay_shutdown() {
    let server = start().await;
    let idle = spawn_blocking(move || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        stream
    });
    let _idle = idle.await.unwrap();
    let begin = Instant::now();
    server.stop.send(()).unwrap();
    server.end.await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn cuts_off_hanging_clients_within_5_s() {
    let server = start().await;
    let mut hanging = TcpStream::connect(server.address).unwrap();
    hanging.write_all(b"GET /api/v1/metrics/app HTT").unwrap();
    // This is answered after the hanging connection was accepted.
    let url = format!("http://{}/healthz", server.address);
    spawn_blocking(move || ureq::get(url).call().unwrap()).await.unwrap();
    let begin = Instant::now();
    server.stop.send(()).unwrap();
    server.end.await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(hanging.read(&mut [0; 1]).unwrap(), 0);
    assert!(TcpStream::connect(server.address).is_err());
}

/// Returns true if the server has closed a connection. It sends nothing before a request.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn client_at_its_limit_does_not_block_others() {
    let server = start().await;
    let address = server.address;
    let closed = spawn_blocking(move || {
        let connect = |_| TcpStream::connect(address).unwrap();
        let mut idle: Vec<TcpStream> = (0..MAX_OF_CLIENT).map(connect).collect();
        // Each new connection evicts the one that was idle for longest.
        let mut newer: Vec<TcpStream> = (0..MAX_OF_CLIENT * 20).map(connect).collect();
        let refused = idle.iter_mut().all(is_closed);
        // Another loopback address counts as another client.
        let other = std::process::Command::new("curl")
            .args(["-s", "--interface", "127.0.0.9", &format!("http://{address}/healthz")])
            .output()
            .unwrap();
        let open = !is_closed(newer.last_mut().unwrap());
        drop((idle, newer));
        (refused, String::from_utf8(other.stdout).unwrap(), open)
    });
    assert_eq!(closed.await.unwrap(), (true, "ok".to_owned(), true));
    // Places are free again.
    let url = format!("http://{address}/healthz");
    let started = Instant::now();
    loop {
        let url = url.clone();
        if spawn_blocking(move || ureq::get(url).call().is_ok()).await.unwrap() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "there is no room");
    }
}

#[tokio::test]
async fn refuses_long_requests_and_ignores_bodies() {
    let server = start().await;
    for (request, status) in [
        (format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "431"),
        (format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000)), "431"),
        (
            "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_owned(),
            "200",
        ),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let short: String = request.chars().take(60).collect();
        let answer = status_line(&server, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{short}: {answer}");
    }
}

/// RFC 9112 section 3.2: an HTTP/1.1 request has one Host header, and its URI names the same host.
#[tokio::test]
async fn request_has_exactly_one_host() {
    let server = start().await;
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\n\r\n", "400"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "400"),
        ("GET http://localhost/healthz HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n", "200"),
        ("GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        ("GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
    ] {
        let answer = status_line(&server, request.to_owned()).await;
        let version = if request.contains("1.0") { "1.0" } else { "1.1" };
        assert!(answer.starts_with(&format!("HTTP/{version} {status}")), "{request}: {answer}");
    }
}

/// Returns the start of the answer to a request.
async fn status_line(server: &Server, request: String) -> String {
    let address = server.address;
    let answer = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may refuse the request before all of it is sent.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = [0; 12];
        let read = stream.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    });
    answer.await.unwrap()
}
