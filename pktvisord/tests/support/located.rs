//! Traffic with addresses that MaxMind's test databases contain.

use std::net::IpAddr;

use super::capture::{Capture, SECOND, START};
use super::dns::{A, Edns, Message};
use super::frame::{Flow, ethernet, udp};

pub const WASHINGTON: &str = "216.160.83.56";
pub const SWEDEN: &str = "89.160.20.112";
pub const RUSSIA: &str = "2a02:dac0::";
pub const TELSTRA: &str = "1.128.0.0";
pub const NOWHERE: &str = "6.6.6.6";

/// Returns DNS traffic between HOST and each of these addresses, with the address as client subnet
/// if `subnets` is set.
pub fn located(subnets: bool) -> Capture {
    let hosts: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|host| host.parse().unwrap());
    let mut capture = Capture::default();
    let remotes = [(WASHINGTON, 5), (SWEDEN, 4), (RUSSIA, 3), (TELSTRA, 2), (NOWHERE, 6)];
    for (remote, count) in remotes {
        let address: IpAddr = remote.parse().unwrap();
        let host = hosts[usize::from(address.is_ipv6())];
        for id in 0..count {
            let prefix = if address.is_ipv6() { 56 } else { 32 };
            let client_subnet = subnets.then_some((address, prefix));
            let edns = Some(Edns { udp_size: 1232, client_subnet, ..Edns::default() });
            let query = Message { edns, ..Message::query(id, "example.com", A) };
            let inbound = Flow::new(address, 4000 + id, host, 53);
            // Packets in both directions count for the remote address, but only queries count for
            // client subnets.
            capture.push(START, ethernet(&udp(&inbound, &query.octets())));
            let reply = query.reply(0, 1);
            let reply = Message { edns: query.edns, ..reply };
            let outbound = ethernet(&udp(&inbound.reversed(), &reply.octets()));
            capture.push(START + SECOND, outbound);
        }
    }
    capture.sort();
    capture
}
