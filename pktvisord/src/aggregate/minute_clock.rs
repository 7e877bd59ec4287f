//! When a minute of packet time is over, and which minutes close then.

use crate::store::minutes::Retention;
use crate::store::parts::Part;
use crate::time::{MINUTE, minute_of};

/// The bucket of the live minute, which is closed at its end.
pub trait Minute {
    /// The first bucket starts at `start`.
    fn begin(&mut self, start: i64);

    /// Closes the bucket at `end` and goes on with the one that starts at `next_start`.
    fn close(&mut self, end: i64, next_start: i64) -> Part;
}

/// The end of the live minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinuteClock {
    /// `None` before the first packet.
    end: Option<i64>,
}

impl MinuteClock {
    /// The end of the live minute; `None` before the first one.
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// Whether the live minute is over at `time`, or there is none yet.
    #[inline]
    pub fn is_over(&self, time: i64) -> bool {
        self.end.is_none_or(|end| time >= end)
    }

    /// Whether `time` lies before the live minute.
    pub fn is_before(&self, time: i64) -> bool {
        self.end.is_some_and(|end| minute_of(time) < minute_of(end.saturating_sub(1)))
    }

    /// The minute that `time` lies in is the live one from now on.
    pub fn set(&mut self, time: i64) {
        self.end = Some(minute_of(time).saturating_add(1).saturating_mul(MINUTE));
    }

    /// Lets packet time pass up to `time`. Minutes that ended before it are closed, the missed ones
    /// too, at most as many as are kept; these are returned, to be handed in together: workers do not
    /// wait for each other at each of many empty minutes. The first call starts the first bucket.
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
        // Of a single summary no minute is empty.
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

    /// The clock was set, or packet time has gone back, while it was `before`: the bucket is closed
    /// there, and one starts at `time`, without empty ones between.
    pub fn restart(&mut self, before: i64, time: i64, live: &mut impl Minute) -> Part {
        let closed = live.close(before, minute_of(time).saturating_mul(MINUTE));
        live.begin(time);
        self.set(time);
        closed
    }
}
