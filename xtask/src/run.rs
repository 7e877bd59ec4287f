//! `cargo xtask run -- ARGS`: builds `pktvisord` in release mode and executes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::build_ebpf;
use crate::exec::{cargo, command_line, exec, is_root, target_dir};
use crate::setup;

/// Build pktvisord in release mode and run it with ARGS
#[derive(Args)]
pub(crate) struct Run {
    /// Arguments of pktvisord, after `--`
    #[arg(last = true)]
    args: Vec<OsString>,
}

impl Run {
    /// Replaces this process by pktvisord, so that its exit code and signals are pktvisord's.
    /// Returns only on failure.
    pub(crate) fn run(self) -> Result<()> {
        setup::for_run()?;
        let live = is_live(&self.args);
        if live && let Err(error) = build_ebpf::build() {
            eprintln!("warning: no kernel programs, capturing with libpcap instead: {error:#}");
        }
        let pktvisord = build_release()?;
        let mut pktvisord = if live && !is_root() {
            let mut sudo = Command::new("sudo");
            sudo.arg(pktvisord);
            sudo
        } else {
            Command::new(pktvisord)
        };
        pktvisord.args(self.args);
        eprintln!("$ {}", command_line(&pktvisord));
        let error = pktvisord.exec();
        Err(error).with_context(|| format!("cannot start `{}`", command_line(&pktvisord)))
    }
}

/// Returns true if the arguments ask for live capture: the target is neither a file nor standard
/// input, and no option such as `--help` or `--check-config` ends the program early.
fn is_live(args: &[OsString]) -> bool {
    let asks = |arg: &OsString| {
        let asked =
            ["-h", "--help", "-V", "--version", "--check-config", "--print-config", "--generate"];
        arg.to_str().is_some_and(|arg| asked.contains(&arg))
    };
    args.last().is_some_and(|target| target != "-" && !Path::new(target).exists())
        && !args.iter().any(asks)
}

/// Builds `pktvisord` in release mode and returns its path.
pub(crate) fn build_release() -> Result<PathBuf> {
    exec(cargo().args(["build", "--release", "--package", "pktvisord"]))?;
    Ok(target_dir()?.join("release/pktvisord"))
}
