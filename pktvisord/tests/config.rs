//! Options come from the command line, the environment, a file and defaults, in this order. The
//! example and the documents list all of them. SIGHUP applies changes.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pktvisord::config::{Config, command, example, table};
use support::capture::{Folder, SECOND, START};
use support::program::{Done, PATIENCE, Server, pktvisord, signal};
use support::traffic::traffic;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs the daemon with these arguments and environment variables.
fn run(args: &[&str], environment: &[(&str, &str)]) -> Done {
    let output =
        pktvisord(args).envs(environment.iter().copied()).output().expect("pktvisord starts");
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Returns the line of `--print-config` for an option, with single spaces.
fn line(done: &Done, key: &str) -> String {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let about = |line: &&str| line.trim_start_matches("# ").split(' ').next() == Some(key);
    let line = done.stdout.lines().find(about).unwrap_or_else(|| panic!("{key}: {}", done.stdout));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn print_config_shows_the_source_of_each_option() {
    let folder = Folder::new();
    let file = "periods = 10\nport = 1\nlisten = \"::1\"\n\nsummary = true\ndns-port = [53, 5353]\n\
                hosts = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nverbose = 2\nadaptive = \"off\"\n";
    let file = folder.store("pktvisord.toml", file.as_bytes());
    let environment =
        [("PKTVISORD_PORT", "2"), ("PKTVISORD_LISTEN", "127.0.0.2"), ("PKTVISORD_STRICT", "yes")];
    let done =
        run(&["--config", &file, "--print-config", "--listen", "127.0.0.3", "-q"], &environment);
    for (key, expected) in [
        ("periods", "periods = 10 # file: line 1"),
        ("port", "port = 2 # environment: PKTVISORD_PORT"),
        ("listen", "listen = \"127.0.0.3\" # command line"),
        ("summary", "summary = true # file: line 5"),
        ("dns-port", "dns-port = [53, 5353] # file: line 6"),
        ("hosts", "hosts = \"192.0.2.0/24,2001:db8::/32\" # file: line 7"),
        ("adaptive", "adaptive = \"off\" # file: line 9"),
        ("strict", "strict = true # environment: PKTVISORD_STRICT"),
        // `-q` conflicts with `verbose`, so the file's `verbose` does not apply.
        ("quiet", "quiet = true # command line"),
        ("verbose", "verbose = 0 # default"),
        ("target", "# target # not set"),
        ("workers", "# workers # not set"),
        ("ring-size", "ring-size = 8 # default"),
    ] {
        assert_eq!(line(&done, key), expected);
    }
    // The output is itself a file with the same values.
    let again = folder.store("again.toml", done.stdout.as_bytes());
    let again = run(&["--config", &again, "--print-config"], &[]);
    let values = |done: &Done| -> Vec<String> {
        let entries = done.stdout.lines().filter_map(|line| line.split("  #").next());
        entries.map(|entry| entry.trim().to_owned()).filter(|e| !e.starts_with('#')).collect()
    };
    assert_eq!(values(&done), values(&again), "{}{}", again.stdout, again.stderr);
    // In the environment, a flag that is off overrides the file, an empty value counts as not set,
    // and commas separate list items.
    let environment = [
        ("PKTVISORD_SUMMARY", "off"),
        ("PKTVISORD_QUIET", "false"),
        ("PKTVISORD_PORT", ""),
        ("PKTVISORD_DNS_PORT", "53,5300"),
    ];
    let done = run(&["--config", &file, "--print-config"], &environment);
    for (key, expected) in [
        ("summary", "summary = false # environment: PKTVISORD_SUMMARY"),
        ("quiet", "quiet = false # environment: PKTVISORD_QUIET"),
        ("verbose", "verbose = 2 # file: line 8"),
        ("port", "port = 1 # file: line 2"),
        ("dns-port", "dns-port = [53, 5300] # environment: PKTVISORD_DNS_PORT"),
    ] {
        assert_eq!(line(&done, key), expected);
    }
    // The environment can name the file.
    let done = run(&["--print-config"], &[("PKTVISORD_CONFIG", &file)]);
    assert_eq!(line(&done, "periods"), "periods = 10 # file: line 1");
}

#[test]
fn tables_are_equivalent_to_top_level_options() {
    let folder = Folder::new();
    let file = "strict = true\n[[input]]\ntarget = \"any\"\nfilter = \"udp\"\n\n[policy.default]\nperiods = 10\n\
                [process]\nworkers = 2\n[serve]\nport = 1\n[report]\npretty = true\n[log]\nverbose = 1\n";
    let file = folder.store("pktvisord.toml", file.as_bytes());
    let done = run(&["--config", &file, "--print-config", "--port", "3"], &[]);
    for (key, expected) in [
        ("strict", "strict = true # file: line 1"),
        ("target", "target = \"any\" # file: line 3"),
        ("filter", "filter = \"udp\" # file: line 4"),
        ("periods", "periods = 10 # file: line 7"),
        ("workers", "workers = 2 # file: line 9"),
        ("port", "port = 3 # command line"),
        ("pretty", "pretty = true # file: line 13"),
        ("verbose", "verbose = 1 # file: line 15"),
    ] {
        assert_eq!(line(&done, key), expected);
    }
}

#[test]
fn errors_in_the_environment_name_the_variable() {
    for (variable, value, expected) in [
        ("PKTVISORD_PORT", "tcp://10.0.0.1:10853", "PKTVISORD_PORT: invalid value 'tcp://10.0.0.1"),
        ("PKTVISORD_SUMMARY", "maybe", "PKTVISORD_SUMMARY: invalid value 'maybe' for '--summary'"),
        ("PKTVISORD_MASK_IP", "33/48", "PKTVISORD_MASK_IP: invalid value '33/48'"),
    ] {
        let done = run(&["--check-config"], &[(variable, value)]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{variable}");
        let expected = format!("error: {expected}");
        assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
    }
    // If two options conflict, the error names the variable of the environment.
    for (variable, argument) in [("PKTVISORD_QUIET", "-v"), ("PKTVISORD_VERBOSE", "-q")] {
        let done = run(&["--check-config", argument], &[(variable, "1")]);
        let expected = format!("error: {variable}: the argument '--");
        assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
    }
    // A path need not be UTF-8.
    let not_text = OsStr::from_bytes(b"/no/such/\xff");
    let mut command = pktvisord(&["--check-config"]);
    let output = command.env("PKTVISORD_TOKEN_FILE", not_text).output().expect("pktvisord starts");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // Errors of arguments do not mention the environment.
    let done = run(&["--check-config", "--port", "x"], &[("PKTVISORD_PERIODS", "7")]);
    assert!(done.stderr.starts_with("error: invalid value 'x' for '--port"), "{}", done.stderr);
    // A variable with the prefix is an option, or the daemon warns. Variables of Kubernetes are
    // exempt.
    let kubernetes = [("PKTVISORD_SERVICE_HOST", "10.0.0.1"), ("PKTVISORD_PORT_80_TCP", "x")];
    let done = run(&["--check-config"], &kubernetes);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let done = run(&["--check-config"], &[("PKTVISORD_PERIDOS", "7")]);
    assert_eq!(done.code, Some(0));
    let expected = "ignoring PKTVISORD_PERIDOS: unknown option `peridos`: did you mean `periods`?";
    assert!(done.stderr.contains(expected), "{}", done.stderr);
}

#[test]
fn errors_in_a_file_name_the_line() {
    let folder = Folder::new();
    for (text, expected) in [
        ("periodz = 5", "1: unknown option `periodz`: did you mean `periods`?"),
        ("\n# a\ngeo_city = \"x\"", "3: unknown option `geo_city`: did you mean `geo-city`?"),
        ("zzz = 1", "1: unknown option `zzz`: `pktvisord --print-config` lists all options"),
        ("config = \"x\"", "1: unknown option `config`"),
        ("check-config = true", "1: unknown option `check-config`"),
        ("port = 1\nperiods = 0", "2: invalid value '0' for '--periods <P>'"),
        ("dns-port = [53, 70000]", "1: invalid value '70000' for '--dns-port <PORT>'"),
        ("summary = 1", "1: `summary` must be true or false"),
        ("verbose = 1000", "1: `verbose` must be from 0 to 255"),
        ("verbose = -1", "1: `verbose` must be from 0 to 255"),
        ("periods = 1979-05-27", "1: `periods` must be a string, a number or a list of these"),
        ("port = 1\nport = 2", "2: duplicate key"),
        ("[section]\nport = 1", "1: unknown option `section`"),
        (
            "[serve]\nlisten = \"::1\"\nprot = 1",
            "3: [serve]: unknown option `prot`: did you mean `port`?",
        ),
        ("[serve]\nfilter = \"udp\"", "2: [serve]: unknown option `filter`"),
        ("[serve]\nport = 70000", "2: invalid value '70000' for '--port <PORT>'"),
        ("serve = 1", "1: expected exactly one table of options, [serve]"),
        ("[input]\nfilter = \"udp\"", "1: expected exactly one table of options, [[input]]"),
        ("[[input]]\n[[input]]", "1: expected exactly one table of options, [[input]]"),
        ("[policy.strict]\nperiods = 1", "1: unknown policy `strict`: `default` is the only one"),
        ("policy = 1", "1: expected exactly one table of options, [policy.default]"),
        ("[policy]\ndefault = 1", "2: expected exactly one table of options, [policy.default]"),
        ("port = 1\n\n[serve]\nport = 2", "4: `port` is already set on line 1"),
        ("x = ", "1: "),
        ("target = \"\"", "1: `target` is empty"),
        ("target = \"-q\"", "1: invalid target `-q`: it starts with `-`"),
    ] {
        let file = folder.store("wrong.toml", text.as_bytes());
        let done = run(&["--config", &file, "--check-config"], &[]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{text}");
        let expected = format!("error: {file}:{expected}");
        assert!(done.stderr.starts_with(&expected), "{text}: {}", done.stderr);
    }
    let missing = run(&["--config", &folder.file("missing.toml"), "--check-config"], &[]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.starts_with("error: cannot read the configuration file "));
    // Entries that conflict.
    let file = folder.store("wrong.toml", b"verbose = 1\nperiods = 3\nquiet = true\n");
    let done = run(&["--config", &file, "--check-config"], &[]);
    assert_eq!(done.code, Some(2));
    let expected = format!("error: {file}:3: the argument '--");
    assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
    // A valid file that names a missing file.
    let file = folder.store("geo.toml", b"geo-asn = \"/no/such/file\"");
    let done = run(&["--config", &file, "--check-config"], &[]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    for (wrong, said) in [
        (&["-b", "prot 53"][..], "invalid filter `prot 53`"),
        (&["-l", "0.0.0.0"], "refusing to listen on 0.0.0.0:10853 without authentication"),
        (&["--capture", "tc", "-b", "udp"], "eBPF capture does not support a filter (-b)"),
        (&["--user", "no-such-user"], "--user no-such-user: "),
        (&["--tls-cert", "/no/such/file"], "--tls-cert requires --tls-key"),
    ] {
        let done = run(&[&["--check-config"], wrong].concat(), &[]);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
    }
}

#[test]
fn no_file_causes_a_panic() {
    use proptest::prelude::*;
    let folder = Folder::new();
    let keys: Vec<String> = command().get_arguments().map(|arg| arg.get_id().to_string()).collect();
    let key = prop_oneof![
        prop::sample::select(keys).prop_map(|key| key.replace('_', "-")),
        "[a-z\"= ]{0,9}"
    ];
    let value = prop_oneof![
        "-?[0-9]{1,25}",
        "[0-9.e+-]{1,8}",
        "\"[^\"\\\\]{0,9}\"",
        "(?s).{0,12}",
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("[[1],{}]".to_owned())
    ];
    let headers = ["", "[serve]", "[[input]]", "[input]", "[policy]", "[policy.default]", "[log"];
    let header = prop::sample::select(headers.to_vec());
    let file = prop::collection::vec((header, key, value), 0..4);
    proptest!(|(entries in file)| {
        let lines: Vec<String> =
            entries.iter().map(|(header, key, value)| format!("{header}\n{key} = {value}")).collect();
        let text = lines.join("\n");
        let file = folder.store("any.toml", text.as_bytes());
        let arguments = ["pktvisord", "--config", &file, "--check-config"];
        let _ = Config::load(arguments.map(Into::into).to_vec());
    });
}

/// Compares a document with its generated content. Writes the document if `UPDATE_DOCS` is set.
fn held(path: &str, before: &str, generated: &str, after: &str) {
    let path = root().join(path);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let (head, tail) = match (text.split_once(before), after) {
        (Some((head, rest)), "") => (head, rest.get(rest.len()..).unwrap_or_default()),
        (Some((head, rest)), after) => (head, rest.split_once(after).expect("the end").1),
        (None, _) => ("", ""),
    };
    let expected = format!("{head}{before}{generated}{after}{tail}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("a document");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == expected,
        "{} is not what the options are; look at the difference after \
         `UPDATE_DOCS=1 cargo test -p pktvisord --test config`",
        path.display()
    );
}

#[test]
fn example_has_all_options_and_each_is_valid() {
    held("docs/pktvisord.toml", "", &example(), "");
    let folder = Folder::new();
    let mut entries = 0;
    let mut table = String::new();
    for entry in example().lines().filter_map(|line| line.strip_prefix('#')) {
        if entry.starts_with(' ') {
            continue;
        }
        if entry.starts_with('[') {
            entry.clone_into(&mut table);
            continue;
        }
        // `--print-config` does not look for files and users, which may be missing here.
        let file = folder.store("one.toml", format!("{table}\n{entry}").as_bytes());
        let done = run(&["--config", &file, "--print-config"], &[]);
        assert_eq!(done.code, Some(0), "{entry}: {}", done.stderr);
        entries += 1;
    }
    assert!(entries > 20);
}

#[test]
fn table_in_documents_has_all_options() {
    let (before, after) = ("<!-- options: generated -->\n\n", "\n<!-- options: end -->");
    held("docs/CONFIGURATION.md", before, &table(), after);
}

/// Waits until the log of a server contains this text.
fn wait_for(server: &Server, what: &str) {
    let started = Instant::now();
    while !server.log_so_far().contains(what) {
        assert!(started.elapsed() < PATIENCE, "{what}: {}", server.log_so_far());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn single_summary_remembers_other_ports() {
    let folder = Folder::new();
    // Two minutes, so that the newest one is not the one in which the summary starts.
    let capture = folder.store("a.pcap", &traffic(1, 2_000, START, 100 * SECOND).capture.pcap());
    let file = folder.store("pktvisord.toml", b"");
    let server = Server::start(&["--config", &file, "--summary", "--replay=max", &capture]);
    server.wait_for_end();
    assert_eq!(server.get("/api/v1/state/bucket/0").0, 200);
    folder.store("pktvisord.toml", b"dns-port = 5300\n");
    signal(&server.child, "HUP");
    wait_for(&server, "configuration reloaded");
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(server.get("/api/v1/state/bucket/0").0, 404);
}

#[test]
fn sighup_applies_all_changes_or_none() {
    let folder = Folder::new();
    let capture = folder.store("a.pcap", &traffic(1, 2_000, START, 2 * SECOND).capture.pcap());
    let file = folder.store("pktvisord.toml", b"max-deep-sample = 100\nperiods = 5\n");
    let server = Server::start(&["--config", &file, "--replay=max", &capture]);
    server.wait_for_end();
    let percent = || {
        let app: serde_json::Value = server.json("/api/v1/metrics/app");
        app["app"]["deep_sample_rate_pct"].as_u64().expect("a number")
    };
    assert_eq!(percent(), 100);
    folder.store("pktvisord.toml", b"max-deep-sample = 25\nperiods = 9\nfilter = \"udp\"\n");
    signal(&server.child, "HUP");
    wait_for(&server, "configuration reloaded");
    let log = server.log_so_far();
    assert!(log.contains("max-deep-sample: 100 -> 25\n"), "{log}");
    assert!(log.contains("periods: 5 -> 9 needs a restart; "), "{log}");
    assert!(log.contains("filter: not set -> \"udp\" needs a restart; "), "{log}");
    assert_eq!(percent(), 25);
    // A minute counted with other ports than the current ones cannot be merged.
    let state = || ureq::get(server.url("/api/v1/state/bucket/0")).call();
    assert!(state().is_ok(), "{:?}", state());
    folder.store("pktvisord.toml", b"max-deep-sample = 25\ndns-port = 5300\n");
    signal(&server.child, "HUP");
    wait_for(&server, "dns-port: not set -> [5300]\n");
    // The previous answer can be one second old.
    std::thread::sleep(Duration::from_millis(1_100));
    assert!(matches!(state(), Err(ureq::Error::StatusCode(404))), "{:?}", state());
    // One error anywhere keeps the whole previous configuration.
    for (wrong, said) in [
        ("periodz = 1", "pktvisord.toml:2: unknown option `periodz`"),
        ("geo-asn = \"/x\"", "cannot use the ASN database /x"),
        ("filter = \"prot 53\"", "invalid filter `prot 53`"),
        ("verbose = 1\nquiet = true", "cannot be used with"),
    ] {
        folder.store("pktvisord.toml", format!("max-deep-sample = 50\n{wrong}\n").as_bytes());
        signal(&server.child, "HUP");
        wait_for(&server, said);
    }
    assert_eq!(percent(), 25);
    fs::remove_file(folder.file("pktvisord.toml")).expect("the file");
    signal(&server.child, "HUP");
    wait_for(&server, "keeping the previous configuration: cannot read the configuration file");
    assert_eq!(percent(), 25);
    let (code, _) = server.stop("TERM", PATIENCE);
    assert_eq!(code, Some(0));
}
