//! The command line.

use clap::Parser;

use crate::address::{Address, DEFAULT_PORT};
use crate::client::Period;

/// The window that is shown, where there is so much, when none is asked for.
pub(crate) const DEFAULT_WINDOW: u64 = 5;

/// Print a report of what a running pktvisord has seen in the last minutes
#[derive(Debug, Parser)]
#[command(name = "pktvisor", version, after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// Where pktvisord is: HOST, HOST:PORT or an http URL
    #[arg(value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    address: Option<Address>,

    /// Host that pktvisord runs on
    #[arg(short = 'H', long, value_name = "HOST", default_value = "localhost")]
    host: String,

    /// Port that it listens on
    #[arg(short, long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    port: u16,

    /// Show the last N minutes merged [default: as many as there are, up to 5]
    #[arg(long, value_name = "N", conflicts_with = "bucket")]
    window: Option<u64>,

    /// Show one minute: 0 is the current one, 1 the one before it
    #[arg(long, value_name = "N")]
    bucket: Option<u64>,

    /// Print the JSON that pktvisord answers with
    #[arg(long)]
    pub(crate) json: bool,
}

const EXIT_CODES: &str = "\
Colour is used on a terminal, unless NO_COLOR is set.

Exit codes: 0 done, 1 cannot write the output, 2 wrong usage, 3 cannot reach pktvisord,
4 pktvisord answered with an error or what answered is not pktvisord";

impl Options {
    /// Where pktvisord is.
    pub(crate) fn address(&self) -> Address {
        self.address.clone().unwrap_or_else(|| Address::new(&self.host, self.port))
    }

    /// What was asked for.
    pub(crate) fn period(&self) -> Option<Period> {
        self.window.map(Period::Window).or(self.bucket.map(Period::Bucket))
    }
}
