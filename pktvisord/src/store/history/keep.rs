//! Bounds of the history in size and time.

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Maximum bytes of the file. At the bound the finest and oldest periods go first.
    pub bytes: u64,
    /// Seconds for which minutes are kept in full.
    pub minutes: i64,
    /// Seconds for which the counters, rates and histograms of minutes are kept.
    pub counters: i64,
    /// Seconds for which hours are kept.
    pub hours: i64,
    /// Seconds for which days are kept; `None` without end.
    pub days: Option<i64>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { bytes: 2 << 30, minutes: DAY, counters: 7 * DAY, hours: 90 * DAY, days: None }
    }
}
