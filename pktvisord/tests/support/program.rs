//! The daemon as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pktvisor_common::api::{AppMetrics, MetricsView, Views};
use serde::de::DeserializeOwned;

/// Maximum time that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Result of a run.
#[derive(Debug)]
pub struct Done {
    /// Exit code, or `None` if a signal ended the process.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Returns a command for the daemon, without environment variables that would change its output.
pub fn pktvisord(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktvisord"));
    command
        .args(args)
        .env_remove("RUST_LOG")
        .env_remove("PKTVISORD_CONFIG")
        .env_remove("NO_COLOR")
        .env("COLUMNS", "100");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the daemon to its end.
pub fn run(args: &[&str]) -> Done {
    let output = pktvisord(args).output().expect("pktvisord starts");
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs the daemon with these bytes on standard input.
pub fn run_with_input(args: &[&str], input: &[u8]) -> Done {
    let mut child = pktvisord(args).stdin(Stdio::piped()).spawn().expect("pktvisord starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A daemon that stops reading reports the reason on standard error.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().expect("pktvisord ends");
        Done {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    })
}

/// Returns the only view that a run printed.
#[track_caller]
pub fn view(done: &Done) -> MetricsView {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let views: Views = serde_json::from_str(&done.stdout).expect("views");
    assert_eq!(views.len(), 1);
    views.into_values().next().expect("a view")
}

/// Sends the signal with this name to a process.
pub fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
}

/// Waits for the end of a process. Returns its exit code, or `None` if it is still running.
pub fn wait(child: &mut Child, patience: Duration) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < patience {
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(status.code().expect("an exit code"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// A running daemon with an HTTP server. Dropping it kills the daemon.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    log: JoinHandle<()>,
    written: Arc<Mutex<String>>,
    agent: ureq::Agent,
}

impl Server {
    /// Starts the daemon with these arguments on a free port.
    pub fn start(args: &[&str]) -> Self {
        Self::start_as(pktvisord(&Self::arguments(args)))
    }

    /// Adds arguments for a free port.
    pub fn arguments<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["-l", "127.0.0.1", "-p", "0"], args].concat()
    }

    /// Starts the daemon with this command, which must use a free port.
    pub fn start_as(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pktvisord starts");
        let (lines, written, log) = follow(child.stderr.take().expect("a pipe"));
        let started = Instant::now();
        let address = loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let line = lines.recv_timeout(left).expect("a line that names the address");
            if let Some((_, rest)) = line.split_once("serving on http://") {
                let address = rest.split(',').next().unwrap_or_default();
                break address.parse().expect("an address");
            }
        };
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(PATIENCE)).build().into();
        Self { child, address, log, written, agent }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns status and body of an answer.
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut response = self.agent.get(self.url(path)).call().expect("an answer");
        let body = response.body_mut().with_config().limit(1 << 28).read_to_vec();
        (response.status().as_u16(), body.expect("a body"))
    }

    /// Returns the JSON of an answer, which must have status 200.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.get(path);
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Returns the only view of an answer.
    #[track_caller]
    pub fn view(&self, path: &str) -> MetricsView {
        let views: Views = self.json(path);
        assert_eq!(views.len(), 1);
        views.into_values().next().expect("a view")
    }

    /// Waits until the whole capture was read and earlier answers have expired.
    pub fn wait_for_end(&self) {
        let started = Instant::now();
        while !self.json::<AppMetrics>("/api/v1/metrics/app").app.capture.finished {
            assert!(started.elapsed() < PATIENCE, "the capture does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Answers can be one second old.
        std::thread::sleep(Duration::from_millis(1_100));
    }

    /// Sends a signal and waits for the end. Returns the exit code, or `None` if the daemon runs
    /// for longer than `patience`, and the log.
    pub fn stop(mut self, name: &str, patience: Duration) -> (Option<i32>, String) {
        signal(&self.child, name);
        let code = wait(&mut self.child, patience);
        drop(self.child.kill());
        let log = std::mem::replace(&mut self.log, std::thread::spawn(|| {}));
        log.join().expect("a log");
        (code, self.log_so_far())
    }

    /// Returns the log so far.
    pub fn log_so_far(&self) -> String {
        self.written.lock().expect("a log").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends each line of a stream to the receiver, and keeps all lines.
fn follow(
    stderr: impl Read + Send + 'static,
) -> (Receiver<String>, Arc<Mutex<String>>, JoinHandle<()>) {
    let (sender, lines) = channel();
    let written: Arc<Mutex<String>> = Arc::default();
    let log = Arc::clone(&written);
    let thread = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            log.lock().expect("a log").extend([line.as_str(), "\n"]);
            // The receiver may be gone.
            drop(sender.send(line));
        }
    });
    (lines, written, thread)
}
