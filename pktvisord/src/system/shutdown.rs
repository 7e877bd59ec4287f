//! SIGINT and SIGTERM as a flag that long work looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the end was asked for.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: Arc<AtomicBool>,
    watch: watch::Receiver<bool>,
}

impl Shutdown {
    /// Listens for the signals on the current runtime. A second signal ends the process at once,
    /// with the signal's usual exit code.
    ///
    /// # Errors
    /// Where the system refuses a handler.
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
                // Without receivers nobody waits.
                let _ = sender.send(true);
            }
        });
        Ok(Self { asked, watch })
    }

    /// Whether the end was asked for.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The flag itself, for those who wait for something else.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// Waits until the end is asked for.
    pub async fn wait(mut self) {
        // An error means that the runtime ends anyway.
        let _ = self.watch.wait_for(|asked| *asked).await;
    }
}
