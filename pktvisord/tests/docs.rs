//! Checks the documents against the code: options, routes, commands, fields and reasons of losses.
//! Runs the commands of the README.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser as _;
use pktvisor_common::loss::Loss;
use pktvisor_common::summary::Summary;
use pktvisor_common::summary::counters::Counters;
use pktvisord::cli::{Cli, exit};
use serde_json::Value;
use support::capture::{Folder, SECOND, START};
use support::program::{PATIENCE, Server, pktvisord, run};
use support::traffic::traffic;

/// Documents that are written by hand.
const DOCUMENTS: [&str; 12] = [
    "README.md",
    "CHANGELOG.md",
    "docs/API.md",
    "docs/ARCHITECTURE.md",
    "docs/CONFIGURATION.md",
    "docs/METRICS.md",
    "docs/OPERATIONS.md",
    "docs/PERFORMANCE.md",
    "docs/SECURITY.md",
    "docs/STATE.md",
    "docs/TESTING.md",
    "docs/FLEET.md",
];
/// Routes that are missing in the OpenAPI document, because they serve it.
const UNDOCUMENTED: [&str; 3] = ["/", "/api/v1/openapi.json", "/docs"];
/// The capture that the README creates.
const SAMPLE: &str = "sample.pcap";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the texts between backquotes. `text` has no code blocks.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns a document without its code blocks.
fn prose(path: &str) -> String {
    text(path).split("```").step_by(2).collect()
}

/// Returns the lines of all code blocks of a kind.
fn blocks(path: &str, kind: &str) -> Vec<String> {
    let document = text(path);
    let blocks = document.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix(kind))
        .flat_map(str::lines)
        .map(str::to_owned)
        .collect()
}

/// Returns the words that follow `before` in a text.
fn words_after<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    text.split(before)
        .skip(1)
        .map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn describes_exactly_the_existing_options() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0), "{}", help.stderr);
    let aliases = help.stdout.split("[alias: ").skip(1).filter_map(|rest| rest.split(']').next());
    // An option starts its line, indented by six columns if it has no short form.
    let options: BTreeSet<&str> = help
        .stdout
        .lines()
        .filter(|line| line.find('-').is_some_and(|at| at <= 6 && line[..at].trim().is_empty()))
        .flat_map(|line| line.split([' ', ',', '[', '.']).filter(|word| word.starts_with('-')))
        .filter(|word| word.len() > 1)
        .chain(aliases)
        .collect();
    assert!(options.len() > 20, "{options:?}");

    let configuration = text("docs/CONFIGURATION.md");
    let headings = configuration.lines().filter(|line| line.starts_with("### "));
    let described: BTreeSet<&str> = headings.flat_map(codes).collect();
    assert_eq!(described, options, "docs/CONFIGURATION.md and --help");

    let readme = prose("README.md");
    let used = readme.lines().filter(|line| line.starts_with("| `-")).flat_map(codes);
    for option in used.filter_map(|code| code.split([' ', '[']).next()) {
        assert!(!option.starts_with('-') || options.contains(option), "README.md: {option}");
    }
}

#[test]
fn describes_exactly_the_existing_exit_codes() {
    let codes =
        [exit::OK, exit::FAILURE, exit::USAGE, exit::INPUT, exit::OUTPUT, exit::INTERRUPTED];
    let configuration = text("docs/CONFIGURATION.md");
    let described: Vec<u8> = configuration
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok())
        .collect();
    assert_eq!(described, codes);
}

#[test]
fn describes_exactly_the_existing_routes() {
    let document: Value = serde_json::from_str(&text("docs/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let served: BTreeSet<&str> = paths.keys().map(String::as_str).chain(UNDOCUMENTED).collect();
    for path in ["docs/API.md", "README.md"] {
        let described = prose(path);
        let described: BTreeSet<&str> =
            codes(&described).filter_map(|code| code.strip_prefix("GET ")).collect();
        assert_eq!(described, served, "{path}");
    }
}

/// Returns the commands of `cargo xtask`, from the enum that parses its arguments.
fn xtask_commands() -> BTreeSet<String> {
    let source = text("xtask/src/main.rs");
    let (_, list) = source.split_once("enum Command {").expect("the list of commands");
    let (list, _) = list.split_once("\n}").expect("its end");
    let mut renamed = None;
    let mut commands = BTreeSet::new();
    for line in list.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("#[command(name = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if line.starts_with(|c: char| c.is_ascii_uppercase()) {
            let variant = line.split(['(', ',']).next().expect("a name");
            let mut kebab = String::new();
            for c in variant.chars() {
                if c.is_ascii_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.push(c.to_ascii_lowercase());
            }
            commands.insert(renamed.take().unwrap_or(kebab));
        }
    }
    commands
}

#[test]
fn documents_exactly_the_existing_xtask_commands() {
    let commands = xtask_commands();
    let commands: BTreeSet<&str> = commands.iter().map(String::as_str).collect();
    let readme = text("README.md");
    assert_eq!(words_after(&readme, "cargo xtask "), commands, "README.md");
    for path in DOCUMENTS {
        let document = text(path);
        for command in words_after(&document, "cargo xtask ") {
            assert!(commands.contains(command), "{path}: cargo xtask {command}");
        }
    }
}

#[test]
fn commands_of_the_readme_run() {
    let folder = Folder::new();
    folder.store(SAMPLE, &traffic(1, 2_000, START, 2 * SECOND).capture.pcap());
    let mut served: Option<Server> = None;
    let mut ran = 0;
    for line in blocks("README.md", "console") {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            // The command that creates the capture, which exists here, and a command that other
            // tests run.
            ["cargo", "xtask", "gen", _, SAMPLE, "--packets", _]
            | ["cargo", "run", .., "-p", "pktvisor-tui"] => continue,
            ["cargo", "xtask", "run", "--", args @ ..] | ["pktvisord", args @ ..] => {
                let all = [&["pktvisord"], args].concat();
                let cli =
                    Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{line}: {error}"));
                if cli.model.input.replay.is_some() {
                    let sample = folder.file(SAMPLE);
                    let replace = |arg| if arg == SAMPLE { sample.as_str() } else { arg };
                    let args: Vec<&str> = args.iter().copied().map(replace).collect();
                    served = Some(Server::start(&args));
                } else {
                    let output = pktvisord(args).current_dir(folder.path()).output();
                    let output = output.expect("pktvisord starts");
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    assert_eq!(output.status.code(), Some(0), "{line}: {stderr}");
                }
            }
            ["curl", "-s", url] => {
                let path = url.strip_prefix("localhost:10853").expect("the default address");
                let server = served.as_ref().expect("a command that serves before it");
                let started = Instant::now();
                // The first packet may not have been read yet.
                while server.get(path).0 != 200 {
                    assert!(started.elapsed() < PATIENCE, "{line}");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            _ => panic!("README.md has a command that this test does not know: {line}"),
        }
        ran += 1;
    }
    assert!(ran >= 4, "{ran} commands");
}

/// Returns the fields of a structure in order.
fn fields(path: &str, structure: &str) -> Vec<String> {
    let source = text(path);
    let starts = [format!("struct {structure} {{\n"), format!("struct {structure}<L> {{\n")];
    let body = starts.iter().find_map(|start| source.split_once(start.as_str()));
    let (_, body) = body.unwrap_or_else(|| panic!("{path} has no structure {structure}"));
    let (body, _) = body.split_once("\n}").expect("its end");
    let mut skip = false;
    let mut fields = Vec::new();
    for line in body.lines().map(str::trim) {
        if line.starts_with("#[serde(skip") {
            skip = true;
        } else if !line.starts_with(['/', '#'])
            && let Some((name, _)) = line.split_once(": ")
            && !std::mem::take(&mut skip)
        {
            fields.push(name.trim_start_matches("pub ").to_owned());
        }
    }
    fields
}

/// Returns the fields of a structure in docs/STATE.md, in order.
fn described_fields(state: &str, structure: &str) -> Vec<String> {
    let heading = format!("\n### `{structure}`\n");
    let (_, section) = state.split_once(&heading).unwrap_or_else(|| panic!("no {structure}"));
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn byte_form_has_the_documented_fields() {
    let state = text("docs/STATE.md");
    for (structure, path, name) in [
        ("Terms", "summary/state.rs", "Terms"),
        ("Period", "summary/state.rs", "Period"),
        ("PacketSketches", "summary/packets.rs", "PacketSketches"),
        ("Rates", "summary/rates.rs", "Rates"),
        ("Second", "summary/rates.rs", "Second"),
        ("DnsSummary", "summary/dns.rs", "DnsSummary"),
        ("Xact", "summary/dns.rs", "Xact"),
        ("XactDirection", "summary/dns.rs", "XactDirection"),
        ("Top", "sketch/top.rs", "State"),
        ("Class", "sketch/latency.rs", "Class"),
    ] {
        let fields = fields(&format!("pktvisor-common/src/{path}"), name);
        assert!(!fields.is_empty(), "{structure}");
        assert_eq!(described_fields(&state, structure), fields, "{structure}");
    }
    let mut summary = Summary::default();
    let counters: BTreeSet<&str> = summary.counters().into_iter().map(|(name, _)| name).collect();
    let (_, table) = state.split_once("\n### Counters\n").expect("the section");
    let described = table.split("\n#").next().unwrap_or_default().lines();
    let described: BTreeSet<&str> = described
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next())
        .flat_map(codes)
        .collect();
    assert_eq!(described, counters);
    let version = pktvisor_common::summary::state::VERSION;
    assert!(state.contains(&format!("| 4–5 | version, big-endian: {version} |")));
}

#[test]
fn describes_exactly_the_existing_loss_reasons() {
    let counted: BTreeSet<&str> = Loss::ALL.into_iter().map(Loss::name).collect();
    let architecture = prose("docs/ARCHITECTURE.md");
    let (_, bounds) = architecture.split_once("## Bounds of memory").expect("the section");
    let described: BTreeSet<&str> = codes(bounds)
        .filter(|code| {
            let kinds = [
                "dns_",
                "tcp_",
                "fragments_",
                "xact_",
                "ring_full_",
                "kernel_",
                "if_",
                "not_",
                "left_",
            ];
            kinds.iter().any(|kind| code.starts_with(kind))
        })
        .filter(|&code| code != "tcp_")
        .collect();
    assert_eq!(described, counted);
}

/// Finds the files under a folder that contain unsafe code.
fn unsafe_files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            unsafe_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = fs::read_to_string(&path).expect("code");
            // Skip tests, which come last.
            let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let is_unsafe = |line: &str| {
                let line = line.trim_start();
                !line.starts_with("//") && (line.contains("unsafe {") || line.contains("unsafe fn"))
            };
            if code.lines().any(is_unsafe) {
                let path = path.strip_prefix(root()).expect("within the project");
                found.insert(path.display().to_string());
            }
        }
    }
}

#[test]
fn lists_all_unsafe_code() {
    let mut found = BTreeSet::new();
    for part in ["pktvisor-common", "pktvisor-ebpf", "pktvisord", "pktvisor-tui", "xtask"] {
        unsafe_files(&root().join(part).join("src"), &mut found);
    }
    let document = text("docs/SECURITY.md");
    let (_, list) = document.split_once("### Unsafe code").expect("the list");
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(file, _)| file.to_owned()).collect::<BTreeSet<_>>(), found);
}

#[test]
fn links_are_valid() {
    for path in DOCUMENTS {
        let file = root().join(path);
        let folder = file.parent().expect("a folder");
        let document = prose(path);
        for link in document.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            if target.contains("://") {
                continue;
            }
            let target = if target.is_empty() { file.clone() } else { folder.join(target) };
            assert!(target.exists(), "{path}: {link}");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).expect("a document");
                let anchors = text.lines().filter_map(|line| {
                    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
                    Some(heading.to_lowercase().replace(' ', "-").replace('`', ""))
                });
                assert!(anchors.into_iter().any(|found| found == anchor), "{path}: {link}");
            }
        }
    }
}
