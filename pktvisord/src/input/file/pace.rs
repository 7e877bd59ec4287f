//! Feeds a capture at its own pace, at a multiple of it, or as fast as it can be read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::aggregate::pipeline::Pipeline;
use crate::decode::block::{Block, Mark};
use crate::time::{Span, Timestamp};

/// Longest sleep before checking for shutdown and advancing packet time.
const TICK: Duration = Duration::from_millis(20);

/// Speed of feeding a capture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// A multiple of the capture's own pace.
    Times(f64),
    /// As fast as the capture can be read.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.parse::<f64>() {
            Ok(speed) if speed > 0.0 && speed <= 1e6 => Ok(Speed::Times(speed)),
            _ => Err("expected a number above 0 and up to 1000000, or `max`".into()),
        }
    }
}

/// Pace of a replay: maps packet time to real time.
pub(super) struct Pace {
    speed: Speed,
    /// The instant at which the first packet was due, and its time.
    origin: Option<(Instant, Timestamp)>,
}

impl Pace {
    /// Creates a pace that starts with the first packet.
    pub(super) fn new(speed: Speed) -> Self {
        Self { speed, origin: None }
    }

    /// Feeds the packets of a block when they are due. `goes_on` is called every few milliseconds;
    /// returns false once it returned false.
    pub(super) fn feed(
        &mut self,
        pipeline: &mut Pipeline,
        block: &Arc<Block>,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> bool {
        let Speed::Times(speed) = self.speed else {
            pipeline.feed(block, 0..block.packets.len());
            return goes_on();
        };
        let mut from = 0;
        while from < block.packets.len() {
            if !goes_on() {
                return false;
            }
            let next = block.packets[from].time;
            // If packet time goes back, the pace starts over.
            let back = block.marks.iter().filter(|&&(_, mark)| mark == Mark::Back);
            let mut back = back.map(|&(place, _)| place as usize).skip_while(|at| *at < from);
            let mut until = back.next();
            if until == Some(from) {
                self.origin = None;
                until = back.next();
            }
            let until = until.unwrap_or(block.packets.len());
            let (started, first) = *self.origin.get_or_insert_with(|| (Instant::now(), next));
            let passed = started.elapsed().as_nanos() as f64 * speed;
            let now = first + Span::from_nanos(passed as i64);
            let due =
                block.packets[from..until].iter().take_while(|packet| packet.time <= now).count();
            if due > 0 {
                pipeline.feed(block, from..from + due);
                from += due;
            } else {
                pipeline.advance(now);
                let ahead = (next - now).as_nanos() as f64;
                let wait = Duration::from_nanos((ahead / speed) as u64);
                std::thread::sleep(wait.min(TICK));
            }
        }
        goes_on()
    }
}
