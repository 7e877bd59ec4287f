//! Adapts the sampling rates when user space cannot keep up.
//!
//! A second with lost records lowers the rate at once. Seconds without a loss raise it step by
//! step, and later each time that a raise came too early. DNS matters most: its rate is lowered
//! only when the rest is at its minimum, or when hardly anything but DNS is lost.

use crate::aggregate::settings::HALVINGS;

/// Seconds without a loss before a rate is raised: the initial and the longest wait.
const FIRST_WAIT: u32 = 5;
const LONGEST_WAIT: u32 = 80;

/// Number of times that each rate is halved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Halvings {
    pub(super) dns: usize,
    pub(super) rest: usize,
}

/// State of the adaptation.
#[derive(Debug)]
pub(super) struct Load {
    halvings: Halvings,
    /// Seconds without a loss since the last change.
    quiet: u32,
    wait: u32,
    /// True if the last change was a raise.
    raised: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { halvings: Halvings::default(), quiet: 0, wait: FIRST_WAIT, raised: false }
    }
}

impl Load {
    /// Takes in a second and the records lost in it: of DNS and of the rest. Returns the new rates
    /// if they change.
    pub(super) fn second(&mut self, lost_dns: u64, lost_rest: u64) -> Option<Halvings> {
        let before = self.halvings;
        if lost_dns > 0 || lost_rest > 0 {
            if self.raised {
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
            }
            (self.quiet, self.raised) = (0, false);
            if self.halvings.rest < HALVINGS {
                // Halve twice, to empty the queue that has built up too.
                self.halvings.rest = (self.halvings.rest + 2).min(HALVINGS);
            }
            // If hardly anything but DNS is lost, sampling less of the rest does not help.
            if lost_dns > 4 * lost_rest || before.rest == HALVINGS && lost_dns > 0 {
                self.halvings.dns = (self.halvings.dns + 1).min(HALVINGS);
            }
        } else if self.halvings != Halvings::default() {
            self.quiet += 1;
            if self.quiet >= self.wait {
                (self.quiet, self.raised) = (0, true);
                match self.halvings.dns {
                    0 => self.halvings.rest -= 1,
                    _ => self.halvings.dns -= 1,
                }
            }
        } else {
            self.wait = FIRST_WAIT;
        }
        (self.halvings != before).then_some(self.halvings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halvings(dns: usize, rest: usize) -> Halvings {
        Halvings { dns, rest }
    }

    #[test]
    fn losses_lower_the_rest_before_dns() {
        let mut load = Load::default();
        assert_eq!(load.second(0, 0), None);
        assert_eq!(load.second(10, 1_000), Some(halvings(0, 2)));
        assert_eq!(load.second(10, 1_000), Some(halvings(0, 4)));
        assert_eq!(load.second(0, 1), Some(halvings(0, 6)));
        assert_eq!(load.second(0, 1), None, "that is as low as it gets");
        assert_eq!(load.second(10, 10), Some(halvings(1, 6)));
    }

    #[test]
    fn dns_losses_lower_dns_rate() {
        let mut load = Load::default();
        assert_eq!(load.second(1_000, 0), Some(halvings(1, 2)));
        for dns in 2..=HALVINGS {
            load.second(1_000, 0);
            assert_eq!(load.halvings.dns, dns);
        }
        assert_eq!(load.second(1_000, 0), None);
    }

    #[test]
    fn quiet_seconds_raise_rates_with_growing_delay() {
        let mut load = Load::default();
        load.second(1, 0);
        let seconds_to_change = |load: &mut Load| {
            (1..=1_000).find_map(|second| load.second(0, 0).map(|to| (second, to)))
        };
        assert_eq!(seconds_to_change(&mut load), Some((5, halvings(0, 2))));
        load.second(0, 1);
        assert_eq!(seconds_to_change(&mut load), Some((10, halvings(0, 3))));
        for wait in [20, 40, 80, 80] {
            load.second(0, 1);
            assert_eq!(seconds_to_change(&mut load).unwrap().0, wait);
        }
        while seconds_to_change(&mut load).is_some() {}
        assert_eq!(load.halvings, Halvings::default(), "all is inspected again");
        assert_eq!(load.wait, FIRST_WAIT);
    }
}
