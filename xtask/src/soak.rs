//! `cargo xtask soak`: runs the daemon under DNS queries and HTTP requests for a long time.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::bench::live::{Network, PORT, SERVER, inside};
use crate::exec::is_root;
use crate::{build_ebpf, run, setup};

/// HTTP requests per second, half of them for `/metrics` and half for the last five minutes.
const REQUESTS: u32 = 1_000;
/// Clients that share the requests. One client would be too slow, because it waits for each answer.
const ASKERS: u32 = 4;
/// Least number of answered requests per minute. Half of the nominal number, because requests count
/// in whole batches, and reading the daemon's figures takes a part of the minute.
const ANSWERED: u64 = 60 * REQUESTS as u64 / 2;
/// Minutes until memory is stable: all buckets exist, and tables have reached their size.
const WARM: u32 = 6;
/// Allowed growth of memory after that, in percent.
const GROWTH: f64 = 10.0;

/// Watch a DNS server under load while the daemon answers 1,000 HTTP requests per second, and
/// print cost and losses each minute; requires root
#[derive(Args)]
pub(crate) struct Soak {
    /// Run time in minutes
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Number of DNS queries per second
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
}

impl Soak {
    /// Runs the command. Fails if memory grows, if too few requests are answered, or if more DNS
    /// messages are missed than the daemon counts as lost.
    pub(crate) fn run(self) -> Result<()> {
        ensure!(is_root(), "creating and watching interfaces requires root");
        setup::for_live_bench()?;
        build_ebpf::build()?;
        let pktvisord = run::build_release()?;
        let network = Network::new()?;
        let port = PORT.to_string();
        let mut daemon = inside(SERVER, &pktvisord.display().to_string());
        let arguments = ["--config", "/dev/null", "-l", "127.0.0.1", "-p", &port, SERVER];
        daemon.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = Stopped(daemon.spawn().context("pktvisord")?);
        sleep(Duration::from_secs(2));
        self.watch(&network, &daemon)
    }

    fn watch(&self, network: &Network, daemon: &Stopped) -> Result<()> {
        println!(
            "| minute | MiB | % of a core | queries | messages missed | for a full ring | requests |\n\
             |---:|---:|---:|---:|---:|---:|---:|"
        );
        let end = AtomicBool::new(false);
        let requests = AtomicU64::new(0);
        // The window of five minutes exists only after that time.
        let window = |minutes| match minutes {
            0..WARM => "/api/v1/metrics/window/1",
            _ => "/api/v1/metrics/window/5",
        };
        std::thread::scope(|scope| {
            let (end, requests) = (&end, &requests);
            for _ in 0..ASKERS / 2 {
                scope.spawn(|| ask(|_| "/metrics", end, requests));
                scope.spawn(move || ask(window, end, requests));
            }
            let result = self.minute_by_minute(network, daemon, requests);
            // Ends the clients.
            end.store(true, Ordering::Relaxed);
            result
        })
    }

    fn minute_by_minute(
        &self,
        network: &Network,
        daemon: &Stopped,
        requests: &AtomicU64,
    ) -> Result<()> {
        let (mut queries, mut warm) = (0, None);
        for minute in 1..=self.minutes {
            let (cpu, started) = (daemon.cpu()?, Instant::now());
            let asked = requests.load(Ordering::Relaxed);
            queries += network.dns(self.rate, 58)?.0;
            // Answers of the daemon can be a second old.
            sleep(Duration::from_millis(2_100));
            let share = (daemon.cpu()? - cpu) / started.elapsed().as_secs_f64() * 100.0;
            let (messages, losses) = counted()?;
            let missed = (2 * queries).saturating_sub(messages);
            let memory = daemon.memory()?;
            let answered = requests.load(Ordering::Relaxed) - asked;
            println!(
                "| {minute} | {memory:.1} | {share:.1} | {queries} | {missed} | {losses} | {answered} |"
            );
            ensure!(
                answered >= ANSWERED,
                "the daemon answered only {answered} requests in a minute"
            );
            let before =
                *if minute <= WARM { warm.insert(memory) } else { warm.get_or_insert(memory) };
            let grown = (memory / before - 1.0) * 100.0;
            ensure!(grown <= GROWTH, "memory grew by {grown:.1} % since minute {WARM}");
            ensure!(missed <= losses, "{missed} messages were missed and not counted as lost");
        }
        Ok(())
    }
}

/// Requests a path at one client's share of the rate until `end` is set. The path may depend on the
/// minutes since the start.
fn ask(path: impl Fn(u32) -> &'static str, end: &AtomicBool, requests: &AtomicU64) {
    const BATCH: u32 = 1_000;
    // A quarter above the share, because curl waits for whole milliseconds, and restarts after each
    // batch.
    const ASKED: u32 = REQUESTS * 5 / 4 / ASKERS;
    let started = Instant::now();
    while !end.load(Ordering::Relaxed) {
        let path = path((started.elapsed().as_secs() / 60) as u32);
        let url = format!("http://127.0.0.1:{PORT}{path}?[1-{BATCH}]");
        let rate = format!("{ASKED}/s");
        let mut curl = inside(SERVER, "curl");
        curl.args(["-s", "--fail", "--rate", &rate, "-o", "/dev/null", &url]);
        match curl.status() {
            Ok(status) if status.success() => {
                requests.fetch_add(BATCH.into(), Ordering::Relaxed);
            }
            Ok(status) => return eprintln!("curl: {status}"),
            Err(error) => return eprintln!("curl: {error}"),
        }
    }
}

/// Returns the number of DNS messages that the daemon has counted, and of those that the ring
/// buffers had no room for.
fn counted() -> Result<(u64, u64)> {
    let url = format!("http://127.0.0.1:{PORT}/metrics");
    let output = inside(SERVER, "curl").args(["-s", &url]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let sum = |family: &str| -> u64 {
        let samples = text.lines().filter(|line| line.starts_with(family));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    if !text.contains("pktvisor_dns_messages_total{") {
        bail!("the daemon does not respond: {text}");
    }
    Ok((sum("pktvisor_dns_messages_total{"), sum("pktvisor_losses_total{reason=\"ring_full_dns\"")))
}

/// The running daemon. Dropping it stops the process.
struct Stopped(Child);

impl Stopped {
    fn status(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0.id());
        std::fs::read_to_string(&path).with_context(|| format!("{path}: the daemon stopped"))
    }

    /// Returns the daemon's resident memory in MiB.
    fn memory(&self) -> Result<f64> {
        let status = self.status("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 =
            line.and_then(|l| l.split_whitespace().next()?.parse().ok()).context("VmRSS")?;
        Ok(kib / 1024.0)
    }

    /// Returns the processor time so far in seconds.
    fn cpu(&self) -> Result<f64> {
        Ok(crate::bench::live::cpu_seconds(&self.status("stat")?))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
