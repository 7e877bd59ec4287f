//! `cargo xtask fuzz`: runs the fuzz targets of the parsers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::exec::{cargo, exec, has_cargo_command, root};

/// Returns the folder of the fuzz crate.
pub(crate) fn folder() -> PathBuf {
    root().join("pktvisord/fuzz")
}

/// Time limit for one input in seconds; a slower input is a finding.
const INPUT_TIMEOUT: u32 = 10;

/// Fuzz with cargo-fuzz and a rustup nightly; corpora are in pktvisord/fuzz/corpus
#[derive(Args)]
pub(crate) struct Fuzz {
    /// Run time of each target in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Targets to run; all by default
    targets: Vec<String>,
}

impl Fuzz {
    /// Runs the command. Continues with the next target after a finding.
    pub(crate) fn run(self) -> Result<()> {
        let known = targets(&folder().join("fuzz_targets"))?;
        if let Some(unknown) = self.targets.iter().find(|target| !known.contains(*target)) {
            let known: Vec<_> = known.into_iter().collect();
            bail!("unknown fuzz target {unknown}; targets: {}", known.join(", "));
        }
        if !has_cargo_command("fuzz")? {
            exec(cargo().args(["install", "cargo-fuzz", "--locked"]))?;
        }
        let targets = if self.targets.is_empty() { Vec::from_iter(known) } else { self.targets };

        let mut summary = Vec::new();
        let mut failed = Vec::new();
        for target in &targets {
            let artifacts = folder().join("artifacts").join(target);
            let before = files(&artifacts)?;
            let result = exec(
                Command::new("rustup")
                    .current_dir(folder())
                    .args(["run", "nightly", "cargo", "fuzz", "run", target, "--"])
                    .arg(format!("-max_total_time={}", self.seconds))
                    .arg(format!("-timeout={INPUT_TIMEOUT}")),
            );
            let found: Vec<_> = files(&artifacts)?.difference(&before).cloned().collect();
            match result {
                Ok(()) => summary.push(format!("{target}: nothing found in {} s", self.seconds)),
                Err(error) => {
                    summary.push(format!("{target}: {error:#}"));
                    failed.push(target.as_str());
                }
            }
            summary.extend(found.iter().map(|path| format!("{target}: found {}", path.display())));
        }
        // At the end, because each run prints a lot.
        println!("\n{}", summary.join("\n"));
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

/// Returns the names of the fuzz targets, each a source file in `dir`.
fn targets(dir: &Path) -> Result<BTreeSet<String>> {
    let sources = files(dir)?;
    let names = sources.iter().filter_map(|path| path.file_stem()?.to_str());
    let names: BTreeSet<_> = names.map(str::to_owned).collect();
    if names.is_empty() {
        bail!("no fuzz targets in {}", dir.display());
    }
    Ok(names)
}

/// Returns the files in `dir`, or none if the folder does not exist.
fn files(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    if !dir.exists() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let files = entries.map(|entry| Ok(entry?.path()));
    files.filter(|path| !path.as_ref().is_ok_and(|path| path.is_dir())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_file_is_a_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(targets(dir.path()).is_err());
        assert!(targets(&dir.path().join("missing")).is_err());
        fs::write(dir.path().join("dns_scan.rs"), "").unwrap();
        fs::create_dir(dir.path().join("common")).unwrap();
        assert_eq!(Vec::from_iter(targets(dir.path()).unwrap()), ["dns_scan"]);
    }
}
