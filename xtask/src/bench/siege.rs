//! `cargo xtask bench siege`: sends hostile packets to a watched interface, and measures their cost
//! and losses.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;

use super::live::{CLIENT, Counted, Network, Observer, Running, inside};
use super::{Source, capture};
use crate::exec::is_root;
use crate::generate::Kind;
use crate::generate::attacks::Attack;

/// Packets per second.
const RATE: u64 = 20_000;

/// Sends each attack to a watched interface for `seconds`. Returns the table, and a message for
/// each attack of which some packets were not counted.
pub(super) fn bench(pktvisord: &Path, seconds: u64) -> Result<(String, Vec<String>)> {
    if !is_root() {
        bail!("creating and watching interfaces requires root");
    }
    let _network = Network::new()?;
    let packets = RATE * seconds;
    let mut table = format!(
        "{packets} packets each, {RATE} a second.\n\n\
         | packets | sent a second | counted | % of a core | records lost |\n|---|---:|---:|---:|---:|\n"
    );
    let mut failures = Vec::new();
    let attacks = Attack::value_variants().iter().copied().map(Source::Attack);
    for source in [Source::Normal(Kind::Dns)].into_iter().chain(attacks) {
        let name = source.name();
        eprintln!("{name}");
        let capture = capture(source, packets)?;
        let running = Running::start(Observer::Ours("auto"), pktvisord)?;
        let (cpu, start) = (running.cpu()?, Instant::now());
        let rate = send(&capture)?;
        let share = (running.cpu()? - cpu) / start.elapsed().as_secs_f64() * 100.0;
        let Counted { packets: counted, ring_full, .. } = Counted::now()?;
        writeln!(table, "| {name} | {rate:.0} | {counted} | {share:.1} | {ring_full} |")?;
        if counted < packets {
            failures.push(format!("{name}: {counted} of {packets} packets are counted"));
        }
    }
    Ok((table, failures))
}

/// Sends the packets of a capture. Returns the rate in packets per second.
fn send(capture: &Path) -> Result<f64> {
    let mut tcpreplay = inside(CLIENT, "tcpreplay");
    tcpreplay.args(["--quiet", "--preload-pcap", "--intf1", CLIENT, "--pps", &RATE.to_string()]);
    let output = tcpreplay.arg(capture).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = || {
        let rated = text.lines().find_map(|line| line.strip_prefix("Rated: "))?;
        rated.split(", ").find_map(|part| part.strip_suffix(" pps"))?.parse().ok()
    };
    rate().with_context(|| format!("tcpreplay: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
