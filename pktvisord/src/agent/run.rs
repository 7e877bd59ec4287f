//! What each run of the daemon has: the options, the async runtime, the signals.

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

/// Threads for what takes a while: two answers, a look whether all workers live, a reload. Each has
/// memory of its own from the allocator, which a summary fills to some MiB.
const BLOCKING: usize = 4;

/// Threads of the async runtime.
const RUNTIME: usize = 2;
/// File descriptors that the runtime and its signals take, and some for connections.
const DESCRIPTORS: usize = 16;
/// What is said where there are too few of either.
const NO_ROOM: &str =
    "too few file descriptors or threads are left to start; raise `ulimit -n` and `ulimit -u`";

/// Makes sure that the async runtime can start: it panics where it gets no thread or no socket.
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
                // It cannot panic.
                let _ = thread.join();
            }
            Err(error) => result = Err(error),
        }
    }
    result
}

/// What each run of the daemon has.
pub(super) struct Run<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) settings: Arc<Settings>,
    pub(super) runtime: Runtime,
    pub(super) shutdown: Shutdown,
}

impl<'a> Run<'a> {
    /// Starts the runtime, and to listen for signals.
    ///
    /// # Errors
    /// Where the system has no room for them.
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

    /// What an input works with that hands its minutes to this store.
    pub(super) fn context(&self, store: &Arc<Store>) -> Context {
        Context {
            settings: Arc::clone(&self.settings),
            store: Arc::clone(store),
            shutdown: self.shutdown.clone(),
        }
    }

    /// How much is kept.
    pub(super) fn retention(&self) -> Retention {
        let policy = &self.config.model.policy;
        Retention { periods: policy.periods as usize, single: policy.summary }
    }
}
