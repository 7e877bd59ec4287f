//! Rate limit for log messages: an event that may occur ten times a second is logged once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time after a logged event in which further events are only counted.
const PAUSE: Duration = Duration::from_mins(1);

/// Counts an event and remembers when it was last logged.
#[derive(Debug, Default)]
pub struct Occasional(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    /// The count and the time of the last logged event.
    logged: Option<(u64, Instant)>,
}

impl Occasional {
    /// Counts one event. If it is to be logged, returns the number of events since the last logged
    /// one, including this one.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all += 1;
        let (before, at) = counts.logged.map_or((0, None), |(all, at)| (all, Some(at)));
        if at.is_some_and(|at| now.duration_since(at) < PAUSE) {
            return None;
        }
        counts.logged = Some((counts.all, now));
        Some(counts.all - before)
    }

    /// Returns the number of events so far.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_once_a_minute_with_count_since_last_log() {
        let (occasional, start) = (Occasional::default(), Instant::now());
        let logged: Vec<(u64, u64)> = (0..1_300)
            .filter_map(|tenth| {
                let at = start + Duration::from_millis(100) * tenth;
                Some((u64::from(tenth), occasional.happened(at)?))
            })
            .collect();
        assert_eq!(logged, [(0, 1), (600, 600), (1_200, 600)]);
        assert_eq!(occasional.count(), 1_300);
    }
}
