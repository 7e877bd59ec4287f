//! Packets that passed an interface before it was watched, by the interface's own counters.

use std::collections::{BTreeMap, VecDeque};

use super::{Interface, Sides};

/// Maximum number of departed interfaces to remember.
const DEPARTED: usize = 4_096;

/// Counter values of the interfaces. Packets above them are the daemon's to see.
#[derive(Debug, Default)]
pub(crate) struct Baselines {
    present: BTreeMap<u32, Interface>,
    /// Interfaces that were deleted or moved to another network namespace, the oldest first.
    departed: VecDeque<Interface>,
}

impl Baselines {
    /// Takes the current counters as baselines.
    pub(crate) fn start(listed: &[Interface]) -> Self {
        let present = listed.iter().map(|interface| (interface.index, interface.clone())).collect();
        Self { present, ..Self::default() }
    }

    /// Updates the baselines. An interface for which `pending` returns true is still to be watched
    /// and keeps its baseline while it is up.
    pub(crate) fn look(&mut self, listed: &[Interface], pending: impl Fn(&Interface) -> bool) {
        let mut present = BTreeMap::new();
        for interface in listed {
            let last = self.present.remove(&interface.index);
            let baseline = match last.filter(|last| last.is(interface)) {
                // Packets before an interface is watched are missed. Packets while it was down or
                // left out on purpose are not.
                Some(last) if interface.up && pending(interface) => last,
                Some(_) => interface.clone(),
                // Packets in another namespace are not this host's.
                None if self.returns(interface) => interface.clone(),
                // A new interface: all its packets passed while the daemon ran.
                None => Interface { received: 0, sent: 0, ..interface.clone() },
            };
            present.insert(interface.index, baseline);
        }
        let gone = std::mem::replace(&mut self.present, present);
        self.departed.extend(gone.into_values());
        let excess = self.departed.len().saturating_sub(DEPARTED);
        self.departed.drain(..excess);
    }

    /// Moves the baseline of an interface that was watched until now.
    pub(crate) fn watched_until(&mut self, now: &Interface) {
        if let Some(baseline) = self.present.get_mut(&now.index).filter(|last| last.is(now)) {
            baseline.clone_from(now);
        }
    }

    /// Returns true if the interface was here before, and forgets it as departed.
    fn returns(&mut self, interface: &Interface) -> bool {
        let at = self.departed.iter().position(|one| {
            // It may return with another index if its old one is taken.
            let index = one.index == interface.index || !one.address.is_empty();
            let same = one.address == interface.address && one.kind == interface.kind;
            index && same && one.received <= interface.received && one.sent <= interface.sent
        });
        at.is_some_and(|at| self.departed.remove(at).is_some())
    }

    /// Returns the packets on these sides above the baseline: those missed up to `now`.
    pub(crate) fn missed(&self, now: &Interface, sides: Sides) -> u64 {
        let base = self.present.get(&now.index).map_or(0, |base| base.packets(sides));
        now.packets(sides).saturating_sub(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, up: bool, received: u64) -> Interface {
        let address = index.to_be_bytes().to_vec();
        Interface { index, up, address, received, ..Interface::default() }
    }

    #[test]
    fn counts_packets_missed_since_baseline() {
        let mut baselines = Baselines::start(&[interface(2, true, 50), interface(3, false, 7)]);
        let missed = |baselines: &Baselines, now: &Interface| baselines.missed(now, Sides::BOTH);
        assert_eq!(missed(&baselines, &interface(2, true, 60)), 10);
        // It was down, comes up, and is watched a moment later.
        let up = interface(3, true, 9);
        baselines.look(&[interface(2, true, 60), up.clone()], |one| one.index == 3);
        assert_eq!(missed(&baselines, &up), 2);
        assert_eq!(missed(&baselines, &interface(2, true, 60)), 0, "it was watched meanwhile");
        // A new interface.
        let new = interface(4, true, 30);
        baselines.look(&[up.clone(), new.clone()], |one| one.index == 4);
        assert_eq!(missed(&baselines, &new), 30);
        assert_eq!(baselines.missed(&new, Sides::EGRESS), 0);
    }

    #[test]
    fn packets_watched_before_link_down_are_not_missed() {
        let mut baselines = Baselines::start(&[interface(2, true, 50)]);
        // It goes down and comes up again between two updates.
        baselines.watched_until(&interface(2, true, 80));
        baselines.look(&[interface(2, true, 83)], |_| true);
        assert_eq!(baselines.missed(&interface(2, true, 84), Sides::BOTH), 4);
    }

    #[test]
    fn returning_interface_has_missed_no_packets_elsewhere() {
        let mut baselines = Baselines::start(&[interface(2, true, 50)]);
        baselines.look(&[], |_| true);
        let back = interface(2, true, 1_000_000);
        baselines.look(std::slice::from_ref(&back), |_| true);
        assert_eq!(baselines.missed(&back, Sides::BOTH), 0);
        assert_eq!(baselines.missed(&interface(2, true, 1_000_005), Sides::BOTH), 5);
        // Another interface to which the kernel gave the same index.
        baselines.look(&[], |_| true);
        let other = Interface { address: vec![9], ..interface(2, true, 3) };
        baselines.look(std::slice::from_ref(&other), |_| true);
        assert_eq!(baselines.missed(&other, Sides::BOTH), 3);
    }

    #[test]
    fn memory_of_departed_interfaces_is_bounded() {
        let mut baselines = Baselines::default();
        for index in 0..2 * DEPARTED as u32 {
            baselines.look(&[interface(index, true, 1)], |_| false);
        }
        assert_eq!(baselines.departed.len(), DEPARTED);
    }
}
