//! What the summaries depend on: the same for all workers of an agent.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use clap::ValueEnum;
use pktvisor_common::classify::{self, Dns, EPHEMERAL, Rules};
use pktvisor_common::flow::FlowKey;
use pktvisor_common::packet::PacketMeta;
use pktvisor_common::sampling::Rate;
use pktvisor_common::summary::state::Terms;

use crate::aggregate::anonymize::Anonymizer;
use crate::aggregate::geo::{Geo, GeoDatabases};
use crate::aggregate::host::HostSpec;
use crate::time::minute_of;

/// DNS, mDNS (RFC 6762), LLMNR (RFC 4795), and the port that pktvisor always took for DNS too.
pub const DEFAULT_DNS_PORTS: [u16; 4] = [53, 5353, 5355, 53000];

/// What the summaries depend on.
#[derive(Debug)]
pub struct Settings {
    /// The addresses under watch, which change while interfaces are watched.
    pub hosts: Shared<HostSpec>,
    /// The ports of DNS.
    pub ports: Shared<DnsPorts>,
    /// Until when packets were counted by other ports.
    pub other_ports: OtherPorts,
    /// Where addresses belong.
    pub databases: Shared<GeoDatabases>,
    /// How long a query waits for its reply, in nanoseconds.
    pub timeout: i64,
    /// How names are cut and keys are hashed.
    pub anonymizer: Anonymizer,
    /// How many packets are inspected.
    pub sampling: Sampling,
    /// What counts of a packet in an IP tunnel.
    pub tunnels: Tunnels,
    /// What flows are hashed with: new at each start where packets come from interfaces.
    pub flow_key: FlowKey,
}

/// What counts of a packet in an IP tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tunnels {
    /// The outer packet
    #[default]
    Outer,
    /// The packet inside
    Inner,
}

impl Settings {
    /// What summaries must share with these to be merged.
    pub fn terms(&self) -> Terms {
        Terms {
            ports: self.ports.now().list.clone(),
            public_suffix: self.anonymizer.public_suffix,
            mask: self.anonymizer.mask,
            names: self.anonymizer.names.map(|key| key.fingerprint()),
        }
    }

    /// Looks up where addresses belong, in the databases as they are now.
    pub fn geo(&self) -> Geo {
        Geo::new(self.databases.now(), self.anonymizer.fleet)
    }
}

/// Something that may change while the daemon runs.
#[derive(Debug, Default)]
pub struct Shared<T>(RwLock<Arc<T>>);

impl<T> Shared<T> {
    /// As it is now. Not to be asked for each packet.
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on it is this.
    pub fn set(&self, value: T) {
        self.set_shared(Arc::new(value));
    }

    /// From now on it is this, which others may have too.
    pub fn set_shared(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }
}

/// Until when packets were counted by other DNS ports than those of now.
#[derive(Debug)]
pub struct OtherPorts(AtomicI64);

impl Default for OtherPorts {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl OtherPorts {
    /// Up to this time other ports were gone by.
    pub fn set_until(&self, time: i64) {
        self.0.fetch_max(time, Ordering::Relaxed);
    }

    /// Whether a unix minute, or a part of it, was counted by other ports.
    pub fn cover(&self, minute: i64) -> bool {
        minute <= minute_of(self.0.load(Ordering::Relaxed))
    }
}

/// A set of ports.
#[derive(Debug, PartialEq, Eq)]
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

impl DnsSide {
    /// Whether that makes the packet DNS for sure.
    #[inline]
    pub fn decided(self) -> Dns {
        if self.doubtful { Dns::Doubtful } else { Dns::Sure }
    }
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

    /// What becomes of packets, with these ports.
    pub fn rules(&self, sampling: &Sampling) -> Rules<'_> {
        Rules { ports: &self.bits, dns: sampling.dns(), rest: sampling.rest() }
    }

    /// One bit for each port of the set.
    pub fn bits(&self) -> &[u64; 1024] {
        &self.bits
    }

    /// Whether one side of a TCP or UDP packet has a DNS port; the destination is asked first.
    #[inline]
    pub fn side(&self, meta: &PacketMeta) -> Option<DnsSide> {
        self.side_of(meta, classify::dns(&self.bits, meta))
    }

    /// As [`Self::side`], of a packet of which it is known what its ports make it.
    #[inline]
    pub fn side_of(&self, meta: &PacketMeta, dns: Dns) -> Option<DnsSide> {
        let sure = match dns {
            Dns::No => return None,
            Dns::Sure => true,
            Dns::Doubtful => false,
        };
        let dst = classify::has_port(&self.bits, meta.dst_port);
        let by_dst = dst && (!sure || meta.dst_port < EPHEMERAL);
        let other = if by_dst { meta.src_port } else { meta.dst_port };
        Some(DnsSide { other, doubtful: !sure })
    }
}

/// Halvings of the sampling rate under overload, at most: to a 64th.
pub const HALVINGS: usize = 6;

/// Rates by percentage and by how often it was halved.
static RATES: [[Rate; HALVINGS + 1]; 101] = {
    let mut rates = [[Rate::ALL; HALVINGS + 1]; 101];
    let mut percent = 0;
    while percent < rates.len() {
        let mut halvings = 0;
        while halvings <= HALVINGS {
            rates[percent][halvings] = Rate::of(percent as u32, 100 << halvings);
            halvings += 1;
        }
        percent += 1;
    }
    rates
};

/// The share of packets that are inspected: what is asked for, and what is left of it while user
/// space does not keep up.
#[derive(Debug)]
pub struct Sampling {
    percent: AtomicU8,
    dns: AtomicUsize,
    rest: AtomicUsize,
}

impl Sampling {
    /// Inspects `percent` of the packets, 0 to 100.
    pub fn new(percent: u8) -> Self {
        let percent = AtomicU8::new(percent.min(100));
        Self { percent, dns: AtomicUsize::new(0), rest: AtomicUsize::new(0) }
    }

    /// From now on this percentage is asked for.
    pub fn set_percent(&self, percent: u8) {
        self.percent.store(percent.min(100), Ordering::Relaxed);
    }

    /// The percentage that is asked for.
    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }

    fn rate(&self, halvings: &AtomicUsize) -> &'static Rate {
        &RATES[usize::from(self.percent())][halvings.load(Ordering::Relaxed)]
    }

    /// Halves the rates so often, those of DNS and of the rest, [`HALVINGS`] times at most.
    pub fn halve(&self, dns: usize, rest: usize) {
        self.dns.store(dns.min(HALVINGS), Ordering::Relaxed);
        self.rest.store(rest.min(HALVINGS), Ordering::Relaxed);
    }

    /// The rates now, in percent: of DNS, and of all else.
    pub fn percents(&self) -> (f64, f64) {
        let of = |halvings: &AtomicUsize| {
            f64::from(self.percent()) / f64::from(1 << halvings.load(Ordering::Relaxed))
        };
        (of(&self.dns), of(&self.rest))
    }

    /// The rate of DNS now.
    #[inline]
    pub fn dns(&self) -> &'static Rate {
        self.rate(&self.dns)
    }

    /// The rate of all else now.
    #[inline]
    pub fn rest(&self) -> &'static Rate {
        self.rate(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use pktvisor_common::packet::Transport;

    use super::*;

    fn side(src_port: u16, dst_port: u16) -> Option<(u16, bool)> {
        let transport = Transport::Udp;
        let meta = PacketMeta { src_port, dst_port, transport, ..PacketMeta::default() };
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
