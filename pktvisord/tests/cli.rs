//! Output of the command line: help, versions, errors and warnings, with exit codes.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use support::capture::{Capture, Folder, SECOND, START};
use support::dns::{A, Message};
use support::frame::{Flow, ethernet, udp};
use support::program::pktvisord;
use support::tool::skipped;

/// Returns a capture with one query in each of this many minutes.
fn queries(minutes: i64) -> Capture {
    let flow = Flow::new("198.51.100.7".parse().unwrap(), 4000, "192.0.2.1".parse().unwrap(), 53);
    let mut capture = Capture::default();
    for minute in 0..minutes {
        let query = Message::query(minute as u16, "www.example.com", A);
        capture.push(START + minute * 60 * SECOND, ethernet(&udp(&flow, &query.octets())));
    }
    capture
}

/// Returns a folder with a good capture, a truncated one, a long one, and files that are not
/// captures.
fn files() -> Folder {
    let folder = Folder::new();
    let capture = queries(3).pcap();
    folder.store("good.pcap", &capture);
    folder.store("cut.pcap", &capture[..capture.len() - 7]);
    folder.store("long.pcap", &queries(8).pcap());
    folder.store("garbage", b"Sir, I have a bicycle to sell, and no packets.");
    folder.store("empty", b"");
    fs::create_dir(folder.path().join("folder")).unwrap();
    folder
}

/// Returns the command with its exit code and standard error. Spaces separate `args`; `^` stands
/// for a space within one.
fn told(folder: &Path, args: &str) -> String {
    let list: Vec<String> = args.split_whitespace().map(|arg| arg.replace('^', " ")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let output = pktvisord(&list).current_dir(folder).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap();
    let printed = if output.stdout.is_empty() { "" } else { ", a summary" };
    let args = args.replace('^', " ");
    let command = format!("pktvisord {args}");
    format!("$ {}\n{}→ {code}{printed}\n\n", command.trim_end(), machine_redacted(&stderr))
}

/// Removes names of interfaces, which differ by machine.
fn machine_redacted(stderr: &str) -> String {
    let redacted = stderr.lines().map(|line| {
        let list = ["nor an interface; interfaces: ", "has this address; interfaces: "];
        let known = list.iter().find_map(|before| line.split_once(before).map(|at| (at.0, before)));
        match known {
            Some((start, before)) => format!("{start}{before}[INTERFACES]\n"),
            None => format!("{line}\n"),
        }
    });
    redacted.collect()
}

fn transcript(folder: &Folder, commands: &[&str]) -> String {
    commands.iter().map(|args| told(folder.path(), args)).collect()
}

#[test]
fn help_and_version() {
    let stdout = |args: &[&str]| {
        let output = pktvisord(args).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    };
    insta::assert_snapshot!("help", stdout(&["--help"]));
    insta::assert_snapshot!("help_in_short", stdout(&["-h"]));
    let version = stdout(&["--version"]);
    let version = version.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    insta::assert_snapshot!("version", version);
}

#[test]
fn wrong_arguments() {
    let commands = [
        "",
        "--bogus good.pcap",
        "good.pcap another.pcap",
        "-v -q good.pcap",
        "-H 192.0.2.0/33 good.pcap",
        "-H 2001:db8::/129 good.pcap",
        "-H 192.0.2 good.pcap",
        "-H 192.0.2.1,, good.pcap",
        "-b udp^port^dns^or^bogus good.pcap",
        "-p 65536 good.pcap",
        "--periods 0 good.pcap",
        "--periods 1441 good.pcap",
        "--max-deep-sample 101 good.pcap",
        "--workers 0 good.pcap",
        "--workers 17 good.pcap",
        "--dns-port 0 good.pcap",
        "--dns-timeout 0 good.pcap",
        "--dns-timeout NaN good.pcap",
        "--replay=0 good.pcap",
        "--replay=NaN good.pcap",
        "--replay=fast good.pcap",
        "--format xml good.pcap",
    ];
    insta::assert_snapshot!("wrong_arguments", transcript(&files(), &commands));
}

#[test]
fn targets_that_cannot_be_summarized() {
    let commands = [
        "absent.pcap",
        "folder",
        "garbage",
        "empty",
        "-",
        "eth99",
        "203.0.113.77",
        "lo,eth99",
        "--replay lo",
        "--capture tcx -b udp lo",
        "--capture libpcap -b nonsense lo",
    ];
    insta::assert_snapshot!("targets", transcript(&files(), &commands));
}

#[test]
fn outputs_that_cannot_be_written() {
    let commands = ["-o absent/summary.json good.pcap", "-o folder good.pcap"];
    insta::assert_snapshot!("outputs", transcript(&files(), &commands));
}

#[test]
fn addresses_that_cannot_be_listened_on() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = files();
    let command = format!("-H 192.0.2.1 --replay -l 127.0.0.1 -p {port} good.pcap");
    let told = told(folder.path(), &command).replace(&port, "[PORT]")
        + &transcript(&folder, &["-H 192.0.2.1 --replay -l 203.0.113.77 good.pcap"]);
    insta::assert_snapshot!("addresses", told);
}

#[test]
fn captures_that_are_not_summarized_whole() {
    let commands = [
        "good.pcap",
        "-v good.pcap",
        "-v -b tcp good.pcap",
        "cut.pcap",
        "-q cut.pcap",
        "--strict cut.pcap",
        "long.pcap",
        "--periods 7 long.pcap",
        "--periods 8 long.pcap",
        "--summary long.pcap",
    ];
    insta::assert_snapshot!("captures", transcript(&files(), &commands));
}

#[test]
fn databases_that_cannot_be_used() {
    let folder = files();
    let commands = [
        "--geo-city absent.mmdb good.pcap",
        "--geo-asn absent.mmdb good.pcap",
        "--geo-city garbage good.pcap",
        "--geo-asn good.pcap good.pcap",
        "--geo-city folder good.pcap",
    ];
    insta::assert_snapshot!("databases", transcript(&folder, &commands));
}

#[test]
fn databases_of_the_wrong_type_or_corrupt() {
    let Some(captures) = std::env::var_os("PKTVISOR_CAPTURES").map(PathBuf::from) else {
        return skipped("PKTVISOR_CAPTURES does not name a folder with ../geo beside it");
    };
    let folder = files();
    for (name, file) in
        [("city.mmdb", "GeoIP2-City-Test.mmdb"), ("isp.mmdb", "GeoIP2-ISP-Test.mmdb")]
    {
        match fs::read(captures.join("../geo").join(file)) {
            Ok(bytes) => folder.store(name, &bytes),
            Err(error) => return skipped(&format!("there is no {file}: {error}")),
        };
    }
    let commands = ["--geo-city isp.mmdb good.pcap", "--geo-asn city.mmdb good.pcap"];
    insta::assert_snapshot!("databases_of_the_wrong_type", transcript(&folder, &commands));
    // Wherever a database is damaged, the daemon either rejects it or serves with it.
    let database = fs::read(folder.path().join("city.mmdb")).unwrap();
    let mut refused = 0;
    for part in 0..24 {
        let mut damaged = database.clone();
        let at = database.len() * part / 24;
        damaged[at..(at + 64).min(database.len())].fill(0xff);
        folder.store("damaged.mmdb", &damaged);
        let told = told(folder.path(), "--geo-city damaged.mmdb good.pcap");
        let refusal = "ERROR cannot use the city database damaged.mmdb: ";
        if told.ends_with("→ 3\n\n") && told.contains(refusal) {
            refused += 1;
        } else {
            assert!(told.ends_with("→ 0, a summary\n\n"), "damaged at {at}: {told}");
        }
    }
    assert!(refused > 0);
}
