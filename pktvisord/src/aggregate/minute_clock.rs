//! Decides when a minute of packet time is over and which minutes then close.

use crate::store::minutes::Retention;
use crate::store::parts::Part;
use crate::time::{MINUTE, minute_of};

/// The bucket of the live minute, which closes at its end.
pub trait Minute {
    /// Starts the first bucket at `start`.
    fn begin(&mut self, start: i64);

    /// Closes the bucket at `end` and starts the next one at `next_start`.
    fn close(&mut self, end: i64, next_start: i64) -> Part;
}

/// Tracks the end of the live minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinuteClock {
    /// `None` before the first packet.
    end: Option<i64>,
}

impl MinuteClock {
    /// Returns the end of the live minute; `None` before the first one.
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// Returns true if the live minute is over at `time`, or has not started.
    #[inline]
    pub fn is_over(&self, time: i64) -> bool {
        self.end.is_none_or(|end| time >= end)
    }

    /// Returns true if `time` lies before the live minute.
    pub fn is_before(&self, time: i64) -> bool {
        self.end.is_some_and(|end| minute_of(time) < minute_of(end.saturating_sub(1)))
    }

    /// Makes the minute of `time` the live one.
    pub fn set(&mut self, time: i64) {
        self.end = Some(minute_of(time).saturating_add(1).saturating_mul(MINUTE));
    }

    /// Advances packet time to `time` and returns the minutes that ended, empty ones included, but at
    /// most as many as are kept. They are returned together, to be handed in at once: otherwise workers
    /// would wait for each other at each of many empty minutes. The first call starts the first bucket.
    pub fn advance(
        &mut self,
        time: i64,
        retention: Retention,
        live: &mut impl Minute,
    ) -> Vec<Part> {
        let mut closed = Vec::new();
        let Some(mut end) = self.end else {
            live.begin(time);
            self.set(time);
            return closed;
        };
        if time < end {
            return closed;
        }
        let minute = minute_of(time);
        // A single summary has no empty minutes.
        let kept = if retention.single { 0 } else { retention.periods as i64 };
        let first_kept = minute.saturating_sub(kept);
        loop {
            let next = minute_of(end).max(first_kept).min(minute);
            let next_start = next.saturating_mul(MINUTE);
            closed.push(live.close(end, next_start));
            end = next_start.saturating_add(MINUTE);
            if next >= minute {
                break;
            }
        }
        self.end = Some(end);
        closed
    }

    /// Handles a clock that was set, or packet time that went back, at `before`: closes the bucket there
    /// and starts one at `time`, without empty ones in between.
    pub fn restart(&mut self, before: i64, time: i64, live: &mut impl Minute) -> Part {
        let closed = live.close(before, minute_of(time).saturating_mul(MINUTE));
        live.begin(time);
        self.set(time);
        closed
    }
}
