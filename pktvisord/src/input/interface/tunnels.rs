//! Outer packets of tunnels that are watched themselves.
//!
//! The inner packets count at the tunnel's interface, DNS included. The outer packets count at the
//! interface below, and the daemon does not look into them for DNS. Their number comes from the
//! tunnel's own counters, which costs nothing per packet.

use std::collections::{BTreeMap, BTreeSet};

use super::selection::is_tunnel;
use super::{Interface, Selected, Sides};

/// The last counters of watched tunnels.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(BTreeMap<u32, u64>);

impl Tunnels {
    /// Returns the packets of watched tunnels since the last call, if the interface below is
    /// watched too.
    pub(crate) fn look(&mut self, listed: &[Interface], watched: &BTreeSet<u32>) -> u64 {
        let (mut now, mut left_out) = (BTreeMap::new(), 0u64);
        let is_below = |interface: &Interface| {
            watched.contains(&interface.index) && !is_tunnel(&interface.kind) && !interface.loopback
        };
        let any_below = listed.iter().any(is_below);
        let tunnels = listed
            .iter()
            .filter(|interface| is_tunnel(&interface.kind) && watched.contains(&interface.index));
        for tunnel in tunnels {
            let packets = tunnel.packets(Sides::BOTH);
            let below = tunnel.lower.map_or(any_below, |lower| watched.contains(&lower));
            if let Some(last) = self.0.get(&tunnel.index).filter(|_| below) {
                left_out = left_out.saturating_add(packets.saturating_sub(*last));
            }
            now.insert(tunnel.index, packets);
        }
        self.0 = now;
        left_out
    }
}

/// Returns the name of a tunnel that is watched together with an interface that its outer packets
/// may pass.
pub(crate) fn watched_tunnel(wanted: &[(Interface, Selected)]) -> Option<&str> {
    let is_below = |one: &Interface| !is_tunnel(&one.kind) && !one.loopback;
    let below = wanted.iter().any(|(one, _)| is_below(one));
    let tunnel = wanted.iter().find(|(one, _)| is_tunnel(&one.kind)).filter(|_| below);
    tunnel.map(|(one, _)| one.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_outer_packets_by_the_tunnels_counters() {
        let tunnel = |received| Interface {
            index: 3,
            kind: "vxlan".into(),
            lower: Some(2),
            received,
            ..Interface::default()
        };
        let below = Interface { index: 2, ..Interface::default() };
        let (both, alone) = (BTreeSet::from([2, 3]), BTreeSet::from([3]));
        let mut tunnels = Tunnels::default();
        assert_eq!(tunnels.look(&[below.clone(), tunnel(100)], &both), 0, "from before");
        assert_eq!(tunnels.look(&[below.clone(), tunnel(140)], &both), 40);
        assert_eq!(
            tunnels.look(&[below.clone(), tunnel(150)], &alone),
            0,
            "no outer packets are seen"
        );
        assert_eq!(tunnels.look(std::slice::from_ref(&below), &both), 0);
        // The interface below is not known, as with GRE.
        let gre = |sent| Interface { kind: "gre".into(), lower: None, sent, ..tunnel(0) };
        tunnels.look(&[below.clone(), gre(1)], &both);
        assert_eq!(tunnels.look(&[below, gre(8)], &both), 7);
    }
}
