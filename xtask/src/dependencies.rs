//! `cargo xtask audit`: checks dependencies. `cargo xtask test` includes a part of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::exec::{cargo, cargo_tool, exec, root};

/// The only allowed source of packages, crates.io.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Check dependencies against deny.toml, and for known vulnerabilities if their list is available
#[derive(Args)]
pub(crate) struct Audit {
    /// Fail if the list of known vulnerabilities is unavailable, instead of skipping the check
    #[arg(long)]
    advisories: bool,
}

impl Audit {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        check()?;
        let deny = CargoDeny(cargo_tool("cargo-deny")?);
        exec(deny.check().args(["licenses", "bans", "sources"]))?;
        match exec(deny.command().args(["fetch", "db"])) {
            Ok(()) => exec(deny.check().arg("advisories")),
            Err(error) if self.advisories => Err(error),
            Err(_) => {
                println!("== known vulnerabilities: skipped, cannot download their list");
                Ok(())
            }
        }
    }
}

/// Path of cargo-deny.
struct CargoDeny(PathBuf);

impl CargoDeny {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.current_dir(root()).arg("deny");
        command
    }

    fn check(&self) -> Command {
        let mut command = self.command();
        command.args(["check", "--hide-inclusion-graph"]);
        command
    }
}

/// The parts of deny.toml that [`check`] uses.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    name: String,
    reason: String,
}

/// A package in the output of `cargo metadata`.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Checks licences, sources and bans of all dependencies of the workspace and the kernel programs.
pub(crate) fn check() -> Result<()> {
    let policy = fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("deny.toml")?;
    let mut by_license: BTreeMap<String, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    // Fuzz targets are left out, because they are never distributed.
    for manifest in ["Cargo.toml", "pktvisor-ebpf/Cargo.toml"] {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest])
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        for package in &metadata.packages {
            *by_license.entry(package.license.clone().unwrap_or_default()).or_default() += 1;
            problems.extend(problem(&policy, package));
        }
    }
    problems.sort();
    problems.dedup();
    if !problems.is_empty() {
        bail!("against deny.toml:\n{}", problems.join("\n"));
    }
    let packages: usize = by_license.values().sum();
    println!("{packages} packages with {} licences, all allowed", by_license.len());
    Ok(())
}

/// Returns the violation of deny.toml by a package, if there is one.
fn problem(policy: &Policy, package: &Package) -> Option<String> {
    let Package { name, version, license, source } = package;
    let of = |what: String| Some(format!("{name} {version}: {what}"));
    if let Some(Ban { reason, .. }) = policy.bans.deny.iter().find(|ban| ban.name == *name) {
        return of(format!("banned, {reason}"));
    }
    match source {
        // A package of this project.
        None => return None,
        Some(source) if source != REGISTRY => return of(format!("from {source}")),
        Some(_) => {}
    }
    let Some(license) = license else { return of("no licence".to_owned()) };
    let expression = match spdx::Expression::parse_mode(license, spdx::ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return of(format!("licence {license}: {}", error.reason)),
    };
    let allowed = |request: &spdx::LicenseReq| {
        request.addition.is_none() && policy.licenses.allow.contains(&request.license.to_string())
    };
    (!expression.evaluate(allowed)).then(|| format!("{name} {version}: licence {license}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_violations_of_policy() {
        let policy: Policy = toml::from_str(
            "licenses.allow = [\"MIT\", \"ISC\"]\nbans.deny = [{ name = \"bad\", reason = \"why\" }]",
        )
        .unwrap();
        let check = |name: &str, license: Option<&str>, source: Option<&str>| {
            let (license, source) = (license.map(str::to_owned), source.map(str::to_owned));
            problem(&policy, &Package { name: name.into(), version: "1".into(), license, source })
        };
        let from = Some(REGISTRY);
        for license in ["MIT", "GPL-3.0-only OR MIT", "Apache-2.0/MIT", "MIT AND ISC", "(MIT)"] {
            assert_eq!(check("good", Some(license), from), None, "{license}");
        }
        for license in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "MIT WITH LLVM-exception", "none"] {
            assert!(check("good", Some(license), from).is_some(), "{license}");
        }
        assert!(check("good", None, from).is_some());
        assert!(check("good", Some("MIT"), Some("git+https://example.com/x")).is_some());
        assert_eq!(check("bad", Some("MIT"), from), Some("bad 1: banned, why".to_owned()));
        assert_eq!(check("own", None, None), None);
    }
}
