//! Restrictions of the daemon while it watches.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

use pktvisor_common::api::AppMetrics;

use crate::can_run;
use crate::support::capture::Folder;
use crate::support::net::{Pair, sh};
use crate::support::program::{PATIENCE, Server, signal};
use crate::support::tc;

/// Returns a field of the daemon's process status (proc_pid_status(5)).
fn status(server: &Server, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("{field} in {status}")).to_owned()
}

#[test]
fn is_sandboxed_and_reports_it() {
    if !can_run() {
        return;
    }
    for mode in [tc(), "clsact", "libpcap"] {
        let pair = Pair::new(false, 1500);
        let (kept, mask) = match mode {
            "clsact" => (vec!["CAP_NET_ADMIN"], "0000000000001000"),
            "libpcap" => (vec!["CAP_NET_RAW"], "0000000000002000"),
            _ => (Vec::new(), "0000000000000000"),
        };
        let server = Server::start(&["--capture", mode, &pair.interface]);
        for set in ["CapInh", "CapBnd", "CapPrm", "CapEff"] {
            let expected = if matches!(set, "CapInh" | "CapBnd") { &"0".repeat(16) } else { mask };
            assert_eq!(status(&server, set), expected, "{mode}: {set}");
        }
        assert_eq!(
            (status(&server, "NoNewPrivs"), status(&server, "Seccomp")),
            ("1".into(), "2".into())
        );
        // Root has become another user, whose other processes must not read the daemon's memory. If
        // they cannot, the files under /proc belong to root (proc(5)).
        let id = status(&server, "Uid").split_whitespace().next().map(str::to_owned);
        assert_ne!(id.as_deref(), Some("0"));
        let of_process = fs::metadata(format!("/proc/{}/fd", server.child.id())).unwrap();
        assert_eq!(of_process.uid(), 0, "its memory can be read");
        let (_, metrics) = server.get("/metrics");
        assert!(String::from_utf8(metrics).unwrap().contains("\nprocess_open_fds "), "{mode}");
        let app: AppMetrics = server.json("/api/v1/metrics/app");
        let security = app.app.security.expect("it watches an interface");
        assert!(matches!(security.user.as_deref(), Some("pktvisor" | "nobody")));
        assert_eq!(
            (security.capabilities, security.seccomp.as_str()),
            (kept.iter().map(|&c| c.to_owned()).collect(), "on")
        );
        assert!(server.log_so_far().contains("seccomp: on"), "{}", server.log_so_far());
        if mode == tc() {
            let without = Server::start(&[
                "--user",
                "root",
                "--no-sandbox",
                "--capture",
                mode,
                &pair.interface,
            ]);
            assert_eq!(status(&without, "Seccomp"), "0");
            assert!(status(&without, "Uid").starts_with("0\t"), "it stays root");
            let app: AppMetrics = without.json("/api/v1/metrics/app");
            let security = app.app.security.expect("it watches an interface");
            assert_eq!((security.landlock.as_str(), security.seccomp.as_str()), ("off", "off"));
        }
    }
}

#[test]
fn reads_only_files_in_folders_that_it_was_started_with() {
    if !can_run() {
        return;
    }
    let pair = Pair::new(false, 1500);
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let token = format!("token-file = \"{}\"\n", folder.file("current/tokens"));
    let lay = |version: &str, token: &[u8]| {
        fs::create_dir(folder.file(version)).unwrap();
        folder.store(&format!("{version}/tokens"), token);
        symlink(version, folder.file("link")).unwrap();
        fs::rename(folder.file("link"), folder.file("current")).unwrap();
        // The user nobody reads files only with the permissions of others.
        sh(&format!("chmod -R a+rX {}", folder.path().display()));
    };
    lay("1", b"0123456789abcdef\n");
    let file = folder.store("pktvisord.toml", token.as_bytes());
    sh(&format!("chmod a+r {file}"));
    let arguments = ["--config", &file, "--user", "nobody", "--capture", tc(), &pair.interface];
    let server = Server::start(&arguments);
    let app: serde_json::Value = {
        let mut answer = ureq::get(server.url("/api/v1/metrics/app"))
            .header("authorization", "Bearer 0123456789abcdef")
            .call()
            .expect("the token opens");
        serde_json::from_reader(answer.body_mut().as_reader()).expect("JSON")
    };
    let status = |token: &str| {
        let asked =
            ureq::get(server.url("/metrics")).header("authorization", format!("Bearer {token}"));
        match asked.call() {
            Ok(answer) => answer.status().as_u16(),
            Err(ureq::Error::StatusCode(code)) => code,
            Err(error) => panic!("{error}"),
        }
    };
    let wait_for = |what: &str| {
        let started = Instant::now();
        while !server.log_so_far().contains(what) {
            assert!(started.elapsed() < PATIENCE, "{what}: {}", server.log_so_far());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Replace the folder in one step, as tools do that update files atomically.
    lay("2", b"fedcba9876543210\n");
    signal(&server.child, "HUP");
    wait_for("configuration reloaded");
    assert_eq!((status("0123456789abcdef"), status("fedcba9876543210")), (401, 200));
    // A file in another folder.
    let database = elsewhere.store("asn.mmdb", b"no database");
    sh(&format!("chmod -R a+rX {}", elsewhere.path().display()));
    let config = format!("{token}geo-asn = \"{database}\"\n");
    folder.store("pktvisord.toml", config.as_bytes());
    signal(&server.child, "HUP");
    wait_for("keeping the previous configuration");
    let denied = server.log_so_far().contains("files in folders that were not named at the start");
    let landlock = app["app"]["security"]["landlock"].as_str().expect("it says so");
    assert_eq!(denied, landlock != "not supported by this kernel", "{}", server.log_so_far());
}
