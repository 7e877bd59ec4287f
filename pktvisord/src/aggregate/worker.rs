//! A worker that reads every packet of the flows it owns: the only worker of a capture, or the worker of
//! one kernel ring buffer.

use std::sync::Arc;

use pktvisor_common::abi::{Counters, SampleHeader};
use pktvisor_common::loss::Loss;

use crate::aggregate::bucket::Bucket;
use crate::aggregate::flows::{Flows, Forwarded, Share};
use crate::aggregate::minute_clock::{Minute, MinuteClock};
use crate::aggregate::scanner::{Piece, Scanner};
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::Step;
use crate::store::Intake;
use crate::store::parts::Part;
use crate::time::Timestamp;

/// A worker that reads every packet of the flows it owns.
pub struct Worker {
    live: Live,
    minutes: MinuteClock,
    store: Intake,
    /// Latest packet time seen, in nanoseconds.
    latest: Timestamp,
}

/// State of the live minute.
struct Live {
    scanner: Scanner,
    flows: Flows,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.store.leave(self.number());
        }
    }
}

impl Minute for Live {
    fn begin(&mut self, start: Timestamp) {
        self.scanner.bucket.begin(start);
    }

    fn close(&mut self, end: Timestamp, next_start: Timestamp) -> Part {
        self.flows.close(&mut self.scanner, end, next_start)
    }
}

impl Worker {
    /// Creates the only worker of an input. It hands its closed minutes to `store`.
    pub fn alone(settings: Arc<Settings>, store: Intake) -> Self {
        let flows = Flows::new(Share { worker: 0, of: 1 }, settings.timeout);
        Self::with(flows, settings, store)
    }

    /// Creates a worker for a source that distributes packets by flow. Fragments are the exception: the
    /// datagrams reassembled from them may belong to other workers, see [`Self::take_forwarded`].
    pub fn of_spread_packets(settings: Arc<Settings>, store: Intake, share: Share) -> Self {
        let flows = Flows::of_spread_packets(share, settings.timeout);
        Self::with(flows, settings, store)
    }

    fn with(flows: Flows, settings: Arc<Settings>, store: Intake) -> Self {
        let live = Live { scanner: Scanner::new(settings), flows };
        Self { live, minutes: MinuteClock::default(), store, latest: Timestamp::MIN }
    }

    /// Returns the number of this worker, from 0.
    pub fn number(&self) -> usize {
        self.live.flows.share().worker
    }

    /// Applies the current settings.
    pub fn reload(&mut self) {
        self.live.scanner.reload(self.minutes.end());
    }

    /// Returns the items to forward to other workers and clears the list.
    pub fn take_forwarded(&mut self) -> Vec<Forwarded> {
        self.live.flows.take_forwarded()
    }

    /// Processes an item that another worker forwarded.
    pub fn take(&mut self, forwarded: &Forwarded) {
        self.live.flows.take(&mut self.live.scanner, forwarded);
    }

    /// Processes a step of the input.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Read(piece) => self.read(piece),
            Step::Advance(time) => self.advance(*time),
            Step::Back { before, time } => {
                self.restart(*before, *time);
                self.live.scanner.bucket.next_turn();
            }
            Step::End(_) => self.end_input(),
            Step::Nothing => {}
        }
    }

    /// Reads packets of a block. All of them belong to the live minute.
    pub fn read(&mut self, piece: &Piece) {
        self.live.scanner.read(piece, &mut self.live.flows);
        self.latest = self.latest.max(piece.latest);
    }

    /// Processes one record from the kernel, of a packet captured at `time`. All flows of a ring belong to
    /// this worker, except those of datagrams reassembled from fragments.
    #[inline]
    pub fn sample(&mut self, header: &SampleHeader, bytes: &[u8], time: Timestamp) {
        let Live { scanner, flows } = &mut self.live;
        if flows.is_due(time) {
            flows.give_up_fragments(scanner, time);
        }
        self.latest = self.latest.max(time);
        scanner.sample(header, bytes, time, flows);
    }

    /// Adds the kernel's counters, see `Bucket::add_counted`.
    pub fn add_counted(&mut self, counted: &Counters, time: Option<Timestamp>) {
        self.live.scanner.bucket.add_counted(counted, time);
    }

    /// Advances packet time to `time`, see `MinuteClock::advance`.
    pub fn advance(&mut self, time: Timestamp) {
        self.live.scanner.follow_hosts();
        if self.minutes.end().is_none() {
            self.latest = time;
        }
        let closed = self.minutes.advance(time, self.store.retention(), &mut self.live);
        if !closed.is_empty() {
            self.store.hand_in(self.number(), closed);
        }
    }

    /// Restarts at `time` after the clock was set at `before`, see `MinuteClock::restart`.
    pub fn restart(&mut self, before: Timestamp, time: Timestamp) {
        let closed = self.minutes.restart(before, time, &mut self.live);
        self.store.hand_in(self.number(), vec![closed]);
        self.latest = time;
    }

    /// Counts packets of an unsupported link type.
    pub fn count_unread(&mut self, packets: u64) {
        self.live.scanner.bucket.count_unread(packets);
    }

    /// Counts losses that happened before the worker.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        self.live.scanner.bucket.account.lose(loss, count);
    }

    /// Ends the input: reads incomplete data as far as it goes.
    pub fn end_input(&mut self) {
        let latest = self.minutes.end().map(|_| self.latest);
        self.live.flows.end_input(&mut self.live.scanner, latest);
    }

    /// Returns a copy of the live bucket as of `now`, to be merged elsewhere.
    pub fn snapshot(&mut self, now: Timestamp) -> Bucket {
        self.live.flows.snapshot(&mut self.live.scanner.bucket, now)
    }
}
