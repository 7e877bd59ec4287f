//! `cargo xtask bench adversary`: measures the cost of hostile packets beside normal ones.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum as _;

use super::measure::{Cost, measure, median};
use super::{HOSTS, Source, capture};
use crate::generate::Kind;
use crate::generate::attacks::Attack;

/// Packets in each attack.
const PACKETS: u64 = 200_000;

/// Measures each attack `runs` times with one worker, or a tenth of the packets once if `short`.
/// Returns the table, and the errors of pktvisord.
pub(super) fn bench(pktvisord: &Path, runs: u32, short: bool) -> Result<(String, Vec<String>)> {
    let (packets, runs) = if short { (PACKETS / 10, 1) } else { (PACKETS, runs) };
    let nothing = cost(pktvisord, &capture(Source::Normal(Kind::Dns), 0)?, runs)?;
    let mut table = format!(
        "{packets} packets each, median of {runs}; the processor time of a start is taken off.\n\n\
         | packets | bytes each | ns a packet | peak MiB |\n|---|---:|---:|---:|\n"
    );
    let mut failures = Vec::new();
    let attacks = Attack::value_variants().iter().copied().map(Source::Attack);
    for source in [Source::Normal(Kind::Dns)].into_iter().chain(attacks) {
        let name = source.name();
        eprintln!("{name}");
        let capture = capture(source, packets)?;
        match cost(pktvisord, &capture, runs) {
            Ok(Cost { cpu, peak, .. }) => {
                let nanoseconds = (cpu - nothing.cpu).max(0.0) * 1e9 / packets as f64;
                let bytes = (capture.metadata()?.len() - 24) / packets - 16;
                writeln!(table, "| {name} | {bytes} | {nanoseconds:.0} | {peak:.0} |")?;
            }
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    Ok((table, failures))
}

/// Returns the median cost of summarizing a capture.
fn cost(pktvisord: &Path, capture: &Path, runs: u32) -> Result<Cost> {
    let options =
        ["--workers", "1", "-H", HOSTS, "--summary", "--format", "json", "-o", "/dev/null"];
    let mut arguments: Vec<OsString> = options.map(OsString::from).into();
    arguments.push(capture.into());
    let costs: Result<Vec<Cost>> =
        (0..runs).map(|_| measure(pktvisord, &arguments, capture)).collect();
    Ok(median(&costs?))
}
