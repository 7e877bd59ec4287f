//! Inputs: sources of packets. Each kind has a module and implements [`Input`].
//!
//! * [`kernel`]: interfaces, through kernel programs.
//! * `libpcap`: interfaces, through libpcap.
//! * [`mod@file`]: a capture file, read or replayed.
//! * `live`: chooses between the first two.
//! * [`target`]: chooses the kind of input by the TARGET argument.
//!
//! The inputs share `interface`, [`netlink`] and [`filter`].

pub mod file;
pub mod filter;
pub(crate) mod interface;
pub mod kernel;
pub(crate) mod libpcap;
pub(crate) mod live;
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

/// An open input that has not started. All privileged work is done.
pub trait Input {
    /// Returns the rights it needs from now on.
    fn needs(&self) -> Needs;

    /// Returns the number of parts that its workers hand in for each minute, at least 1.
    fn parts(&self) -> usize;

    /// Returns how it handles changed options.
    fn reloads(&self) -> Reloads;

    /// Starts its workers, each on a thread of its own.
    ///
    /// # Errors
    /// An I/O error if a thread cannot be started.
    fn start(self: Box<Self>, context: Context) -> io::Result<Box<dyn Running>>;
}

/// A running input. Its workers end when it is dropped.
pub trait Running {
    /// Returns the control of its workers.
    fn control(&self) -> WorkerControl;

    /// Returns the clock of packet time.
    fn clock(&self) -> Arc<Clock>;

    /// Returns its status.
    fn status(&self) -> Arc<Status>;

    /// Takes in packets on this thread until there are no more or shutdown is requested. Applies
    /// the options that arrive in `changes`.
    ///
    /// # Errors
    /// [`ReadError`] if a capture file cannot be read to its end.
    fn run(&mut self, changes: &Receiver<Options>) -> Result<(), ReadError>;
}

/// The environment of an input.
#[derive(Clone)]
pub struct Context {
    /// Settings that the summaries depend on.
    pub settings: Arc<Settings>,
    /// Destination of closed minutes.
    pub store: Arc<Store>,
    /// Tells when shutdown is requested.
    pub shutdown: Shutdown,
}

/// Options of an input that can change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses of HOST, in addition to those of the watched interfaces.
    pub hosts: HostSpec,
    /// The filter expression in libpcap's language.
    pub filter: Option<String>,
}

/// An input's handling of changed options.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// True for live capture: packet time is the wall clock, so a change takes effect at the
    /// present time.
    pub is_live: bool,
    /// Link types for which a new filter must compile; `None` if the filter cannot change.
    pub filter: Option<Vec<LinkType>>,
}
