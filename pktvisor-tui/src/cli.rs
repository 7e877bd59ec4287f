//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum, value_parser};
use pktvisor_common::moment::Moment;

use crate::address::{Address, DEFAULT_PORT};
use crate::client::Period;

/// The default window in minutes. It is shorter while the daemon has fewer minutes.
pub(crate) const DEFAULT_WINDOW: u64 = 5;

/// Dashboard for one or more running pktvisord daemons
#[derive(Debug, Parser)]
#[command(name = "pktvisor", version, after_help = AFTER)]
pub(crate) struct Options {
    /// Address of pktvisord: HOST, HOST:PORT or an http or https URL; several addresses form a fleet
    #[arg(value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    addresses: Vec<Address>,

    /// Host that runs pktvisord
    #[arg(short = 'H', long, value_name = "HOST", default_value = "localhost")]
    host: String,

    /// Port that pktvisord listens on
    #[arg(short, long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Show the last N minutes, merged [default: 5, or as many as are available]
    #[arg(long, value_name = "N", conflicts_with = "bucket", value_parser = range(1..=PERIODS))]
    window: Option<u64>,

    /// Show one minute: 0 is the current minute, 1 the minute before it
    #[arg(long, value_name = "N", value_parser = range(0..=PERIODS - 1))]
    bucket: Option<u64>,

    /// Show the time from MOMENT on: "2026-11-01 10:00" (UTC), "2026-11-01T10:00+01:00", or a time
    /// before now such as -2h or "-1d 12h"
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, conflicts_with_all = ["window", "bucket"])]
    from: Option<Moment>,

    /// End of the time that --from starts [default: now]
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, requires = "from")]
    to: Option<Moment>,

    /// Send the token in this file (first line) to each pktvisord
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Trust these certificate authorities (PEM) instead of the system's, with https
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Client certificate for https (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Seconds between two requests to each pktvisord
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    pub(crate) interval: f64,

    /// Print one frame of the dashboard as text
    #[arg(long, conflicts_with_all = ["report", "json"])]
    pub(crate) once: bool,

    /// Print a report for each pktvisord; the default if standard output is not a terminal
    #[arg(long, conflicts_with = "json")]
    pub(crate) report: bool,

    /// Print the JSON that each pktvisord returns
    #[arg(long)]
    pub(crate) json: bool,

    /// Colour theme of the dashboard
    #[arg(long, value_name = "THEME", value_enum, default_value_t = ThemeName::Dark)]
    pub(crate) theme: ThemeName,

    /// When to use colour; auto uses it on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    pub(crate) color: When,
}

/// The colours that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThemeName {
    /// For a dark background
    Dark,
    /// For a light background
    Light,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    Auto,
    /// For any output
    Always,
    /// For no output
    Never,
}

const AFTER: &str = "\
In the dashboard, press ? for a list of the keys.

Exit codes: 0 success, 1 cannot use the terminal or write the output, 2 invalid arguments,
3 cannot reach pktvisord, 4 pktvisord returned an error or the answer is not from pktvisord";

/// Maximum number of minutes that a pktvisord keeps.
const PERIODS: u64 = 1_440;

fn range(range: std::ops::RangeInclusive<u64>) -> clap::builder::RangedU64ValueParser {
    value_parser!(u64).range(range)
}

/// Parses seconds from 0.1 to 3600.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.1 to 3600".to_owned()),
    }
}

impl Options {
    /// Returns the addresses of all daemons, at least one.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        match self.addresses[..] {
            [] => vec![Address::new(&self.host, self.port)],
            _ => self.addresses.clone(),
        }
    }

    /// Returns the requested period.
    pub(crate) fn period(&self) -> Period {
        let to = self.to.unwrap_or(Moment::Ago(0));
        let range = self.from.map(|from| Period::Range { from, to });
        let bucket = self.bucket.map(Period::Bucket);
        self.window.map(Period::Window).or(bucket).or(range).unwrap_or_default()
    }

    /// Returns true if the user named the period, so that no nearer one is shown instead.
    pub(crate) fn is_exact(&self) -> bool {
        self.window.is_some() || self.bucket.is_some() || self.from.is_some()
    }
}
