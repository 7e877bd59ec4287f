//! The dashboard program in a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use tempfile::TempDir;

use crate::support::{self, serve, serve_at};

/// Maximum time that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pseudo-terminal that runs the program.
struct Terminal {
    child: Child,
    master: File,
    /// The program's side, kept open to check its modes at the end.
    slave: File,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(args: &[&str], columns: u16, lines: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(open(&path, flags, Mode::empty()).unwrap());
        let master = File::from(master);
        resize(&master, columns, lines);
        let before = tcgetattr(&slave).unwrap();
        // The terminal must control a session, so that the program learns about its size.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(support::program())
            .args(args)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(lines, columns, 0)));
        let (mut output, parser) = (master.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A read error means that the terminal was closed.
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                parser.lock().unwrap().process(&bytes[..n]);
            }
        });
        Self { child, master, slave, before, screen }
    }

    fn contents(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let started = Instant::now();
        while !self.contents().contains(text) {
            assert!(started.elapsed() < PATIENCE, "no {text:?} in\n{}", self.contents());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, columns: u16, lines: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(lines, columns);
        resize(&self.master, columns, lines);
    }

    /// Waits for the end and checks that the terminal was restored. Returns the exit code.
    fn end(&mut self) -> Option<i32> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        std::thread::sleep(Duration::from_millis(100));
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        let after = tcgetattr(&self.slave).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It is still running if the test has failed.
        let _ = self.child.kill();
    }
}

fn resize(master: impl AsFd, columns: u16, lines: u16) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

#[test]
fn handles_keys_and_resizes_and_restores_the_terminal() {
    let server = serve();
    let mut terminal = Terminal::start(&[&server.address.to_string()], 80, 24);
    terminal.wait_for("● live");
    terminal.wait_for("Packets 3,006");
    assert!(terminal.screen.lock().unwrap().screen().alternate_screen());
    terminal.press("\t");
    terminal.wait_for("Messages 0");
    terminal.press("?");
    terminal.wait_for("any key closes");
    terminal.press("x1");
    terminal.wait_for("last minute");
    terminal.press("\t");
    terminal.wait_for("Packets 1,001");
    terminal.resize(30, 5);
    terminal.wait_for("40×10 needed");
    terminal.resize(120, 40);
    terminal.wait_for("Bytes by address");
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn ends_on_sigterm() {
    let server = serve();
    let mut terminal = Terminal::start(&[&server.address.to_string()], 80, 24);
    terminal.wait_for("● live");
    kill_process(Pid::from_child(&terminal.child), Signal::TERM).unwrap();
    assert_eq!(terminal.end(), Some(0));
}

/// Starts a daemon process that replays a capture of ten packets each second.
fn replay(folder: &TempDir, port: u16) -> Child {
    let capture = folder.path().join("sample.pcap");
    std::fs::write(&capture, support::capture(1_800)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_pktvisord"))
        .args(["--replay", "--quiet", "-l", "127.0.0.1", "-p", &port.to_string()])
        .arg(&capture)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn survives_restart_of_the_daemon() {
    let folder = TempDir::new().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut daemon = replay(&folder, address.port());
    let args = ["--interval", "0.2", &address.to_string()];
    let mut terminal = Terminal::start(&args, 120, 40);
    terminal.wait_for("● live");
    terminal.wait_for("file");
    // The replay continues with ten packets each second.
    for packets in ["Packets 1", "Packets 2", "Packets 3"] {
        terminal.wait_for(packets);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    terminal.wait_for("stale for");
    // The last answer stays visible.
    terminal.wait_for("sample.pcap");
    let mut daemon = replay(&folder, address.port());
    terminal.wait_for("● live");
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn waits_for_a_daemon() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut terminal = Terminal::start(&["--interval", "0.2", &address.to_string()], 80, 24);
    terminal.wait_for("refused the connection");
    let _server = serve_at(address);
    terminal.wait_for("● live");
    terminal.press("\x03");
    assert_eq!(terminal.end(), Some(0));
}
