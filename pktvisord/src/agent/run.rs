//! The common parts of every run: options, async runtime and signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::Runtime;

use super::error::{AppError, system};
use crate::aggregate::settings::Settings;
use crate::config::Config;
use crate::input::Context;
use crate::store::Store;
use crate::store::minutes::Retention;
use crate::system::shutdown::Shutdown;

/// Threads for blocking work: three responses, a liveness check and a reload. The allocator keeps
/// separate memory for each thread, which a summary fills to some MiB.
const BLOCKING: usize = 5;

/// Threads of the async runtime.
const RUNTIME: usize = 2;
/// File descriptors for the runtime and its signals, and some for connections.
const DESCRIPTORS: usize = 16;
/// Error text if file descriptors or threads are short.
const NO_ROOM: &str = "not enough file descriptors or threads; raise `ulimit -n` and `ulimit -u`";

/// Checks that the async runtime can start: tokio panics if it gets no thread or no descriptor.
fn room() -> io::Result<()> {
    let descriptor = |_| eventfd(0, EventfdFlags::CLOEXEC);
    let _descriptors = (0..DESCRIPTORS).map(descriptor).collect::<rustix::io::Result<Vec<_>>>()?;
    let waiting = Arc::new(AtomicBool::new(true));
    let threads = (0..RUNTIME + BLOCKING).map(|_| {
        let waiting = Arc::clone(&waiting);
        std::thread::Builder::new().spawn(move || {
            while waiting.load(Ordering::Relaxed) {
                std::thread::park();
            }
        })
    });
    let threads: Vec<io::Result<_>> = threads.collect();
    waiting.store(false, Ordering::Relaxed);
    let mut result = Ok(());
    for thread in threads {
        match thread {
            Ok(thread) => {
                thread.thread().unpark();
                // The thread cannot panic.
                let _ = thread.join();
            }
            Err(error) => result = Err(error),
        }
    }
    result
}

/// The common parts of a run.
pub(super) struct Run<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) settings: Arc<Settings>,
    pub(super) runtime: Runtime,
    pub(super) shutdown: Shutdown,
}

impl<'a> Run<'a> {
    /// Starts the async runtime and listens for signals.
    ///
    /// # Errors
    /// [`AppError::System`] if file descriptors or threads are short.
    pub(super) fn new(config: &'a Arc<Config>, settings: Arc<Settings>) -> Result<Self, AppError> {
        room().map_err(system(NO_ROOM))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME)
            .max_blocking_threads(BLOCKING)
            .enable_all()
            .build()
            .map_err(system("cannot start the async runtime"))?;
        let shutdown = {
            let _guard = runtime.enter();
            Shutdown::listen().map_err(system("cannot listen for signals"))?
        };
        Ok(Self { config, settings, runtime, shutdown })
    }

    /// Returns the context of an input that writes its minutes to `store`.
    pub(super) fn context(&self, store: &Arc<Store>) -> Context {
        Context {
            settings: Arc::clone(&self.settings),
            store: Arc::clone(store),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Returns how many minutes to keep.
    pub(super) fn retention(&self) -> Retention {
        let policy = &self.config.model.policy;
        Retention { periods: policy.periods as usize, single: policy.summary }
    }
}
