//! SIGINT and SIGTERM as a flag that long-running work polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A handle that tells whether shutdown was requested.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: Arc<AtomicBool>,
    watch: watch::Receiver<bool>,
}

impl Shutdown {
    /// Listens for SIGINT and SIGTERM on the current runtime. A second signal ends the process at
    /// once with the usual exit code of that signal: 130 or 143.
    ///
    /// # Errors
    /// An I/O error if a signal handler cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let asked = Arc::new(AtomicBool::new(false));
        let (sender, watch) = watch::channel(false);
        let flag = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                };
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(code);
                }
                // Sending fails only if nothing waits.
                let _ = sender.send(true);
            }
        });
        Ok(Self { asked, watch })
    }

    /// Returns true if shutdown was requested.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns the flag itself, for callers that block on something else.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// Waits until shutdown is requested.
    pub async fn wait(mut self) {
        // An error means that the runtime is ending anyway.
        let _ = self.watch.wait_for(|asked| *asked).await;
    }
}
