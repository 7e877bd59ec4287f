//! Checks whether packets of an interface reach the program at its hook.
//!
//! Without `CAP_NET_ADMIN` the kernel does not tell the position of a program in a chain. The check
//! compares the interface's counter with a mark that the program leaves: if the counter rises
//! without a mark, a program in front has taken the packets.

/// Packets without a mark from which on a hook counts as missed. Some packets never reach a hook,
/// such as those that a driver answers itself.
const LEAST: u64 = 16;
/// Number of attempts to attach the program again, in front of the others, before the check gives
/// up: another agent may do the same.
const TRIES: u32 = 2;

/// Result of checking a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Packets reach it, or there are too few to tell.
    Fine,
    /// Packets do not reach it: attach the program again, in front of the others.
    Missed(u64),
    /// Packets do not reach it although it was attached again.
    Blind(u64),
}

/// State of the check of one hook.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Check {
    /// The interface's counter when a packet last reached the program.
    base: u64,
    tries: u32,
}

impl Check {
    /// Creates the check of a hook to which a program was just attached.
    pub(super) fn new(counted: u64) -> Self {
        Self { base: counted, tries: 0 }
    }

    /// Checks the interface's counter. `seen` is true if the program left its mark since the last
    /// call.
    pub(super) fn look(&mut self, counted: u64, seen: bool) -> Finding {
        if seen {
            *self = Self::new(counted);
            return Finding::Fine;
        }
        // A driver that is set up again restarts its counters.
        let missed = counted.saturating_sub(self.base);
        if counted < self.base {
            self.base = counted;
        }
        if missed < LEAST {
            return if self.tries > TRIES { Finding::Blind(missed) } else { Finding::Fine };
        }
        self.base = counted;
        self.tries = self.tries.saturating_add(1);
        if self.tries > TRIES { Finding::Blind(missed) } else { Finding::Missed(missed) }
    }

    /// Takes the counter after the mark was cleared: packets in between count as seen.
    pub(super) fn cleared(&mut self, counted: u64) {
        self.base = self.base.max(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_packets_without_mark_are_fine() {
        let mut check = Check::new(1_000);
        for packets in [1_000, 1_007, 1_015] {
            assert_eq!(check.look(packets, false), Finding::Fine);
        }
        assert_eq!(check.look(1_016, false), Finding::Missed(16));
        // The counters restarted.
        assert_eq!(Check::new(1_000).look(5, false), Finding::Fine);
    }

    #[test]
    fn missed_hook_is_blind_after_retries_until_seen() {
        let mut check = Check::new(0);
        assert_eq!(check.look(100, false), Finding::Missed(100));
        assert_eq!(check.look(200, false), Finding::Missed(100));
        assert_eq!(check.look(300, false), Finding::Blind(100));
        assert_eq!(check.look(301, false), Finding::Blind(1), "a quiet interface stays blind");
        assert_eq!(check.look(400, true), Finding::Fine);
        assert_eq!(check.look(500, false), Finding::Missed(100));
    }

    #[test]
    fn seen_packets_reset_the_count() {
        let mut check = Check::new(0);
        assert_eq!(check.look(1_000_000, true), Finding::Fine);
        check.cleared(1_000_010);
        assert_eq!(check.look(1_000_020, false), Finding::Fine);
    }
}
