//! `cargo xtask bench`: measures pktvisord beside programs that users run for the same purpose.
//!
//! All programs read the same file from the page cache, by turns and several times, so that other
//! load on the machine affects all of them alike. The figures are medians.

mod adversary;
pub(crate) mod live;
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

/// HOST of the generated captures.
const HOSTS: &str = "192.0.2.1/32,2001:db8::1/128";
/// Path of dnscap's statistics plug-in on Debian.
const RSSM: &str = "/usr/lib/x86_64-linux-gnu/dnscap/rssm.so";
/// Seed of the captures, always the same so that figures are comparable.
const SEED: u32 = 1;

/// Measure pktvisord beside capinfos, tcpdump, tshark, dnstop and dnscap
#[derive(Args)]
pub(crate) struct Bench {
    /// Benchmark to run
    #[arg(value_enum, default_value_t = What::Files)]
    what: What,
    /// Number of times that each program reads each file
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Capture to read
    #[arg(long, value_enum, default_value_t = Captures::All)]
    kind: Captures,
    /// Only check that the benchmark works: read captures of a tenth of the packets once, or put
    /// load on an interface for one second
    #[arg(long)]
    short: bool,
    /// Also write the tables to this Markdown file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Skip `cargo bench`
    #[arg(long)]
    no_micro: bool,
}

/// A benchmark.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Read files, beside other programs
    Files,
    /// Watch an interface, beside other programs; requires root
    Live,
    /// Read hostile packets from files
    Adversary,
    /// Watch an interface that receives hostile packets; requires root
    Siege,
}

/// Contents of a generated capture.
#[derive(Clone, Copy)]
enum Source {
    Normal(Kind),
    Attack(Attack),
}

impl Source {
    /// Returns the name of the contents on the command line.
    fn name(self) -> String {
        let value = match self {
            Self::Normal(kind) => kind.to_possible_value(),
            Self::Attack(attack) => attack.to_possible_value(),
        };
        value.expect("all can be asked for").get_name().to_owned()
    }
}

/// The captures to read. Each kind is described at [`Kind`].
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Captures {
    Mixed,
    Dns,
    Flood,
    All,
}

/// A program that reads a capture file.
struct Contender {
    /// Name in the table.
    name: &'static str,
    program: PathBuf,
    /// All arguments, including the file.
    arguments: Vec<OsString>,
    /// Cost of each run.
    costs: Vec<Cost>,
    /// Error of the first failed run. The program does not run again after it.
    failure: Option<String>,
}

impl Bench {
    /// Runs the command. Fails if pktvisord fails, but not if pktvisord is slow.
    pub(crate) fn run(self) -> Result<()> {
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

    /// Writes the tables to the Markdown file, and fails if pktvisord failed.
    fn write(&self, report: &str, failures: &[String]) -> Result<()> {
        if let Some(path) = &self.markdown {
            fs::write(path, report).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !failures.is_empty() {
            bail!("cannot measure pktvisord: {}", failures.join("; "));
        }
        Ok(())
    }

    /// Measures every program on one capture. Returns the report, and the errors of pktvisord.
    fn measure_kind(&self, kind: Kind, pktvisord: &Path) -> Result<(String, Vec<String>)> {
        let packets = if self.short { kind.packets() / 10 } else { kind.packets() };
        let runs = if self.short { 1 } else { self.runs };
        let capture = capture(Source::Normal(kind), packets)?;
        let (mut contenders, missing) = contenders(&capture, pktvisord)?;
        // Loads the file into the page cache.
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

/// Returns the path of a capture. Generates the capture again if this program is newer.
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
        // Uses another name until the file is complete. Uses another process, because the peak
        // memory of this one would count for the measured programs, see `Cost`.
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

/// Returns the programs to measure, and the names of those that are not installed.
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

/// Describes the processor and the kernel that the figures depend on.
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
