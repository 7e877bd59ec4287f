//! The network interfaces of this host.
//!
//! * [`scope`]: the interfaces that a target names.
//! * [`selection`]: the hooks that `any` watches.
//! * [`host`]: the addresses of watched interfaces.
//! * [`missed`]: packets that passed before an interface was watched.
//! * [`tunnels`]: outer packets of tunnels that are watched themselves.

pub(crate) mod host;
pub(crate) mod missed;
pub(crate) mod scope;
pub(crate) mod selection;
pub(crate) mod tunnels;

use std::io;

pub(crate) use selection::{OneSided, Selected, Sides, select};

use super::netlink::Requests;

/// Link types whose packets start with an IP header: tun, IP-in-IP tunnels and the like
/// (`ARPHRD_NONE`, `ARPHRD_TUNNEL`, `ARPHRD_TUNNEL6`, `ARPHRD_SIT`, `ARPHRD_IPGRE`,
/// `ARPHRD_RAWIP`).
const ARPHRD_IP: [u16; 6] = [65_534, 768, 769, 776, 778, 519];

/// The first header of an interface's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// An IP header.
    Ip,
    /// Unsupported, with its `ARPHRD` number.
    Other(u32),
}

impl LinkLayer {
    /// Returns the link layer of an `ARPHRD` number.
    pub fn of(arphrd: u16) -> Self {
        match arphrd {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Self::Ethernet,
            arphrd if ARPHRD_IP.contains(&arphrd) => Self::Ip,
            arphrd => Self::Other(arphrd.into()),
        }
    }
}

/// A network interface, as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its index, which a rename does not change.
    pub index: u32,
    /// Its name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// True if it is up.
    pub up: bool,
    /// Its link layer.
    pub link: LinkLayer,
    /// True for the loopback interface.
    pub loopback: bool,
    /// True if a device is behind it, real or provided by a hypervisor.
    pub physical: bool,
    /// Kind of a virtual interface, such as `veth` or `bridge`; otherwise empty.
    pub kind: String,
    /// Index of the bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
    /// Index of the interface below it (VLAN, macvlan, tunnel) or of the veth peer; `None` if that
    /// is in another network namespace.
    pub lower: Option<u32>,
    /// Its hardware address.
    pub address: Vec<u8>,
    /// Packets received, by its own counter.
    pub received: u64,
    /// Packets sent, by its own counter.
    pub sent: u64,
}

impl Interface {
    /// Returns the packets on these sides, by the interface's own counters.
    pub fn packets(&self, sides: Sides) -> u64 {
        let of = |side: bool, packets: u64| if side { packets } else { 0 };
        of(sides.ingress, self.received).saturating_add(of(sides.egress, self.sent))
    }

    /// Returns true if both are the same interface: equal index and kind. The kernel reuses an
    /// index, but not soon. The hardware address does not count: that of a bridge, for example,
    /// changes with its ports.
    pub fn is(&self, other: &Self) -> bool {
        self.index == other.index && self.kind == other.kind
    }
}

/// Lists the interfaces of this network namespace, sorted by index.
///
/// # Errors
/// An I/O error if the kernel does not list them.
pub(crate) fn list() -> io::Result<Vec<Interface>> {
    Requests::open()?.links()
}

/// Returns the interface with this index, or `None` if there is none or it cannot be read.
pub(crate) fn read(index: u32) -> Option<Interface> {
    Requests::open().ok()?.link(index).ok()?
}
