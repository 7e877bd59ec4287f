//! What the summaries depend on: the same for all shards of an agent.

use std::sync::{Arc, PoisonError, RwLock};

use pktvisor_common::packet::PacketMeta;
use pktvisor_common::probe::EPHEMERAL;
use pktvisor_common::sampling::Rate;

use crate::host::HostSpec;
use crate::summary::bucket::Naming;
use crate::summary::state::Terms;

/// DNS, mDNS (RFC 6762), LLMNR (RFC 4795), and the port that pktvisor always took for DNS too.
pub const DEFAULT_DNS_PORTS: [u16; 4] = [53, 5353, 5355, 53000];

/// What the summaries depend on.
#[derive(Debug)]
pub struct Settings {
    /// The addresses under watch.
    pub hosts: Hosts,
    /// The ports of DNS.
    pub ports: DnsPorts,
    /// How long a query waits for its reply, in nanoseconds.
    pub timeout: i64,
    /// How names are cut and keys are hashed.
    pub naming: Naming,
    /// How many packets are inspected.
    pub sampling: Sampling,
}

impl Settings {
    /// What summaries must share with these to be merged.
    pub fn terms(&self) -> Terms {
        Terms {
            ports: self.ports.list.clone(),
            public_suffix: self.naming.public_suffix,
            seed: self.naming.seed,
        }
    }
}

/// HOST, which changes while interfaces are watched.
#[derive(Debug, Default)]
pub struct Hosts(RwLock<Arc<HostSpec>>);

impl Hosts {
    /// HOST as it is now. Not to be asked for each packet.
    pub fn now(&self) -> Arc<HostSpec> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this is HOST.
    pub fn set(&self, hosts: HostSpec) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
    }
}

impl From<HostSpec> for Hosts {
    fn from(hosts: HostSpec) -> Self {
        Self(RwLock::new(Arc::new(hosts)))
    }
}

/// A set of ports.
#[derive(Debug)]
pub struct DnsPorts {
    bits: Box<[u64; 1024]>,
    list: Vec<u16>,
}

/// How a packet's ports make it DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsSide {
    /// The port of the side that is not the DNS port.
    pub other: u16,
    /// The DNS port lies among the ephemeral ones: the message has to read like DNS.
    pub doubtful: bool,
}

impl DnsPorts {
    /// The set of these ports.
    pub fn new(ports: &[u16]) -> Self {
        let mut list = ports.to_vec();
        list.sort_unstable();
        list.dedup();
        let mut bits = Box::new([0; 1024]);
        for &port in &list {
            bits[usize::from(port / 64)] |= 1 << (port % 64);
        }
        Self { bits, list }
    }

    /// One bit for each port of the set.
    pub fn bits(&self) -> &[u64; 1024] {
        &self.bits
    }

    #[inline]
    fn contains(&self, port: u16) -> bool {
        self.bits[usize::from(port / 64)] >> (port % 64) & 1 == 1
    }

    /// Whether one side of a TCP or UDP packet has a DNS port; the destination is asked first.
    #[inline]
    pub fn side(&self, meta: &PacketMeta) -> Option<DnsSide> {
        let (src, dst) = (self.contains(meta.src_port), self.contains(meta.dst_port));
        if !src && !dst {
            return None;
        }
        let sure = src && meta.src_port < EPHEMERAL || dst && meta.dst_port < EPHEMERAL;
        let by_dst = dst && (!sure || meta.dst_port < EPHEMERAL);
        let other = if by_dst { meta.src_port } else { meta.dst_port };
        Some(DnsSide { other, doubtful: !sure })
    }
}

/// The share of packets that are inspected.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    percent: u32,
    rate: Rate,
}

impl Sampling {
    /// Inspects `percent` of the packets, 0 to 100.
    pub fn new(percent: u8) -> Self {
        let percent = u32::from(percent.min(100));
        Self { percent, rate: Rate::of(percent, 100) }
    }

    /// The percentage.
    pub fn percent(&self) -> u32 {
        self.percent
    }

    /// The rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether every packet is inspected.
    #[inline]
    pub fn takes_all(&self) -> bool {
        self.rate.takes_all()
    }

    /// The weight of what has this hash: 0 where it is left out.
    #[inline]
    pub fn weight(&self, hash: u64) -> u32 {
        self.rate.weight(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(src_port: u16, dst_port: u16) -> Option<(u16, bool)> {
        let meta = PacketMeta { src_port, dst_port, ..PacketMeta::default() };
        DnsPorts::new(&DEFAULT_DNS_PORTS).side(&meta).map(|side| (side.other, side.doubtful))
    }

    #[test]
    fn one_side_makes_it_dns() {
        assert_eq!(side(1234, 53), Some((1234, false)));
        assert_eq!(side(53, 1234), Some((1234, false)));
        assert_eq!(side(53, 53), Some((53, false)));
        assert_eq!(side(1234, 80), None);
        assert_eq!(side(1234, 53000), Some((1234, true)));
        assert_eq!(side(53, 53000), Some((53000, false)), "a client of port 53000");
        assert_eq!(side(53000, 53), Some((53000, false)));
    }
}
