//! Feeds a capture at its own pace, or a multiple of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::aggregate::pipeline::Pipeline;
use crate::cli::Speed;
use crate::decode::block::{Block, Mark};
use crate::system::shutdown::Shutdown;

/// How long to sleep at most before looking at the shutdown and letting packet time pass.
const TICK: Duration = Duration::from_millis(20);

/// The pace of a replay: packet time against the clock.
pub struct Pace {
    speed: Speed,
    /// When the first packet was due, and its time.
    origin: Option<(Instant, i64)>,
}

impl Pace {
    /// A pace that starts with the first packet.
    pub fn new(speed: Speed) -> Self {
        Self { speed, origin: None }
    }

    /// Feeds the packets of a block as they are due. Returns false where the end was asked for.
    pub fn feed(
        &mut self,
        pipeline: &mut Pipeline,
        block: &Arc<Block>,
        shutdown: &Shutdown,
    ) -> bool {
        let Speed::Times(speed) = self.speed else {
            pipeline.feed(block, 0..block.packets.len());
            return !shutdown.asked();
        };
        let mut from = 0;
        while from < block.packets.len() {
            if shutdown.asked() {
                return false;
            }
            let next = block.packets[from].time;
            // Where packet time goes back, the pace starts anew.
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
            let now = first.saturating_add(passed as i64);
            let due =
                block.packets[from..until].iter().take_while(|packet| packet.time <= now).count();
            if due > 0 {
                pipeline.feed(block, from..from + due);
                from += due;
            } else {
                pipeline.advance(now);
                let wait = Duration::from_nanos((next.saturating_sub(now) as f64 / speed) as u64);
                std::thread::sleep(wait.min(TICK));
            }
        }
        true
    }
}
