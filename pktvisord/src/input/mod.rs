//! Inputs: where packets come from. Each kind is a folder, and all of them are an [`Input`].
//!
//! * [`kernel`]: interfaces, by programs in the kernel.
//! * [`libpcap`]: interfaces, through libpcap.
//! * [`mod@file`]: a capture file, read or replayed.
//! * [`live`]: which of the first two it is.
//! * [`target`]: which of all it is, by the TARGET of the command line.
//!
//! [`interface`], [`netlink`] and [`filter`] are what several of them use.

pub mod file;
pub mod filter;
pub mod interface;
pub mod kernel;
pub mod libpcap;
pub mod live;
pub mod netlink;
pub mod status;
pub mod target;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use self::file::ReadError;
use self::status::Status;
use crate::aggregate::host::HostSpec;
use crate::aggregate::pipeline::Clock;
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::WorkerControl;
use crate::decode::block::LinkType;
use crate::store::Store;
use crate::system::needs::Needs;
use crate::system::shutdown::Shutdown;

/// An input that is open and has not started: what takes rights is done.
pub trait Input {
    /// Returns what it needs from now on.
    fn needs(&self) -> Needs;

    /// Returns the number of parts that its workers hand in of each minute, at least 1.
    fn parts(&self) -> usize;

    /// Returns what it does with options that change.
    fn reloads(&self) -> Reloads;

    /// Starts its workers, each on a thread of its own.
    ///
    /// # Errors
    /// Where a thread can't be started.
    fn start(self: Box<Self>, context: Context) -> io::Result<Box<dyn Running>>;
}

/// An input whose workers run; they end when this is dropped.
pub trait Running {
    /// Returns the way to its workers.
    fn control(&self) -> WorkerControl;

    /// Returns the present of packet time.
    fn clock(&self) -> Arc<Clock>;

    /// Returns what it tells of itself.
    fn status(&self) -> Arc<Status>;

    /// Takes packets in on this thread until there are no more or the end is asked for, and goes by
    /// `changes` of options meanwhile.
    ///
    /// # Errors
    /// Where a capture file can't be read on.
    fn run(&mut self, changes: &Receiver<Options>) -> Result<(), ReadError>;
}

/// What an input works with.
#[derive(Clone)]
pub struct Context {
    /// What the summaries depend on.
    pub settings: Arc<Settings>,
    /// Where closed minutes go.
    pub store: Arc<Store>,
    /// Tells when the end is asked for.
    pub shutdown: Shutdown,
}

/// Options that an input goes by and that can change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The addresses of HOST, besides those of what is watched.
    pub hosts: HostSpec,
    /// The filter, in libpcap's language.
    pub filter: Option<String>,
}

/// What an input does with options that change.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// Whether packets have the time of the clock, and so does what changes.
    pub is_live: bool,
    /// The link layers that a new filter has to compile for; `None` where the filter stays.
    pub filter: Option<Vec<LinkType>>,
}
