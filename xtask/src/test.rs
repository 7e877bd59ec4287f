//! `cargo xtask test`: all checks that a change must pass.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::build_ebpf;
use crate::dependencies;
use crate::exec::{cargo, exec, has_cargo_command, root};
use crate::fuzz;
use crate::setup;

/// Runs all steps, stops at the first failure, and prints the duration of each.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    let result = all(&mut steps);
    println!("\n{}", steps.table());
    result
}

/// Runs the steps, in an order that finds most failures early.
fn all(steps: &mut Steps) -> Result<()> {
    steps.step("set up", setup::for_test)?;
    steps.step("formatting", formatting)?;
    // Before the steps that compile the daemon, which embeds the kernel programs.
    steps.step("kernel programs", || build_ebpf::build().map(drop))?;
    steps.step("dependencies", dependencies::check)?;
    steps.step("clippy", || {
        exec(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    // The tests include the bodies of the targets, but not the targets, which are a crate apart.
    steps.step("fuzz targets", || {
        exec(cargo().args(["check", "--bins"]).current_dir(fuzz::folder()))
    })?;
    if has_doc_tests(&root())? {
        steps
            .step("documentation tests", || exec(cargo().args(["test", "--workspace", "--doc"])))?;
    }
    steps.step("tests", tests)?;
    steps.step("documentation", || {
        exec(cargo().env("RUSTDOCFLAGS", "-D warnings").args([
            "doc",
            "--no-deps",
            "--workspace",
            "--document-private-items",
        ]))
    })?;
    Ok(())
}

/// Checks the formatting of the workspace and of the crates outside it.
fn formatting() -> Result<()> {
    exec(cargo().args(["fmt", "--all", "--check"]))?;
    for apart in ["pktvisor-ebpf", "pktvisord/fuzz"] {
        let manifest = root().join(apart).join("Cargo.toml");
        if manifest.exists() {
            exec(cargo().args(["fmt", "--check", "--manifest-path"]).arg(manifest))?;
        }
    }
    Ok(())
}

/// Runs every test of the workspace, with nextest if it is installed.
fn tests() -> Result<()> {
    let runner: &[&str] = if has_cargo_command("nextest")? {
        &["nextest", "run", "--workspace"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests"]
    };
    exec(cargo().args(runner))
}

/// Returns true if a library under `dir` has a documentation test. Without any, the step is left
/// out: a run of zero tests would look like a run that lost its tests.
fn has_doc_tests(dir: &Path) -> Result<bool> {
    for krate in ["pktvisor-common", "pktvisord"] {
        if any_doc_test(&dir.join(krate).join("src"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true if a source file under `dir` has a documentation test.
fn any_doc_test(dir: &Path) -> Result<bool> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let found = if path.is_dir() {
            any_doc_test(&path)?
        } else {
            has_example(&fs::read_to_string(&path)?)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true if a documentation comment in `source` has a code block that rustdoc runs as a
/// test: a Rust block, or one without a language.
fn has_example(source: &str) -> bool {
    let fences = source.lines().filter_map(|line| {
        let line = line.trim_start();
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
        comment.trim_start().strip_prefix("```")
    });
    // Every other fence closes a block.
    let mut openings = fences.step_by(2);
    openings
        .any(|info| matches!(info.trim(), "" | "rust" | "no_run" | "should_panic" | "compile_fail"))
}

/// The completed steps: name, duration, and true if the step passed.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration, bool)>);

impl Steps {
    /// Runs the step `name` under a heading and records its duration.
    fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        let result = body();
        let took = start.elapsed();
        println!("== {name}: {:.1} s", took.as_secs_f64());
        self.0.push((name, took, result.is_ok()));
        result.with_context(|| format!("step \"{name}\" failed"))
    }

    /// Formats one line for each step, and one for the total.
    fn table(&self) -> String {
        let lines = self.0.iter().map(|(name, took, passed)| {
            let end = if *passed { "" } else { "  FAILED" };
            format!("{name:<20} {:>7.1} s{end}\n", took.as_secs_f64())
        });
        let total: Duration = self.0.iter().map(|(_, took, _)| took).sum();
        format!("{}{:<20} {:>7.1} s", lines.collect::<String>(), "all", total.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_marks_failed_step() {
        let mut steps = Steps::default();
        steps.step("good", || Ok(())).unwrap();
        let error = steps.step("bad", || anyhow::bail!("why")).unwrap_err();
        assert_eq!(format!("{error:#}"), "step \"bad\" failed: why");
        let table = steps.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("good ") && lines[0].ends_with(" s"));
        assert!(lines[1].starts_with("bad ") && lines[1].ends_with(" FAILED"));
    }

    #[test]
    fn distinguishes_doc_tests_from_other_code_blocks() {
        assert!(has_example("    /// ```\n    /// f();\n    /// ```"));
        assert!(has_example("//! ```text\n//! ```\n//! ```rust"));
        assert!(!has_example("/// ```text\n/// a diagram\n/// ```"));
        assert!(!has_example("    let fence = \"```\";"));
    }
}
