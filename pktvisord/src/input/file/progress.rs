//! The progress bar on a terminal while a capture is read.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with rate and remaining time on a terminal; hidden elsewhere.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Starts the bar. `total` is the number of bytes if known.
    pub(super) fn start(total: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::hidden();
        }
        let template = match total {
            Some(_) => "{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta} left",
            None => "{spinner} {bytes} {bytes_per_sec} {msg} {elapsed}",
        };
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Returns a hidden bar.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Shows the bytes and packets read so far.
    pub(super) fn set(&self, bytes: u64, packets: u64) {
        if !self.0.is_hidden() {
            self.0.set_message(format!("{packets} packets"));
            self.0.set_position(bytes);
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
