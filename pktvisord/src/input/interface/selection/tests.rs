//! Typical hosts, and the hooks that `any` watches on them.

use super::*;

/// Creates an interface that is up.
fn link(index: u32, name: &str, kind: &str) -> Interface {
    Interface { index, name: name.into(), kind: kind.into(), up: true, ..Interface::default() }
}

fn nic(index: u32, name: &str) -> Interface {
    Interface { physical: true, ..link(index, name, "") }
}

fn lo() -> Interface {
    Interface { loopback: true, ..link(1, "lo", "") }
}

fn port(of: u32, interface: Interface) -> Interface {
    Interface { master: Some(of), ..interface }
}

fn on(lower: u32, interface: Interface) -> Interface {
    Interface { lower: Some(lower), ..interface }
}

fn down(interface: Interface) -> Interface {
    Interface { up: false, ..interface }
}

/// Returns the watched sides: `name` for both, `>name` for ingress and `name>` for egress.
fn watched(interfaces: &[Interface]) -> Vec<String> {
    let found = select(interfaces).into_iter().filter_map(|(interface, verdict)| {
        let name = &interface.name;
        Some(match verdict.ok()?.sides {
            Sides::BOTH => name.clone(),
            Sides::INGRESS => format!(">{name}"),
            Sides::EGRESS => format!("{name}>"),
            Sides::NONE => format!("!{name}"),
        })
    });
    found.collect()
}

#[track_caller]
fn host(name: &str, interfaces: &[Interface], expected: &[&str]) {
    assert_eq!(watched(interfaces), expected, "{name}");
}

#[test]
fn plain_hosts() {
    host("server", &[lo(), nic(2, "eth0")], &[">lo", "eth0"]);
    host("down", &[lo(), down(nic(2, "eth0"))], &[">lo"]);
    host("router", &[nic(2, "eth0"), nic(3, "eth1")], &["eth0", "eth1"]);
    let tun = Interface { link: LinkLayer::Ip, ..link(3, "tun0", "tun") };
    host("VPN", &[nic(2, "eth0"), tun], &["eth0", "tun0"]);
    let monitor = Interface { link: LinkLayer::Other(803), ..link(3, "mon0", "") };
    host("unread link layer", &[nic(2, "eth0"), monitor], &["eth0"]);
}

#[test]
fn container_host() {
    let docker = [
        lo(),
        nic(2, "eth0"),
        link(3, "docker0", "bridge"),
        port(3, link(5, "veth5", "veth")),
        port(3, link(7, "veth7", "veth")),
    ];
    host("docker", &docker, &[">lo", "eth0", "docker0>", ">veth5", ">veth7"]);
    host("no containers", &docker[..3], &[">lo", "eth0", "docker0>"]);
    // A routed container, as with Calico.
    host("routed", &[nic(2, "eth0"), link(5, "cali5", "veth")], &["eth0", "cali5"]);
}

#[test]
fn hypervisor() {
    let interfaces = [
        lo(),
        port(3, nic(2, "eth0")),
        link(3, "br0", "bridge"),
        port(3, link(4, "tap4", "tun")),
        port(3, link(5, "tap5", "tun")),
    ];
    host("NIC, guests, host", &interfaces, &[">lo", ">eth0", "br0>", ">tap4", ">tap5"]);
    let mut bridge_down = interfaces.clone();
    bridge_down[2].up = false;
    host("bridge down", &bridge_down, &[">lo", "eth0", "tap4", "tap5"]);
    // Packets that the VLAN of a port sends do not come from the bridge.
    let vlan =
        [port(3, nic(2, "eth0")), link(3, "br0", "bridge"), on(2, link(4, "eth0.7", "vlan"))];
    host("VLAN on a port", &vlan, &[">eth0", "br0>", "eth0.7>"]);
    let vlan = [port(3, nic(2, "eth0")), link(3, "br0", "bridge"), on(3, link(4, "br0.7", "vlan"))];
    host("VLAN on a bridge", &vlan, &[">eth0", "br0>"]);
}

#[test]
fn open_vswitch() {
    let interfaces = [
        port(3, nic(2, "eth0")),
        down(link(3, "ovs-system", "openvswitch")),
        port(3, link(4, "br-int", "openvswitch")),
        port(3, link(5, "tap5", "tun")),
    ];
    host("Open vSwitch", &interfaces, &[">eth0", "br-int>", ">tap5"]);
}

#[test]
fn bond() {
    let interfaces = [
        port(4, nic(2, "eth0")),
        port(4, nic(3, "eth1")),
        link(4, "bond0", "bond"),
        on(4, link(5, "bond0.7", "vlan")),
    ];
    host("bond", &interfaces, &["eth0", "eth1"]);
    let mut bridged = interfaces.to_vec();
    bridged[2].master = Some(6);
    bridged.push(link(6, "br0", "bridge"));
    bridged.push(port(6, link(7, "tap7", "tun")));
    host("bond in a bridge", &bridged, &[">eth0", ">eth1", "bond0.7>", "br0>", ">tap7"]);
    let mut unplugged = interfaces.to_vec();
    unplugged[0].up = false;
    unplugged[1].up = false;
    host("members down", &unplugged, &["bond0"]);
}

#[test]
fn vlan_and_macvlan() {
    let interfaces = [
        nic(2, "eth0"),
        on(2, link(3, "eth0.7", "vlan")),
        on(3, link(4, "eth0.7.8", "vlan")),
        on(2, link(5, "macvlan0", "macvlan")),
        on(2, link(6, "ipvlan0", "ipvlan")),
    ];
    host("VLAN", &interfaces, &["eth0"]);
    // The parent is down, so nothing of the macvlan is seen elsewhere.
    host("parent down", &[down(nic(2, "eth0")), interfaces[3].clone()], &["macvlan0"]);
    // A bridge of one VLAN: the interface below shows all of it.
    let bridge = [nic(2, "eth0"), port(4, interfaces[1].clone()), link(4, "br7", "bridge")];
    host("bridge of a VLAN", &bridge, &["eth0"]);
    // With a guest it does not show traffic among the ports.
    let guest = [&bridge[..], &[port(4, link(5, "tap5", "tun"))]].concat();
    host("bridge of a VLAN and a guest", &guest, &["eth0", "br7>", ">tap5"]);
    let vrf = [port(3, nic(2, "eth0")), link(3, "red", "vrf")];
    host("VRF", &vrf, &["eth0"]);
}

#[test]
fn tunnel() {
    let vxlan = [nic(2, "eth0"), on(2, link(3, "vxlan0", "vxlan"))];
    host("VXLAN", &vxlan, &["eth0", "vxlan0"]);
    assert!(is_tunnel("vxlan") && !is_tunnel("vlan"));
    let mut bridged = vxlan.to_vec();
    bridged[1].master = Some(4);
    bridged.push(link(4, "br0", "bridge"));
    host("VXLAN in a bridge", &bridged, &["eth0", ">vxlan0", "br0>"]);
}

#[test]
fn leaves_out_ifb() {
    host("ifb", &[nic(2, "eth0"), link(3, "ifb0", "ifb")], &["eth0"]);
}

#[test]
fn switch_ports() {
    let interfaces = [nic(2, "eth0"), on(2, link(3, "lan1", "dsa")), on(2, link(4, "lan2", "dsa"))];
    host("switch", &interfaces, &["lan1", "lan2"]);
}

#[test]
fn veth_pair() {
    let pair = [on(3, link(2, "a", "veth")), on(2, link(3, "b", "veth"))];
    host("pair", &pair, &[">a", ">b"]);
    host("one end down", &[pair[0].clone(), down(pair[1].clone())], &["a"]);
    // One end is a bridge port, and the bridge shows the packets of the other end.
    let bridged = [&[port(4, pair[0].clone()), pair[1].clone()][..], &[link(4, "br0", "bridge")]];
    host("pair into a bridge", &bridged.concat(), &[">a", "br0>"]);
    let between = [
        port(4, pair[0].clone()),
        port(5, pair[1].clone()),
        link(4, "x", "bridge"),
        link(5, "y", "bridge"),
    ];
    host("pair between bridges", &between, &["x>", "y>"]);
}

#[test]
fn reasons_name_the_other_interface() {
    let interfaces = [
        port(3, nic(2, "eth0")),
        link(3, "br0", "bridge"),
        on(2, link(4, "eth0.7", "vlan")),
        link(5, "ifb0", "ifb"),
        on(7, link(6, "a", "veth")),
        on(6, link(7, "b", "veth")),
    ];
    let said: Vec<String> = select(&interfaces)
        .into_iter()
        .map(|(interface, verdict)| match verdict {
            Ok(Selected { one_sided: Some(why), .. }) => format!("{}: {why}", interface.name),
            Ok(_) => interface.name.clone(),
            Err(why) => format!("{}: {why}", interface.name),
        })
        .collect();
    assert_eq!(
        said,
        [
            "eth0: packets that it sends come from br0 or another port, and are seen there",
            "br0: packets that it receives are seen at its ports",
            "eth0.7: its other packets are seen at eth0, its lower interface",
            "ifb0: an ifb repeats packets that are seen at the interface that redirects to it",
            "a: packets that it sends are seen at b, the other end of the pair",
            "b: packets that it sends are seen at a, the other end of the pair",
        ]
    );
}

/// Contradictory lists neither panic nor take long.
#[test]
fn contradictory_lists_terminate() {
    let circle = [
        port(3, on(3, link(2, "a", "vlan"))),
        port(4, on(2, link(3, "b", "bond"))),
        port(2, on(2, link(4, "c", "bridge"))),
    ];
    let started = std::time::Instant::now();
    assert_eq!(select(&circle).len(), 3);
    assert!(started.elapsed() < std::time::Duration::from_secs(1));
}
