//! The interface over TCP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pktvisor_common::api::Views;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use pktvisord::http::Options;

use crate::support::live;

/// A server, what stops it, and how it ends.
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
    let end = tokio::spawn(pktvisord::http::serve(listener, live(), Options::default(), shutdown));
    Server { address, stop, end }
}

#[tokio::test]
async fn a_client_reads_json() {
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
async fn head_is_get_without_the_body() {
    let server = start().await;
    let answer = spawn_blocking(move || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let request = "HEAD /api/v1/metrics/app HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
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
async fn idle_clients_do_not_delay_the_stop() {
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
async fn hanging_clients_are_cut_off_within_5_s() {
    let server = start().await;
    let mut hanging = TcpStream::connect(server.address).unwrap();
    hanging.write_all(b"GET /api/v1/metrics/app HTT").unwrap();
    // Answered after the hanging one was accepted.
    let url = format!("http://{}/healthz", server.address);
    spawn_blocking(move || ureq::get(url).call().unwrap()).await.unwrap();
    let begin = Instant::now();
    server.stop.send(()).unwrap();
    server.end.await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(hanging.read(&mut [0; 1]).unwrap(), 0);
    assert!(TcpStream::connect(server.address).is_err());
}
