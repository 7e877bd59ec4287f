//! The network interfaces of this host, and which of them `any` watches.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use pcap::Device;

/// Where the kernel lists interfaces.
const SYSFS: &str = "/sys/class/net";
/// An interface whose packets start with an Ethernet header (`ARPHRD_ETHER`).
const ARPHRD_ETHER: u32 = 1;
/// The loopback interface, whose packets start with one too (`ARPHRD_LOOPBACK`).
const ARPHRD_LOOPBACK: u32 = 772;
/// Packets without a link header: tun, tunnels of IP in IP and the like (`ARPHRD_NONE`,
/// `ARPHRD_TUNNEL`, `ARPHRD_TUNNEL6`, `ARPHRD_SIT`, `ARPHRD_IPGRE`, `ARPHRD_RAWIP`).
const ARPHRD_IP: [u32; 6] = [65_534, 768, 769, 776, 778, 519];
/// The interface is up (`IFF_UP`).
const IFF_UP: u32 = 1;

/// What packets of an interface start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Ip,
    /// Something that is not read, by its `ARPHRD` number.
    Other(u32),
}

/// A network interface, as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number, which stays when it is renamed.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// What its packets start with.
    pub link: LinkLayer,
    /// The loopback interface.
    pub loopback: bool,
    /// There is a device behind it, real or of the hypervisor's.
    pub physical: bool,
    /// A tap device, or an end of a veth pair: what a guest or a container is behind.
    pub guest: bool,
    /// It is a port of a bridge.
    pub bridge_port: bool,
    /// Interfaces that it stands on: ports of a bridge, members of a bond, the parent of a VLAN.
    pub lowers: Vec<String>,
    /// Packets that it has received and sent, by its own counters, when this was read.
    pub packets: u64,
}

impl Interface {
    /// Packets that went by unwatched: since it has been there, or has been up, as far as that was
    /// after `last`, which is how the interfaces were the last time.
    pub fn unwatched(&self, last: &[Self]) -> u64 {
        match last.iter().find(|interface| interface.index == self.index) {
            None => self.packets,
            Some(down) if !down.up => self.packets.saturating_sub(down.packets),
            // It was left out on purpose.
            Some(_) => 0,
        }
    }
}

/// The interfaces of this host, by number.
///
/// # Errors
/// Where sysfs can't be read.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> =
        fs::read_dir(SYSFS)?.filter_map(|entry| read(entry.ok()?.file_name().to_str()?)).collect();
    interfaces.sort_unstable_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// The interface of this name, if there is one.
pub fn read(name: &str) -> Option<Interface> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let folder = Path::new(SYSFS).join(name);
    let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let number = |file: &str| text(file)?.trim().parse::<u32>().ok();
    let index = number("ifindex")?;
    let flags = u32::from_str_radix(text("flags")?.trim().trim_start_matches("0x"), 16).ok()?;
    let arphrd = number("type")?;
    let mut lowers: Vec<String> = fs::read_dir(&folder)
        .ok()?
        .filter_map(|entry| {
            let file = entry.ok()?.file_name().into_string().ok()?;
            file.strip_prefix("lower_").map(str::to_owned)
        })
        .collect();
    lowers.sort_unstable();
    let counted = |file: &str| text(file).and_then(|text| text.trim().parse().ok()).unwrap_or(0u64);
    let packets = counted("statistics/rx_packets").saturating_add(counted("statistics/tx_packets"));
    let physical = folder.join("device").exists();
    let loopback = arphrd == ARPHRD_LOOPBACK;
    // The other end of a veth pair is its link; uppers have one too, and stand on it.
    let veth = !physical && lowers.is_empty() && number("iflink").is_some_and(|at| at != index);
    Some(Interface {
        name: name.to_owned(),
        index,
        up: flags & IFF_UP != 0,
        link: match arphrd {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => LinkLayer::Ethernet,
            arphrd if ARPHRD_IP.contains(&arphrd) => LinkLayer::Ip,
            arphrd => LinkLayer::Other(arphrd),
        },
        loopback,
        physical,
        guest: arphrd == ARPHRD_ETHER && (veth || folder.join("tun_flags").exists()),
        bridge_port: folder.join("brport").exists(),
        lowers,
        packets,
    })
}

/// Why `any` leaves an interface out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// It is down.
    #[error("it is down")]
    Down,
    /// Its packets start with something that is not read.
    #[error("its link layer (ARPHRD {0}) is not read")]
    Link(u32),
    /// A guest on a bridge.
    #[error("a bridge port of a guest: its packets are seen at the bridge")]
    Guest,
    /// It stands on a watched one.
    #[error("its packets are seen at {0}, on which it stands")]
    Upper(String),
}

/// Which of these interfaces `any` watches, so that no packet is counted twice: all that are up
/// but bridge ports of guests, and what stands on a watched interface.
pub fn select(interfaces: &[Interface]) -> Vec<(&Interface, Result<(), LeftOut>)> {
    let mut watched = BTreeSet::new();
    let alone = |interface: &Interface| match interface.link {
        _ if !interface.up => Err(LeftOut::Down),
        LinkLayer::Other(arphrd) => Err(LeftOut::Link(arphrd)),
        _ if interface.bridge_port && interface.guest => Err(LeftOut::Guest),
        _ => Ok(()),
    };
    // An interface is looked at after those that it stands on, to any height.
    let mut open: Vec<&Interface> = interfaces.iter().collect();
    let mut verdicts: Vec<(&Interface, Result<(), LeftOut>)> = Vec::new();
    while !open.is_empty() {
        let is_open = |name: &String| open.iter().any(|other| other.name == *name);
        let next = open.iter().position(|interface| !interface.lowers.iter().any(is_open));
        // Interfaces do not stand on each other in circles; if they did, one has to be the first.
        let interface = open.remove(next.unwrap_or(0));
        let lower = interface.lowers.iter().find(|lower| watched.contains(*lower));
        let verdict = match (alone(interface), lower) {
            (Ok(()), Some(lower)) => Err(LeftOut::Upper(lower.clone())),
            (verdict, _) => verdict,
        };
        // What stands on an upper stands on what that stands on.
        if verdict.is_ok() || matches!(verdict, Err(LeftOut::Upper(_))) {
            watched.insert(interface.name.clone());
        }
        verdicts.push((interface, verdict));
    }
    verdicts.sort_unstable_by_key(|(interface, _)| interface.index);
    verdicts
}

/// The addresses of interfaces.
///
/// # Errors
/// Where the system does not tell.
pub fn addresses(of: impl Fn(&str) -> bool) -> Result<Vec<IpAddr>, pcap::Error> {
    let devices = Device::list()?;
    let addresses = devices
        .into_iter()
        .filter(|device| of(&device.name))
        .flat_map(|device| device.addresses)
        .map(|address| address.addr);
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Interface {
        Interface {
            name: name.into(),
            index,
            up: true,
            link: LinkLayer::Ethernet,
            loopback: false,
            physical: false,
            guest: false,
            bridge_port: false,
            lowers: Vec::new(),
            packets: 100,
        }
    }

    fn on(index: u32, name: &str, lowers: &[&str]) -> Interface {
        let lowers = lowers.iter().map(|lower| (*lower).to_owned()).collect();
        Interface { lowers, ..interface(index, name) }
    }

    fn port(index: u32, name: &str) -> Interface {
        Interface { bridge_port: true, guest: true, ..interface(index, name) }
    }

    fn watched(interfaces: &[Interface]) -> Vec<&str> {
        let verdicts = select(interfaces).into_iter();
        verdicts.filter(|(_, verdict)| verdict.is_ok()).map(|(i, _)| i.name.as_str()).collect()
    }

    #[test]
    fn any_watches_each_packet_once() {
        let lo = Interface { loopback: true, ..interface(1, "lo") };
        let eth0 = Interface { physical: true, ..interface(2, "eth0") };
        let down = Interface { up: false, ..interface(9, "eth9") };
        let tun = Interface { link: LinkLayer::Ip, ..interface(10, "tun0") };
        let wlan = Interface { link: LinkLayer::Other(803), ..interface(11, "mon0") };
        for (interfaces, expected) in [
            (vec![lo.clone(), eth0.clone(), down, tun, wlan], vec!["lo", "eth0", "tun0"]),
            // A VLAN, and a bridge on the VLAN with a container.
            (
                vec![
                    eth0.clone(),
                    on(5, "br0", &["eth0.7", "veth1"]),
                    on(4, "eth0.7", &["eth0"]),
                    port(6, "veth1"),
                ],
                vec!["eth0"],
            ),
            // A bridge of containers alone is watched itself.
            (
                vec![
                    lo,
                    eth0.clone(),
                    on(3, "docker0", &["veth1", "veth2"]),
                    port(4, "veth1"),
                    port(5, "veth2"),
                ],
                vec!["lo", "eth0", "docker0"],
            ),
            // A bond: its members are watched.
            (
                vec![on(3, "bond0", &["eth0", "eth1"]), eth0.clone(), interface(4, "eth1")],
                vec!["eth0", "eth1"],
            ),
            // The parent is down, so the macvlan on it has no packets that are seen elsewhere.
            (vec![Interface { up: false, ..eth0 }, on(3, "macvlan0", &["eth0"])], vec!["macvlan0"]),
        ] {
            assert_eq!(watched(&interfaces), expected);
        }
    }

    #[test]
    fn what_goes_by_before_an_interface_is_watched_is_known() {
        let now = Interface { packets: 130, ..interface(3, "eth0") };
        assert_eq!(now.unwatched(&[interface(2, "eth0")]), 130);
        let down = Interface { up: false, ..interface(3, "eth0") };
        assert_eq!(now.unwatched(&[interface(2, "eth1"), down]), 30);
        assert_eq!(now.unwatched(&[interface(3, "eth0")]), 0);
    }

    #[test]
    fn the_loopback_interface_is_read() {
        let lo = read("lo").unwrap();
        assert_eq!((lo.link, lo.loopback, lo.physical), (LinkLayer::Ethernet, true, false));
        assert_eq!(read("../net"), None);
        assert!(list().unwrap().iter().any(|interface| interface.name == "lo"));
    }
}
