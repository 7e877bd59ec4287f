//! The network interfaces of this host.
//!
//! * [`scope`]: which interfaces a target names.
//! * [`selection`]: which hooks of which interfaces `any` watches.
//! * [`host`]: which addresses belong to watched interfaces.
//! * [`missed`]: packets that came before an interface was watched.
//! * [`tunnels`]: packets that count inside a tunnel, and not outside.

pub mod host;
pub mod missed;
pub mod scope;
pub mod selection;
pub mod tunnels;

use std::io;

pub use selection::{LeftOut, OneSided, Selected, Sides, select};

use super::netlink::Requests;

/// Link layers that start with an IP header: tun, tunnels of IP in IP and the like (`ARPHRD_NONE`,
/// `ARPHRD_TUNNEL`, `ARPHRD_TUNNEL6`, `ARPHRD_SIT`, `ARPHRD_IPGRE`, `ARPHRD_RAWIP`).
const ARPHRD_IP: [u16; 6] = [65_534, 768, 769, 776, 778, 519];

/// What packets of an interface start with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// An IP header.
    Ip,
    /// Something that is not read, by its `ARPHRD` number.
    Other(u32),
}

impl LinkLayer {
    /// The link layer of an `ARPHRD` number.
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
    /// Its number, which stays when it is renamed.
    pub index: u32,
    /// Its name; what is not UTF-8 in it is replaced.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// What its packets start with.
    pub link: LinkLayer,
    /// The loopback interface.
    pub loopback: bool,
    /// There is a device behind it, real or of the hypervisor's.
    pub physical: bool,
    /// What kind of virtual interface it is, such as `veth` or `bridge`; empty where it is none.
    pub kind: String,
    /// The index of what it is a port or a member of: a bridge, a bond, a VRF.
    pub master: Option<u32>,
    /// The index of the interface below it (VLAN, macvlan, tunnel), or of the other end of a veth
    /// pair; `None` where that is in another network namespace.
    pub lower: Option<u32>,
    /// Its hardware address.
    pub address: Vec<u8>,
    /// Packets that it has received, by its own counter, when this was read.
    pub received: u64,
    /// Packets that it has sent.
    pub sent: u64,
}

impl Interface {
    /// Packets on these sides, by the interface's own counters.
    pub fn packets(&self, sides: Sides) -> u64 {
        let of = |side: bool, packets: u64| if side { packets } else { 0 };
        of(sides.ingress, self.received).saturating_add(of(sides.egress, self.sent))
    }

    /// Whether both are the same interface: the kernel gives an index again, but not soon. The hardware
    /// address can change, as that of a bridge does with its ports.
    pub fn is(&self, other: &Self) -> bool {
        self.index == other.index && self.kind == other.kind
    }
}

/// Lists the interfaces of this network namespace, by index.
///
/// # Errors
/// Where the system refuses.
pub fn list() -> io::Result<Vec<Interface>> {
    Requests::open()?.links()
}

/// Returns the interface of this index, or `None` where there is none.
pub fn read(index: u32) -> Option<Interface> {
    Requests::open().ok()?.link(index).ok()?
}
