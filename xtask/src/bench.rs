//! `cargo xtask bench`: what summarizing a file costs, beside what a user would run instead.
//!
//! All programs read the same file, out of the page cache, in turn and several times over, so
//! that what else the machine does hits all of them alike. The figures are medians.

mod adversary;
pub mod live;
mod measure;
mod siege;
mod table;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use measure::{Cost, measure};
use table::{OURS, OURS_TWICE, REFERENCE, Row};

use crate::exec::{cargo, exec, find_program, target_dir};
use crate::generate::Kind;
use crate::generate::attacks::Attack;
use crate::{run, setup};

/// The addresses of the host whose packets the generated captures hold.
const HOSTS: &str = "192.0.2.1/32,2001:db8::1/128";
/// Where Debian installs dnscap's plug-in that keeps statistics.
const RSSM: &str = "/usr/lib/x86_64-linux-gnu/dnscap/rssm.so";
/// The seed of the captures that figures are compared on.
const SEED: u32 = 1;

/// Benchmark pktvisord against capinfos, tcpdump, tshark, dnstop and dnscap.
#[derive(Args)]
pub struct Bench {
    /// What to measure.
    #[arg(value_enum, default_value_t = What::Files)]
    what: What,
    /// Number of times that each program reads each file.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Captures to read.
    #[arg(long, value_enum, default_value_t = Captures::All)]
    kind: Captures,
    /// Use captures with a tenth of the packets, read once, or loads of one second, to check that
    /// everything works.
    #[arg(long)]
    short: bool,
    /// Also write the tables to this Markdown file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Skip `cargo bench`.
    #[arg(long)]
    no_micro: bool,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Reading files, beside what a user would run instead.
    Files,
    /// Watching an interface, which takes root.
    Live,
    /// Reading packets that are made to cost much.
    Adversary,
    /// Watching an interface that such packets come to, which takes root.
    Siege,
}

/// What a capture is made of.
#[derive(Clone, Copy)]
enum Source {
    Normal(Kind),
    Attack(Attack),
}

impl Source {
    /// The name by which it is asked for.
    fn name(self) -> String {
        let value = match self {
            Self::Normal(kind) => kind.to_possible_value(),
            Self::Attack(attack) => attack.to_possible_value(),
        };
        value.expect("all can be asked for").get_name().to_owned()
    }
}

/// The captures to read.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Captures {
    Mixed,
    Dns,
    Flood,
    All,
}

/// A program that reads a capture file.
struct Contender {
    /// How it is called in the table.
    name: &'static str,
    program: PathBuf,
    /// All arguments, the file among them.
    arguments: Vec<OsString>,
    /// One for each time it has read the file.
    costs: Vec<Cost>,
    /// Why it is out of the race.
    failure: Option<String>,
}

impl Bench {
    /// Carries the command out. It fails if pktvisord does, and never for being slow.
    pub fn run(self) -> Result<()> {
        if self.what == What::Live {
            let (seconds, pairs) = if self.short { (1, 1) } else { (8, 9) };
            return live::bench(seconds, pairs);
        }
        match self.what {
            What::Siege => setup::for_live_bench()?,
            _ => setup::for_run()?,
        }
        let pktvisord = run::build_release()?;
        if let What::Adversary | What::Siege = self.what {
            let (table, failures) = match self.what {
                What::Siege => siege::bench(&pktvisord, if self.short { 1 } else { 10 })?,
                _ => adversary::bench(&pktvisord, self.runs, self.short)?,
            };
            println!("\n{table}");
            return self.write(&format!("Measured on {}.\n\n{table}", machine()), &failures);
        }
        let kinds: &[Kind] = match self.kind {
            Captures::Mixed => &[Kind::Mixed],
            Captures::Dns => &[Kind::Dns],
            Captures::Flood => &[Kind::Flood],
            Captures::All => &[Kind::Mixed, Kind::Dns, Kind::Flood],
        };
        let mut report = format!("Measured on {}.\n", machine());
        let mut failures = Vec::new();
        for &kind in kinds {
            let (section, failed) = self.measure_kind(kind, &pktvisord)?;
            println!("\n{section}");
            report.push('\n');
            report.push_str(&section);
            failures.extend(failed);
        }
        self.write(&report, &failures)?;
        if self.no_micro { Ok(()) } else { exec(cargo().args(["bench", "--workspace"])) }
    }

    /// Writes the tables where they are asked for, and fails where ours did.
    fn write(&self, report: &str, failures: &[String]) -> Result<()> {
        if let Some(path) = &self.markdown {
            fs::write(path, report).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !failures.is_empty() {
            bail!("cannot measure pktvisord: {}", failures.join("; "));
        }
        Ok(())
    }

    /// Measures every program on one capture. Returns what to print, and how ours failed.
    fn measure_kind(&self, kind: Kind, pktvisord: &Path) -> Result<(String, Vec<String>)> {
        let packets = if self.short { kind.packets() / 10 } else { kind.packets() };
        let runs = if self.short { 1 } else { self.runs };
        let capture = capture(Source::Normal(kind), packets)?;
        let (mut contenders, missing) = contenders(&capture, pktvisord)?;
        // Once to have it in the page cache, from where all of them read it.
        io::copy(&mut File::open(&capture)?, &mut io::sink())?;
        for run in 1..=runs {
            for contender in contenders.iter_mut().filter(|one| one.failure.is_none()) {
                eprintln!("{kind:?}, run {run} of {runs}: {}", contender.name);
                match measure(&contender.program, &contender.arguments, &capture) {
                    Ok(cost) => contender.costs.push(cost),
                    Err(error) => {
                        contender.failure = Some(format!("{}: {error:#}", contender.name));
                    }
                }
            }
        }

        let rows: Vec<_> = contenders
            .iter()
            .filter(|contender| contender.failure.is_none())
            .map(|contender| Row { name: contender.name, cost: measure::median(&contender.costs) })
            .collect();
        let mut section = format!(
            "### {kind:?}: {packets} packets, {} MB, median of {runs}\n\n{}",
            fs::metadata(&capture)?.len() / 1_000_000,
            table::render(&rows)
        );
        let judged = table::targets(kind, &rows);
        if !judged.is_empty() {
            writeln!(section, "\n{}", judged.concat().trim_end())?;
        }
        for name in missing {
            writeln!(section, "\nSkipped, as it is not installed: {name}.")?;
        }
        let mut failed = Vec::new();
        for contender in contenders {
            if let Some(failure) = contender.failure {
                writeln!(section, "\nLeft out: {failure}.")?;
                if contender.program == pktvisord {
                    failed.push(failure);
                }
            }
        }
        Ok((section, failed))
    }
}

/// The capture to measure on, generated if this program has changed since.
fn capture(source: Source, packets: u64) -> Result<PathBuf> {
    let dir = target_dir()?.join("bench");
    fs::create_dir_all(&dir)?;
    let name = source.name();
    let command = match source {
        Source::Normal(_) => "gen",
        Source::Attack(_) => "gen-attack",
    };
    let path = dir.join(format!("{name}-{packets}.pcap"));
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let generator = std::env::current_exe()?;
    if !modified(&path).is_ok_and(|at| modified(&generator).is_ok_and(|built| at > built)) {
        // Under another name, so that one that was cut short is not taken for whole; and in
        // another process, as the memory it takes would count for those measured, see `Cost`.
        let partial = path.with_extension("partial");
        exec(
            Command::new(&generator)
                .args([command, &name])
                .arg(&partial)
                .arg(format!("--packets={packets}"))
                .arg(format!("--seed={SEED}")),
        )?;
        fs::rename(&partial, &path)?;
    }
    Ok(path)
}

/// The programs to measure, and the names of those that are not installed.
fn contenders(capture: &Path, pktvisord: &Path) -> Result<(Vec<Contender>, Vec<&'static str>)> {
    let ours = |workers: &'static str| {
        ["--workers", workers, "-H", HOSTS, "--summary", "--format", "json", "-o", "/dev/null"]
            .map(OsString::from)
    };
    let statistics = target_dir()?.join("bench/rssm");
    let others: [(&'static str, &str, Vec<OsString>); 5] = [
        (REFERENCE, "capinfos", vec![capture.into()]),
        ("tcpdump -nn", "tcpdump", vec!["-nn".into(), "-r".into(), capture.into()]),
        (
            "tshark io,phs",
            "tshark",
            vec!["-q".into(), "-z".into(), "io,phs".into(), "-r".into(), capture.into()],
        ),
        ("dnstop", "dnstop", vec!["-Q".into(), "-R".into(), capture.into()]),
        (
            "dnscap rssm",
            "dnscap",
            vec![
                "-N".into(),
                "-r".into(),
                capture.into(),
                "-P".into(),
                RSSM.into(),
                "-w".into(),
                statistics.into(),
            ],
        ),
    ];

    let mut contenders = Vec::new();
    for (name, workers) in [(OURS, "1"), (OURS_TWICE, "2")] {
        let mut arguments = Vec::from(ours(workers));
        arguments.push(capture.into());
        contenders.push(Contender::new(name, pktvisord.to_owned(), arguments));
    }
    let mut missing = Vec::new();
    for (name, program, arguments) in others {
        match find_program(program)? {
            Some(program) => contenders.push(Contender::new(name, program, arguments)),
            None => missing.push(name),
        }
    }
    Ok((contenders, missing))
}

impl Contender {
    fn new(name: &'static str, program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { name, program, arguments, costs: Vec::new(), failure: None }
    }
}

/// The processor and the kernel, as figures are worth nothing without.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
