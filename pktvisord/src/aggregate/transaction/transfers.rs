//! Zone transfers in progress: one query, many reply messages (RFC 5936 section 2.2).

use super::Key;
use super::pending::{Pending, Waiting};
use crate::time::{Span, Timestamp};

/// Maximum transfers remembered. The one that was silent for longest is evicted.
const TRANSFERS: usize = 256;
/// Nanoseconds of silence after which a transfer is over.
const IDLE: Span = Span::from_seconds(120);

/// Exchanges of which the first reply was seen.
#[derive(Debug)]
pub(super) struct Transfers(Pending<Transfer>);

#[derive(Clone, Copy, Debug)]
struct Transfer {
    /// Key of the exchange, without the question.
    key: Key,
    /// Time of its latest reply.
    latest: Timestamp,
}

impl Waiting for Transfer {
    fn key(&self) -> &Key {
        &self.key
    }
}

impl Default for Transfers {
    fn default() -> Self {
        Self(Pending::new(TRANSFERS))
    }
}

impl Transfers {
    /// Starts a transfer with its first reply.
    pub(super) fn begin(&mut self, key: &Key, time: Timestamp) {
        self.end(key);
        if self.0.is_full() {
            self.0.remove_oldest();
        }
        self.0.insert(Transfer { key: key.without_question(), latest: time });
    }

    /// Ends a transfer because another query reuses its exchange.
    #[inline]
    pub(super) fn end(&mut self, key: &Key) {
        if self.0.len() > 0 {
            self.0.take(&key.without_question(), |_| true);
        }
    }

    /// Returns true if a reply at `time` continues a transfer.
    #[inline]
    pub(super) fn goes_on(&mut self, key: &Key, time: Timestamp) -> bool {
        if self.0.len() == 0 {
            return false;
        }
        let Some(transfer) = self.0.take(&key.without_question(), |_| true) else { return false };
        let latest = time.max(transfer.latest);
        self.0.insert(Transfer { latest, ..transfer });
        time - transfer.latest <= IDLE
    }
}
