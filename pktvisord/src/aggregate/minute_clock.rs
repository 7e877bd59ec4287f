//! Decides when a minute of packet time is over and which minutes then close.

use crate::store::minutes::Retention;
use crate::store::parts::Part;
use crate::time::{MINUTE, Span, Timestamp};

/// The bucket of the live minute, which closes at its end.
pub(crate) trait Minute {
    /// Starts the first bucket at `start`.
    fn begin(&mut self, start: Timestamp);

    /// Closes the bucket at `end` and starts the next one at `next_start`.
    fn close(&mut self, end: Timestamp, next_start: Timestamp) -> Part;
}

/// Tracks the end of the live minute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MinuteClock {
    /// `None` before the first packet.
    end: Option<Timestamp>,
}

impl MinuteClock {
    /// Returns the end of the live minute; `None` before the first one.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Returns true if the live minute is over at `time`, or has not started.
    #[inline]
    pub(crate) fn is_over(&self, time: Timestamp) -> bool {
        self.end.is_none_or(|end| time >= end)
    }

    /// Returns true if `time` lies before the live minute.
    pub(crate) fn is_before(&self, time: Timestamp) -> bool {
        self.end.is_some_and(|end| time.minute() < (end - Span::from_nanos(1)).minute())
    }

    /// Makes the minute of `time` the live one.
    pub(crate) fn set(&mut self, time: Timestamp) {
        self.end = Some(Timestamp::from_minute(time.minute()) + MINUTE);
    }

    /// Advances packet time to `time` and returns the minutes that ended, empty ones included, but at
    /// most as many as are kept. They are returned together, to be handed in at once: otherwise workers
    /// would wait for each other at each of many empty minutes. The first call starts the first bucket.
    pub(crate) fn advance(
        &mut self,
        time: Timestamp,
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
        let minute = time.minute();
        // A single summary has no empty minutes.
        let kept = if retention.single { 0 } else { retention.periods as i64 };
        let first_kept = minute.saturating_sub(kept);
        loop {
            let next = end.minute().max(first_kept).min(minute);
            let next_start = Timestamp::from_minute(next);
            closed.push(live.close(end, next_start));
            end = next_start + MINUTE;
            if next >= minute {
                break;
            }
        }
        self.end = Some(end);
        closed
    }

    /// Handles a clock that was set, or packet time that went back, at `before`: closes the bucket there
    /// and starts one at `time`, without empty ones in between.
    pub(crate) fn restart(
        &mut self,
        before: Timestamp,
        time: Timestamp,
        live: &mut impl Minute,
    ) -> Part {
        let closed = live.close(before, Timestamp::from_minute(time.minute()));
        live.begin(time);
        self.set(time);
        closed
    }
}
