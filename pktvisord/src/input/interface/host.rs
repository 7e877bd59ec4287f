//! The addresses that are HOST because their interface is watched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Interface;

/// Maximum depth of stacked interfaces.
const HEIGHT: usize = 16;

/// Returns the addresses of the watched interfaces and of all interfaces stacked on them. A packet
/// for the address of a bond, bridge, VLAN, macvlan or tunnel arrives at the interface below.
pub(crate) fn addresses(
    watched: &BTreeSet<u32>,
    listed: &[Interface],
    addresses: &[(u32, IpAddr)],
) -> BTreeSet<IpAddr> {
    let mut indexes = watched.clone();
    for _ in 0..HEIGHT {
        let found = listed.iter().flat_map(|interface| {
            let below = interface.lower.is_some_and(|at| indexes.contains(&at));
            // The other end of a veth pair is a peer, not stacked on it.
            let above = (below && interface.kind != "veth").then_some(interface.index);
            above.into_iter().chain(interface.master.filter(|_| indexes.contains(&interface.index)))
        });
        let found: Vec<u32> = found.filter(|index| !indexes.contains(index)).collect();
        if found.is_empty() {
            break;
        }
        indexes.extend(found);
    }
    addresses.iter().filter(|(at, _)| indexes.contains(at)).map(|&(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, kind: &str, master: Option<u32>, lower: Option<u32>) -> Interface {
        Interface { index, kind: kind.into(), master, lower, ..Interface::default() }
    }

    #[test]
    fn addresses_of_stacked_interfaces_are_host() {
        let listed = [
            interface(1, "", None, None),
            interface(2, "", Some(4), None),
            interface(3, "", Some(4), None),
            interface(4, "bond", None, None),
            interface(5, "vlan", None, Some(4)),
            interface(6, "macvlan", None, Some(5)),
            interface(7, "bridge", None, None),
            interface(8, "veth", Some(7), Some(9)),
            interface(9, "veth", None, Some(8)),
        ];
        let all: Vec<(u32, IpAddr)> =
            (1..=9).map(|at| (at, [192, 0, 2, at as u8].into())).collect();
        for (watched, expected) in [
            (vec![1], vec![1]),
            (vec![2], vec![2, 4, 5, 6]),
            (vec![5], vec![5, 6]),
            (vec![8], vec![7, 8]),
            (vec![9], vec![9]),
        ] {
            let found = addresses(&watched.iter().copied().collect(), &listed, &all);
            let expected = expected.into_iter().map(|at| IpAddr::from([192, 0, 2, at as u8]));
            assert_eq!(found, expected.collect(), "{watched:?}");
        }
    }
}
