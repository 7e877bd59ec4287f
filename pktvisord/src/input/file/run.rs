//! A capture file as an input.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use pktvisor_common::loss::Loss;
use tracing::{info, warn};

use super::pace::Pace;
use super::progress::Bar;
use super::{CaptureReader, ReadError, Speed};
use crate::aggregate::pipeline::{Clock, Pipeline, Present};
use crate::aggregate::workers::WorkerControl;
use crate::decode::block::Block;
use crate::input::status::Status;
use crate::input::{Context, Input, Options, Reloads, Running};
use crate::system::needs::Needs;

/// Maximum number of blocks kept for reuse.
const BLOCKS: usize = 8;

/// An open capture file.
pub struct FileInput {
    /// The reader.
    pub reader: CaptureReader,
    /// Name of the capture.
    pub name: String,
    /// Speed of feeding it.
    pub speed: Speed,
    /// Number of workers.
    pub workers: usize,
    /// Show the progress on the terminal.
    pub shows_progress: bool,
}

impl FileInput {
    /// Starts a run that serves no requests. A single worker then runs on the caller's thread.
    ///
    /// # Errors
    /// An I/O error if a thread cannot be started.
    pub fn start_unserved(self, context: Context) -> io::Result<RunningFile> {
        let settings = Arc::clone(&context.settings);
        let pipeline = match self.workers {
            1 => Pipeline::inline(settings, &context.store),
            more => Pipeline::threads(settings, &context.store, more)?,
        };
        Ok(self.with(pipeline, context))
    }

    fn with(self, pipeline: Pipeline, context: Context) -> RunningFile {
        let Self { reader, name, speed, shows_progress, .. } = self;
        let progress = match shows_progress {
            true => Bar::start(reader.progress().total),
            false => Bar::hidden(),
        };
        let status = Arc::new(Status::file(name));
        RunningFile { reader, pace: Pace::new(speed), progress, pipeline, status, context }
    }
}

impl Input for FileInput {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn parts(&self) -> usize {
        Pipeline::parts(self.workers)
    }

    fn reloads(&self) -> Reloads {
        Reloads { is_live: false, filter: None }
    }

    fn start(self: Box<Self>, context: Context) -> io::Result<Box<dyn Running>> {
        let settings = Arc::clone(&context.settings);
        let pipeline = Pipeline::threads(settings, &context.store, self.workers)?;
        Ok(Box::new(self.with(pipeline, context)))
    }
}

/// A capture file that is being read.
pub struct RunningFile {
    reader: CaptureReader,
    pace: Pace,
    progress: Bar,
    pipeline: Pipeline,
    status: Arc<Status>,
    context: Context,
}

impl RunningFile {
    /// Returns the counts so far.
    pub fn present(&mut self) -> Present {
        self.pipeline.present()
    }

    /// Feeds all blocks. Returns early if shutdown is requested.
    fn feed_all(&mut self, changes: &Receiver<Options>) -> Result<(), ReadError> {
        let Self { reader, pace, progress, pipeline, status, context } = self;
        let mut goes_on = || {
            if let Some(options) = changes.try_iter().last() {
                context.settings.hosts.set(options.hosts);
            }
            !context.shutdown.asked()
        };
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        loop {
            let free = blocks.iter_mut().position(|block| Arc::get_mut(block).is_some());
            let mut block = free.map(|at| blocks.swap_remove(at)).unwrap_or_default();
            let Some(exclusive) = Arc::get_mut(&mut block) else {
                unreachable!("nobody else has it")
            };
            let more = reader.next_block(exclusive);
            pipeline.count_unread(reader.take_unread());
            status.set_timeless(reader.lacks_times());
            if !matches!(more, Ok(true)) {
                let drops = reader.drops();
                pipeline.lose(Loss::IfDrops, drops.interface);
                pipeline.lose(Loss::KernelDrops, drops.system);
                return more.map(|_| ());
            }
            let goes_on = pace.feed(pipeline, &block, &mut goes_on);
            progress.set(reader.progress().bytes_read, pipeline.packets());
            if !goes_on {
                return Ok(());
            }
            if blocks.len() < BLOCKS {
                blocks.push(block);
            }
        }
    }

    /// Logs the reader's warnings, a truncation, and the number of packets that the filter dropped.
    fn report(&self, read: &Result<(), ReadError>) {
        let (reader, name) = (&self.reader, &self.status.names().join(", "));
        for warning in reader.warnings() {
            warn!("{name}: {warning}");
        }
        if let Some(truncation) = reader.truncation().filter(|_| read.is_ok()) {
            warn!("{name}: {truncation}; the summary covers the packets before it");
        }
        if reader.has_filter() {
            info!("the filter rejected {} packets", reader.filtered_out());
        }
    }
}

impl Running for RunningFile {
    fn control(&self) -> WorkerControl {
        self.pipeline.control()
    }

    fn clock(&self) -> Arc<Clock> {
        self.pipeline.clock()
    }

    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    fn run(&mut self, changes: &Receiver<Options>) -> Result<(), ReadError> {
        let read = self.feed_all(changes);
        self.progress.finish();
        self.pipeline.end_input();
        self.status.finish();
        if !self.context.shutdown.asked() {
            self.report(&read);
        }
        read
    }
}
