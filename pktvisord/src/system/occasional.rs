//! Things that may happen ten times a second and are to be logged once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long things are only counted after one that was logged.
const PAUSE: Duration = Duration::from_mins(1);

/// How often something has happened, and when it was last logged.
#[derive(Debug, Default)]
pub struct Occasional(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    /// How many there were when one was last logged, and when that was.
    logged: Option<(u64, Instant)>,
}

impl Occasional {
    /// Takes in that it has happened. Where it is to be logged, returns how often it happened since
    /// the last time that was logged, this time included.
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

    /// How often it has happened.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_once_a_minute_with_those_between() {
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
