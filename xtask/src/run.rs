//! `cargo xtask run -- ARGS`: builds `pktvisord` for use and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::exec::{cargo, command_line, exec, target_dir};
use crate::setup;

/// Build pktvisord in release and run it with ARGS.
#[derive(Args)]
pub struct Run {
    /// What pktvisord gets, after `--`.
    #[arg(last = true)]
    args: Vec<OsString>,
}

impl Run {
    /// Carries the command out. Returns only on a failure: exit code and signals are
    /// pktvisord's own.
    pub fn run(self) -> Result<()> {
        setup::for_run()?;
        let mut pktvisord = Command::new(build_release()?);
        pktvisord.args(self.args);
        eprintln!("$ {}", command_line(&pktvisord));
        let error = pktvisord.exec();
        Err(error).with_context(|| format!("cannot start `{}`", command_line(&pktvisord)))
    }
}

/// Builds `pktvisord` in release and returns its path.
pub fn build_release() -> Result<PathBuf> {
    exec(cargo().args(["build", "--release", "--package", "pktvisord"]))?;
    Ok(target_dir()?.join("release/pktvisord"))
}
