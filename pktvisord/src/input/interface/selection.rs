//! Selects the hooks that `any` watches: a pure function from the list of interfaces.
//!
//! Every packet is seen, once for each link layer. A packet that is routed or translated from one
//! interface to another is seen at each.
//!
//! * **Bridge.** Each port shows the packets that enter the bridge there. The bridge itself shows
//!   those that this host sends into it. So traffic among ports (containers, guests, the network
//!   card) is seen once: a packet that leaves by one port has entered by another. Open vSwitch
//!   works the same way with its internal ports.
//! * **Bond, VLAN, macvlan, ipvlan.** The interface below shows the packets, as far as its hooks
//!   do.
//! * **veth pair in one namespace.** One end receives what the other sends, so both are watched on
//!   ingress.
//! * **Tunnel.** Inner packets are another link layer than the outer ones below.
//! * **ifb.** It repeats packets redirected to it, so it is not watched.

use super::{Interface, LinkLayer};

/// Maximum depth of stacked interfaces: bounds the search in contradictory lists.
const HEIGHT: usize = 16;

/// The watched sides of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sides {
    /// Packets that it receives.
    pub ingress: bool,
    /// Packets that it sends.
    pub egress: bool,
}

impl Sides {
    /// Both sides.
    pub const BOTH: Self = Self { ingress: true, egress: true };
    /// Received packets only.
    pub const INGRESS: Self = Self { ingress: true, egress: false };
    /// Sent packets only.
    pub const EGRESS: Self = Self { ingress: false, egress: true };
    /// No side.
    pub const NONE: Self = Self { ingress: false, egress: false };

    /// Returns the sides to watch if the interface is named. Loopback receives all packets that it
    /// sends.
    pub fn named(interface: &Interface) -> Self {
        if interface.loopback { Self::INGRESS } else { Self::BOTH }
    }

    /// Returns these sides except `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self { ingress: self.ingress && !other.ingress, egress: self.egress && !other.egress }
    }
}

/// Reasons why only one side of an interface is watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OneSided {
    /// Loopback.
    #[error("loopback receives all packets that it sends")]
    Loopback,
    /// A bridge.
    #[error("packets that it receives are seen at its ports")]
    Bridge,
    /// A port of a bridge, or a member of a bond that is one.
    #[error("packets that it sends come from {0} or another port, and are seen there")]
    Port(String),
    /// An end of a veth pair whose other end is in this namespace.
    #[error("packets that it sends are seen at {0}, the other end of the pair")]
    Peer(String),
    /// It is stacked on an interface of which one side is watched.
    #[error("its other packets are seen at {0}, its lower interface")]
    Upper(String),
}

/// Reasons why an interface is not watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeftOut {
    /// It is down.
    #[error("it is down")]
    Down,
    /// Its link layer is not supported.
    #[error("its link layer (ARPHRD {0}) is not supported")]
    Link(u32),
    /// It is stacked on a watched interface, or its members are watched.
    #[error("its packets are seen at {0}, its lower interface")]
    Upper(String),
    /// An ifb, used for ingress shaping.
    #[error("an ifb repeats packets that are seen at the interface that redirects to it")]
    Ifb,
    /// The conduit of a DSA switch.
    #[error(
        "the conduit of a switch: its packets are seen at {0} and the other ports of the switch"
    )]
    Conduit(String),
    /// The other end of its veth pair is a bridge port.
    #[error("its packets are seen at the bridge of {0}, the other end of the pair")]
    Peer(String),
}

/// The watched sides of a selected interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The sides.
    pub sides: Sides,
    /// The reason if only one side is watched.
    pub one_sided: Option<OneSided>,
}

/// Selects the hooks that `any` watches, or the reason why an interface is left out.
pub(crate) fn select(interfaces: &[Interface]) -> Vec<(&Interface, Result<Selected, LeftOut>)> {
    let links = Links(interfaces);
    interfaces.iter().map(|interface| (interface, links.verdict(interface, HEIGHT))).collect()
}

/// Returns true if interfaces of this kind encapsulate packets. The outer packets are seen again
/// below, as another link layer.
pub(crate) fn is_tunnel(kind: &str) -> bool {
    const KINDS: [&str; 17] = [
        "vxlan",
        "geneve",
        "gre",
        "gretap",
        "ip6gre",
        "ip6gretap",
        "erspan",
        "ip6erspan",
        "ipip",
        "ip6tnl",
        "sit",
        "vti",
        "vti6",
        "gtp",
        "bareudp",
        "fou",
        "wireguard",
    ];
    KINDS.contains(&kind)
}

/// Interfaces with lookup by index.
struct Links<'a>(&'a [Interface]);

impl<'a> Links<'a> {
    fn get(&self, index: u32) -> Option<&'a Interface> {
        // The list is sorted by index.
        let at = self.0.binary_search_by_key(&index, |interface| interface.index);
        at.ok().and_then(|at| self.0.get(at))
    }

    /// Returns the interface that it is a port or member of, if that is up or an Open vSwitch.
    fn master(&self, interface: &Interface) -> Option<&'a Interface> {
        self.get(interface.master?).filter(|master| master.up || master.kind == "openvswitch")
    }

    fn members(&self, master: &Interface) -> impl Iterator<Item = &'a Interface> {
        let index = master.index;
        self.0.iter().filter(move |one| one.master == Some(index) && one.up)
    }

    /// Returns the bridge that it is a port of, directly or through a bond.
    fn bridge(&self, interface: &Interface, height: usize) -> Option<&'a Interface> {
        let master = self.master(interface)?;
        match master.kind.as_str() {
            "bridge" => Some(master),
            // An internal port is the host's own connection to the switch.
            "openvswitch" if interface.kind != "openvswitch" => Some(master),
            "bond" | "team" if height > 0 => self.bridge(master, height - 1),
            _ => None,
        }
    }

    /// Returns the other end of a veth pair if it is in this namespace and up.
    fn peer(&self, interface: &Interface) -> Option<&'a Interface> {
        if interface.kind != "veth" {
            return None;
        }
        self.get(interface.lower?).filter(|peer| peer.lower == Some(interface.index) && peer.up)
    }

    /// Returns the sides on which all packets of an interface are seen, at itself or elsewhere. A
    /// port's egress does not count: only packets from its bridge are seen.
    fn seen(&self, interface: &'a Interface, height: usize) -> Sides {
        let Some(height) = height.checked_sub(1) else { return Sides::NONE };
        match self.verdict(interface, height) {
            Ok(Selected { one_sided: None | Some(OneSided::Port(_)), sides }) => sides,
            Ok(_) | Err(LeftOut::Upper(_) | LeftOut::Peer(_) | LeftOut::Conduit(_)) => {
                match self.members(interface).next() {
                    // A bond shows what its members show.
                    Some(member) if matches!(interface.kind.as_str(), "bond" | "team") => {
                        self.seen(member, height)
                    }
                    _ => Sides::BOTH,
                }
            }
            Err(LeftOut::Down | LeftOut::Link(_) | LeftOut::Ifb) => Sides::NONE,
        }
    }

    fn verdict(&self, interface: &'a Interface, height: usize) -> Result<Selected, LeftOut> {
        let Some(height) = height.checked_sub(1) else { return Ok(Sides::BOTH.into()) };
        if !interface.up {
            return Err(LeftOut::Down);
        }
        if let LinkLayer::Other(arphrd) = interface.link {
            return Err(LeftOut::Link(arphrd));
        }
        if interface.loopback {
            return Ok(Selected { sides: Sides::INGRESS, one_sided: Some(OneSided::Loopback) });
        }
        let readable = |one: &&Interface| !matches!(one.link, LinkLayer::Other(_));
        match interface.kind.as_str() {
            "ifb" => return Err(LeftOut::Ifb),
            "bond" | "team" | "vrf" => {
                if let Some(member) = self.members(interface).find(readable) {
                    return Err(LeftOut::Upper(member.name.clone()));
                }
            }
            "bridge" => return self.bridge_itself(interface, height),
            // An internal port: the host's own connection to the switch.
            "openvswitch" => {
                return Ok(Selected { sides: Sides::EGRESS, one_sided: Some(OneSided::Bridge) });
            }
            _ => {}
        }
        let mut ports = self.0.iter().filter(|one| one.kind == "dsa" && one.up);
        if let Some(port) = ports.find(|port| port.lower == Some(interface.index)) {
            return Err(LeftOut::Conduit(port.name.clone()));
        }
        let bridge = self.bridge(interface, HEIGHT);
        if let Some(peer) = self.peer(interface) {
            if self.bridge(peer, HEIGHT).is_some() {
                return Err(LeftOut::Peer(peer.name.clone()));
            }
            if bridge.is_none() {
                let one_sided = Some(OneSided::Peer(peer.name.clone()));
                return Ok(Selected { sides: Sides::INGRESS, one_sided });
            }
        }
        let (sides, one_sided) = match bridge {
            Some(bridge) => (Sides::INGRESS, Some(OneSided::Port(bridge.name.clone()))),
            None => (Sides::BOTH, None),
        };
        let lower = interface.lower.and_then(|lower| self.get(lower));
        match lower.filter(|_| is_upper(&interface.kind)) {
            None => Ok(Selected { sides, one_sided }),
            Some(lower) => match sides.without(self.seen(lower, height)) {
                Sides::NONE => Err(LeftOut::Upper(lower.name.clone())),
                left if left == sides => Ok(Selected { sides, one_sided }),
                left => {
                    let one_sided = Some(OneSided::Upper(lower.name.clone()));
                    Ok(Selected { sides: left, one_sided })
                }
            },
        }
    }

    /// Selects a bridge for the packets that this host sends into it, unless all its ports are
    /// stacked on interfaces that show them.
    fn bridge_itself(&self, bridge: &'a Interface, height: usize) -> Result<Selected, LeftOut> {
        let mut ports = self.members(bridge).peekable();
        let shown = |port: &'a Interface| {
            let lower = port.lower.filter(|_| is_upper(&port.kind)).and_then(|at| self.get(at));
            lower.is_some_and(|lower| self.seen(lower, height).egress)
        };
        let first = ports.peek().map(|port| port.name.clone());
        match first {
            Some(first) if ports.all(shown) => Err(LeftOut::Upper(first)),
            _ => Ok(Selected { sides: Sides::EGRESS, one_sided: Some(OneSided::Bridge) }),
        }
    }
}

/// Returns true if interfaces of this kind show a subset of the packets of the interface below.
fn is_upper(kind: &str) -> bool {
    matches!(kind, "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap")
}

impl From<Sides> for Selected {
    fn from(sides: Sides) -> Self {
        Self { sides, one_sided: None }
    }
}

#[cfg(test)]
mod tests;
