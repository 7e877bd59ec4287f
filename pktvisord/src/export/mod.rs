//! Exporters push closed minutes to another system for storage.
//!
//! An exporter reads only from the store's feed, so it never delays a packet. While the other system is
//! slow or unreachable, minutes wait in the subscription. When that is full, further minutes are lost to
//! this exporter and counted.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::store::feed::{Closed, Subscription};
use crate::system::needs::Needs;

/// Initial and maximum wait between attempts. It doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Maximum closed minutes in one push.
const BATCH: usize = 64;

/// Reasons why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The other system is unreachable or busy: the same minutes are pushed again.
    #[error("{0}")]
    Retry(String),
    /// The other system rejected these minutes: they are dropped.
    #[error("{0}")]
    Refused(String),
}

/// Pushes closed minutes to one kind of system.
pub trait Exporter: Send {
    /// Returns the name of the exporter, for the log.
    fn name(&self) -> &'static str;

    /// Returns the resources that it needs from now on.
    fn needs(&self) -> Needs;

    /// Pushes closed minutes, oldest first. After [`ExportError::Retry`] the same minutes are pushed
    /// again, so the other system must recognize duplicates.
    ///
    /// # Errors
    /// Returns [`ExportError::Retry`] to try again, or [`ExportError::Refused`] to drop the minutes.
    fn push(
        &mut self,
        batch: &[Arc<Closed>],
    ) -> impl Future<Output = Result<(), ExportError>> + Send;
}

/// Pushes the minutes of a subscription until the store is gone.
pub async fn run(mut exporter: impl Exporter, mut subscription: Subscription) {
    let mut lost = 0;
    while let Some(first) = subscription.next().await {
        let rest = std::iter::from_fn(|| subscription.try_next());
        let batch: Vec<Arc<Closed>> = std::iter::once(first).chain(rest).take(BATCH).collect();
        push(&mut exporter, &batch).await;
        let now = subscription.lost();
        if now > lost {
            warn!(
                "{}: lost {} minutes because the exporter is too slow",
                exporter.name(),
                now - lost
            );
            lost = now;
        }
    }
}

/// Pushes a batch until the other system accepts or rejects it.
async fn push(exporter: &mut impl Exporter, batch: &[Arc<Closed>]) {
    let (mut wait, mut failed) = (FIRST_WAIT, false);
    loop {
        match exporter.push(batch).await {
            Ok(()) if failed => return info!("{}: exporting works again", exporter.name()),
            Ok(()) => return,
            Err(ExportError::Refused(why)) => {
                let count = batch.len();
                return warn!("{}: dropped {count} minutes: {why}", exporter.name());
            }
            Err(ExportError::Retry(why)) => {
                // Logged once, not at each attempt.
                if !failed {
                    warn!("{}: {why}; retrying", exporter.name());
                }
                failed = true;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pktvisor_common::summary::Summary;
    use pktvisor_common::summary::cumulative::Cumulative;

    use super::*;
    use crate::store::Store;
    use crate::store::feed::WhenFull;
    use crate::store::minutes::Retention;
    use crate::store::parts::Part;

    /// An exporter that records what it gets and fails on demand.
    struct Double {
        /// Results of the first pushes, in order. Later pushes succeed.
        fails: Vec<Result<(), ExportError>>,
        pushed: Arc<Mutex<Vec<i64>>>,
    }

    impl Exporter for Double {
        fn name(&self) -> &'static str {
            "double"
        }

        fn needs(&self) -> Needs {
            Needs::default()
        }

        async fn push(&mut self, batch: &[Arc<Closed>]) -> Result<(), ExportError> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if !self.fails.is_empty() {
                self.fails.remove(0)?;
            }
            let mut pushed = self.pushed.lock().unwrap();
            pushed.extend(batch.iter().map(|closed| closed.summary.minute));
            Ok(())
        }
    }

    /// Returns the minutes, of 1 to `minutes`, that an exporter with a queue of `room` minutes received.
    fn exported(fails: Vec<Result<(), ExportError>>, room: usize, minutes: i64) -> Vec<i64> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let store = Store::inline(1, Retention { periods: 5, single: false });
        let subscription = store.subscribe(room, WhenFull::Drop);
        let pushed: Arc<Mutex<Vec<i64>>> = Arc::default();
        let double = Double { fails, pushed: Arc::clone(&pushed) };
        runtime.block_on(async {
            let running = tokio::spawn(run(double, subscription));
            for minute in 1..=minutes {
                let summary = Summary { minute, turn: 1, ..Summary::default() };
                store.intake().hand_in(0, vec![Part::of(summary, &Cumulative::default())]);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(store);
            running.await.unwrap();
        });
        Arc::into_inner(pushed).unwrap().into_inner().unwrap()
    }

    fn retry() -> Result<(), ExportError> {
        Err(ExportError::Retry("it is away".to_owned()))
    }

    #[test]
    fn exporter_pushes_each_minute_once_in_order() {
        assert_eq!(exported(Vec::new(), 64, 30), (1..=30).collect::<Vec<_>>());
        let fails = vec![retry(), retry(), Ok(()), retry()];
        assert_eq!(exported(fails, 64, 30), (1..=30).collect::<Vec<_>>());
    }

    #[test]
    fn refused_minutes_are_dropped() {
        let fails = vec![Err(ExportError::Refused("too old".to_owned()))];
        assert_eq!(exported(fails, 64, 30), (2..=30).collect::<Vec<_>>());
    }

    #[test]
    fn full_queue_drops_newest_minutes() {
        let fails = (0..9).map(|_| retry()).collect();
        // The exporter holds the first minute, and four wait in the queue.
        assert_eq!(exported(fails, 4, 30), [1, 2, 3, 4, 5]);
    }
}
