//! Whether packets that go through an interface reach the program at its hook.
//!
//! The kernel does not say where a program stands in a chain to a process without `CAP_NET_ADMIN`. So the
//! interface's own counter is compared with a mark that the program leaves: packets that went by
//! without a mark were taken out of the chain before it.

/// Packets without a mark from which on a hook counts as missed. Some kinds of packets never reach a
/// hook, such as those that a driver answers itself.
const LEAST: u64 = 16;
/// How often the program is attached again, in front of the others, before that is given up: another
/// agent may do the same.
const TRIES: u32 = 2;

/// What a look at a hook finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Packets reach it, or there are too few to tell.
    Fine,
    /// Packets go by: the program is to be attached again, in front of the others.
    Missed(u64),
    /// Packets go by though it was attached again.
    Blind(u64),
}

/// What is known of a hook.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Check {
    /// The interface's counter when the last packet was known to be seen.
    base: u64,
    tries: u32,
}

impl Check {
    /// A hook to which a program was attached now.
    pub(super) fn new(counted: u64) -> Self {
        Self { base: counted, tries: 0 }
    }

    /// Looks at the interface's counter and at whether the program has left its mark since the last
    /// look.
    pub(super) fn look(&mut self, counted: u64, seen: bool) -> Finding {
        if seen {
            *self = Self::new(counted);
            return Finding::Fine;
        }
        // A driver that is set up anew starts its counters again.
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

    /// The counter now, taken after the mark was cleared: packets in between count as seen.
    pub(super) fn cleared(&mut self, counted: u64) {
        self.base = self.base.max(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_packets_tell_nothing() {
        let mut check = Check::new(1_000);
        for packets in [1_000, 1_007, 1_015] {
            assert_eq!(check.look(packets, false), Finding::Fine);
        }
        assert_eq!(check.look(1_016, false), Finding::Missed(16));
        // The counters were started again.
        assert_eq!(Check::new(1_000).look(5, false), Finding::Fine);
    }

    #[test]
    fn missed_hook_is_attached_again_and_then_blind_until_seen() {
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
