//! The program in a terminal, as its user has it.

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

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with the program in it.
struct Terminal {
    child: Child,
    master: File,
    /// The program's side, kept open so that it can be looked at afterwards.
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
        // The terminal has to be that of a session, which is told of its size.
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
            // An error is the end of the terminal.
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

    /// Waits for the end. Returns the exit code; the terminal is as it was.
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
        // Where a test has failed it is running still.
        let _ = self.child.kill();
    }
}

fn resize(master: impl AsFd, columns: u16, lines: u16) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

#[test]
fn it_starts_obeys_and_gives_the_terminal_back() {
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
fn a_signal_ends_it() {
    let server = serve();
    let mut terminal = Terminal::start(&[&server.address.to_string()], 80, 24);
    terminal.wait_for("● live");
    kill_process(Pid::from_child(&terminal.child), Signal::TERM).unwrap();
    assert_eq!(terminal.end(), Some(0));
}

/// A daemon that replays a capture of ten packets a second, as a process of its own.
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
fn a_daemon_that_is_killed_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut daemon = replay(&folder, address.port());
    let args = ["--interval", "0.2", &address.to_string()];
    let mut terminal = Terminal::start(&args, 120, 40);
    terminal.wait_for("● live");
    terminal.wait_for("file");
    // It goes on: ten packets a second.
    for packets in ["Packets 1", "Packets 2", "Packets 3"] {
        terminal.wait_for(packets);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    terminal.wait_for("stale for");
    // What was known stays.
    terminal.wait_for("sample.pcap");
    let mut daemon = replay(&folder, address.port());
    terminal.wait_for("● live");
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn without_a_daemon_it_waits() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut terminal = Terminal::start(&["--interval", "0.2", &address.to_string()], 80, 24);
    terminal.wait_for("refused the connection");
    let _server = serve_at(address);
    terminal.wait_for("● live");
    terminal.press("\x03");
    assert_eq!(terminal.end(), Some(0));
}
