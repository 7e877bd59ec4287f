//! `cargo xtask bench live`: measures live capture beside programs that users run for the same
//! purpose.
//!
//! A veth pair connects two network namespaces, with an authoritative server (nsd) in one, and
//! dnsperf and iperf3 in the other. Observers watch the server's interface.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::exec::{cargo, exec, find_program, is_root, target_dir};
use crate::{build_ebpf, run, setup};

/// Namespace of the server, and its interface of the same name.
pub(crate) const SERVER: &str = "pvbench-s";
/// Namespace of the clients, and its interface of the same name.
pub(crate) const CLIENT: &str = "pvbench-c";
/// Address of the server, from the range that RFC 2544 reserves for benchmarks.
const SERVER_ADDRESS: &str = "198.18.0.1";
/// Address of the clients, from the same range.
const CLIENT_ADDRESS: &str = "198.18.0.2";
/// Port of the daemon's API in the server's namespace.
pub(crate) const PORT: u16 = 10853;
/// Queries per second that dnsperf sends; 0 means as many as possible.
const RATES: [u32; 5] = [20_000, 50_000, 100_000, 300_000, 0];
/// Number of names in the queries.
const NAMES: u32 = 100_000;

/// A program that watches the interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observer {
    /// No program.
    None,
    /// pktvisord in a capture mode.
    Ours(&'static str),
    /// tcpdump, which writes packets to `/dev/null`.
    Tcpdump,
    /// dnscap with its statistics plug-in.
    Dnscap,
}

impl Observer {
    fn name(self) -> String {
        match self {
            Observer::None => "none".to_owned(),
            Observer::Ours(mode) => format!("pktvisord {mode}"),
            Observer::Tcpdump => "tcpdump -w /dev/null".to_owned(),
            Observer::Dnscap => "dnscap rssm".to_owned(),
        }
    }

    /// Returns the command line, to run in the server's namespace.
    fn command(self, pktvisord: &Path) -> Option<Vec<String>> {
        let words = |text: String| Some(text.split_whitespace().map(str::to_owned).collect());
        match self {
            Observer::None => None,
            Observer::Ours(mode) => words(format!(
                "{} --summary --adaptive off --capture {mode} -l 127.0.0.1 -p {PORT} {SERVER}",
                pktvisord.display()
            )),
            Observer::Tcpdump => words(format!("tcpdump -n -i {SERVER} -w /dev/null")),
            Observer::Dnscap => {
                words(format!("dnscap -i {SERVER} -P {} -w /dev/null", super::RSSM))
            }
        }
    }
}

/// The network namespaces and the DNS server. Dropping it removes them.
pub(crate) struct Network {
    folder: PathBuf,
    server: Option<Child>,
}

/// Returns a command that runs a program in a namespace.
pub(crate) fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

fn sh(text: &str) -> Result<()> {
    let status = Command::new("sh").args(["-ec", text]).status()?;
    if status.success() { Ok(()) } else { bail!("`{text}` failed: {status}") }
}

impl Network {
    /// Creates the namespaces and starts the server.
    pub(crate) fn new() -> Result<Self> {
        let folder = target_dir()?.join("bench/live");
        fs::create_dir_all(&folder)?;
        let mut network = Self { folder, server: None };
        network.tear_down();
        sh(&format!(
            "ip netns add {SERVER}; ip netns add {CLIENT}
             ip link add {SERVER} netns {SERVER} type veth peer name {CLIENT} netns {CLIENT}
             ip -n {SERVER} addr add {SERVER_ADDRESS}/30 dev {SERVER}
             ip -n {CLIENT} addr add {CLIENT_ADDRESS}/30 dev {CLIENT}
             ip -n {SERVER} link set {SERVER} up; ip -n {SERVER} link set lo up
             ip -n {CLIENT} link set {CLIENT} up"
        ))?;
        let at = network.folder.display().to_string();
        fs::write(
            network.folder.join("nsd.conf"),
            format!(
                "server:\n ip-address: {SERVER_ADDRESS}\n username: \"\"\n zonesdir: \"{at}\"\n \
                 pidfile: \"{at}/pid\"\n xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n \
                 zonelistfile: \"{at}/list\"\n database: \"\"\n rrl-ratelimit: 0\n\
                 remote-control:\n control-enable: no\nzone:\n name: example.org\n \
                 zonefile: zone\n"
            ),
        )?;
        let zone = "$ORIGIN example.org.\n$TTL 60\n@ SOA ns host 1 60 60 60 60\n@ NS ns\n\
                    ns A 198.18.0.1\n* A 192.0.2.7\n";
        fs::write(network.folder.join("zone"), zone)?;
        let queries: String = (0..NAMES).fold(String::new(), |mut text, name| {
            let _ = writeln!(text, "n{name}.example.org A");
            text
        });
        fs::write(network.folder.join("queries"), queries)?;
        let server = inside(SERVER, "nsd")
            .args(["-d", "-c"])
            .arg(network.folder.join("nsd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nsd")?;
        network.server = Some(server);
        sleep(Duration::from_secs(1));
        Ok(network)
    }

    fn tear_down(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = Command::new("kill").arg(server.id().to_string()).status();
            let _ = server.wait();
        }
        for namespace in [SERVER, CLIENT] {
            let _ =
                Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }

    /// Sends `rate` queries per second, or as many as possible if 0. Returns the number of
    /// completed queries, and their rate per second.
    pub(crate) fn dns(&self, rate: u32, seconds: u32) -> Result<(u64, f64)> {
        let mut dnsperf = inside(CLIENT, "dnsperf");
        dnsperf.args(["-s", SERVER_ADDRESS, "-c", "8", "-l", &seconds.to_string(), "-d"]);
        dnsperf.arg(self.folder.join("queries"));
        if rate > 0 {
            dnsperf.args(["-Q", &rate.to_string()]);
        }
        let output = dnsperf.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |label: &str| {
            let line = text.lines().find(|line| line.contains(label))?;
            line.split_once(':')?.1.split_whitespace().next()?.parse::<f64>().ok()
        };
        let completed = number("Queries completed:").with_context(|| format!("dnsperf: {text}"))?;
        let rate = number("Queries per second:").context("dnsperf reports no rate")?;
        Ok((completed as u64, rate))
    }

    /// Measures the throughput of one TCP stream in Gbit/s.
    fn tcp(seconds: u32) -> Result<f64> {
        let mut sink = inside(SERVER, "iperf3")
            .args(["-s", "-1"])
            .stdout(Stdio::null())
            .spawn()
            .context("iperf3")?;
        sleep(Duration::from_millis(300));
        let output = inside(CLIENT, "iperf3")
            .args(["-c", SERVER_ADDRESS, "-f", "m", "-t", &seconds.to_string()])
            .output()?;
        sink.wait()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.contains("receiver"));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let unit = words.iter().position(|word| word.starts_with("Mbits"));
        let speed: Option<f64> = unit.and_then(|at| words.get(at - 1)?.parse().ok());
        Ok(speed.with_context(|| format!("iperf3: {text}"))? / 1000.0)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tear_down();
    }
}

/// A running observer. Dropping it stops the program.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Starts an observer. Waits until pktvisord is ready, or one second for other programs.
    pub(crate) fn start(observer: Observer, pktvisord: &Path) -> Result<Self> {
        let Some(words) = observer.command(pktvisord) else { return Ok(Self(None)) };
        let child = inside(SERVER, &words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| observer.name())?;
        let running = Self(Some(child));
        match observer {
            Observer::Ours(_) => wait_until_ready()?,
            _ => sleep(Duration::from_secs(1)),
        }
        Ok(running)
    }

    /// Returns the processor time so far in seconds. `ip netns exec` executes the program in its
    /// own process, so the process id is the program's.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let Some(child) = &self.0 else { return Ok(0.0) };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        Ok(cpu_seconds(&stat))
    }
}

/// Waits until pktvisord has attached its programs, at most 10 s.
fn wait_until_ready() -> Result<()> {
    let url = format!("http://127.0.0.1:{PORT}/readyz");
    let started = Instant::now();
    while !inside(SERVER, "curl").args(["-sfo", "/dev/null", &url]).status()?.success() {
        if started.elapsed() > Duration::from_secs(10) {
            bail!("pktvisord is not ready after 10 s");
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

/// Returns the processor time in seconds from the text of `/proc/PID/stat`.
pub(crate) fn cpu_seconds(stat: &str) -> f64 {
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    // User and system time: fields 14 and 15 in proc(5), in hundredths of a second.
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// Counts of pktvisord since its start.
pub(crate) struct Counted {
    /// DNS messages.
    messages: u64,
    /// Packets.
    pub packets: u64,
    /// Records that the ring buffers had no room for.
    pub ring_full: u64,
}

impl Counted {
    /// Requests the counts from the daemon.
    pub(crate) fn now() -> Result<Self> {
        // Answers of the daemon can be a second old.
        sleep(Duration::from_millis(2_100));
        let url = format!("http://127.0.0.1:{PORT}/api/v1/metrics/bucket/0");
        let output = inside(SERVER, "curl").args(["-s", &url]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |path: &str| {
            let rest = &text[text.find(path)? + path.len()..];
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let counted = |path| number(path).context("the daemon does not respond");
        Ok(Self {
            messages: counted("\"wire_packets\":{\"total\":")?,
            packets: counted("\"packets\":{\"total\":")?,
            ring_full: number("\"ring_full\":").unwrap_or(0),
        })
    }
}

/// Runs the command and prints tables in Markdown.
pub(crate) fn bench(seconds: u32, pairs: usize) -> Result<()> {
    if !is_root() {
        bail!("creating and watching interfaces requires root");
    }
    setup::for_live_bench()?;
    build_ebpf::build()?;
    let pktvisord = run::build_release()?;
    exec(cargo().args(["bench", "--package", "pktvisord", "--bench", "kernel"]))?;

    let network = Network::new()?;
    println!("\n| observer | idle, % of a core |\n|---|---:|");
    {
        let running = Running::start(Observer::Ours("auto"), &pktvisord)?;
        let before = running.cpu()?;
        sleep(Duration::from_secs(10));
        println!("| pktvisord auto | {:.2} |", (running.cpu()? - before) * 10.0);
    }

    println!(
        "\n| queries/s asked | observer | queries/s | % of a core | messages missed |\n\
         |---:|---|---:|---:|---:|"
    );
    let mut observers = vec![Observer::None, Observer::Ours("auto"), Observer::Ours("libpcap")];
    observers.push(Observer::Tcpdump);
    if find_program("dnscap")?.is_some() {
        observers.push(Observer::Dnscap);
    }
    for rate in RATES {
        for &observer in &observers {
            let running = Running::start(observer, &pktvisord)?;
            let (cpu, start) = (running.cpu()?, Instant::now());
            let (completed, achieved) = network.dns(rate, seconds)?;
            let share = (running.cpu()? - cpu) / start.elapsed().as_secs_f64() * 100.0;
            let missed = match observer {
                Observer::Ours(_) => {
                    let Counted { messages, ring_full, .. } = Counted::now()?;
                    let missed = (2 * completed).saturating_sub(messages);
                    format!("{missed} ({ring_full} for a full ring)")
                }
                _ => "not said".to_owned(),
            };
            let asked = if rate == 0 { "all".to_owned() } else { rate.to_string() };
            let name = observer.name();
            println!("| {asked} | {name} | {achieved:.0} | {share:.1} | {missed} |");
        }
    }

    println!(
        "\nOne TCP stream and DNS at the highest rate, as a ratio of the same without an observer \
         right before; median of {pairs} pairs, least to most:\n\n\
         | observer | TCP | DNS |\n|---|---:|---:|"
    );
    for observer in [
        Observer::Ours("auto"),
        Observer::Ours("clsact"),
        Observer::Ours("xdp"),
        Observer::Ours("libpcap"),
        Observer::Tcpdump,
    ] {
        let (mut tcp, mut dns) = (Vec::new(), Vec::new());
        for _ in 0..pairs {
            let alone = (Network::tcp(1)?, network.dns(0, 1)?.1);
            let _running = Running::start(observer, &pktvisord)?;
            tcp.push(Network::tcp(1)? / alone.0);
            dns.push(network.dns(0, 1)?.1 / alone.1);
        }
        println!("| {} | {} | {} |", observer.name(), spread(&mut tcp), spread(&mut dns));
    }
    Ok(())
}

fn spread(ratios: &mut [f64]) -> String {
    ratios.sort_unstable_by(f64::total_cmp);
    let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
    format!("{:.2} ({least:.2} to {most:.2})", ratios[ratios.len() / 2])
}
