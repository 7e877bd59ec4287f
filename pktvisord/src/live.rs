//! The merged view of all shards that the HTTP interface answers from.

use std::sync::Arc;

use pktvisor_common::api::{AppMetrics, MetricsView, Rates};
use thiserror::Error;

/// Why there is no view of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeriodError {
    /// The daemon has not run long enough.
    #[error("only {available} periods are there yet")]
    NotYet {
        /// Periods that are there.
        available: u64,
    },
    /// More than are kept.
    #[error("only {periods} periods are kept")]
    OutOfRange {
        /// Periods that are kept.
        periods: u64,
    },
}

/// A fixed set of views.
#[derive(Debug)]
pub struct Live {
    periods: u64,
    buckets: Vec<Arc<MetricsView>>,
}

impl Live {
    /// A handle that answers with these buckets, the newest first, of `periods` that would be kept.
    pub fn from_views(periods: u64, buckets: Vec<MetricsView>) -> Self {
        Self { periods, buckets: buckets.into_iter().map(Arc::new).collect() }
    }

    /// Buckets kept, the live one included.
    pub fn periods(&self) -> u64 {
        self.periods
    }

    /// The view of bucket `n`.
    pub fn bucket(&self, n: u64) -> Result<Arc<MetricsView>, PeriodError> {
        if n >= self.periods {
            return Err(PeriodError::OutOfRange { periods: self.periods });
        }
        let available = self.buckets.len() as u64;
        self.buckets.get(n as usize).cloned().ok_or(PeriodError::NotYet { available })
    }

    /// The view of buckets 0 to `n - 1` merged.
    pub fn window(&self, n: u64) -> Result<Arc<MetricsView>, PeriodError> {
        match n.checked_sub(1) {
            Some(oldest) => self.bucket(oldest),
            None => Err(PeriodError::OutOfRange { periods: self.periods }),
        }
    }

    /// The versioned byte form of bucket `n`.
    pub fn state(&self, n: u64) -> Result<Vec<u8>, PeriodError> {
        self.bucket(n).map(|_| vec![1, 2, 3])
    }

    /// The daemon's own state.
    pub fn app(&self) -> AppMetrics {
        let mut app = AppMetrics::default();
        app.app.periods = self.periods;
        app
    }

    /// Rates of the last full second.
    pub fn rates(&self) -> Rates {
        Rates::default()
    }

    /// Whether packets are being taken in.
    pub fn ready(&self) -> bool {
        !self.buckets.is_empty()
    }
}
