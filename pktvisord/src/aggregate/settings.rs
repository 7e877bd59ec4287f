//! Settings that determine the summaries: the same for all workers of an agent.

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
use crate::store::history::Counted;
use crate::time::{Span, Timestamp};

/// DNS, mDNS (RFC 6762), LLMNR (RFC 4795), and 53000, which pktvisor has always treated as a DNS port.
pub const DEFAULT_DNS_PORTS: [u16; 4] = [53, 5353, 5355, 53000];

/// Settings that determine the summaries.
#[derive(Debug)]
pub struct Settings {
    /// Addresses of HOST. They change as interfaces come and go.
    pub hosts: Shared<HostSpec>,
    /// DNS ports.
    pub ports: Shared<DnsPorts>,
    /// Time until which packets were counted with different DNS ports.
    pub other_ports: OtherPorts,
    /// Location and AS databases.
    pub databases: Shared<GeoDatabases>,
    /// Time that a query waits for its reply.
    pub timeout: Span,
    /// Cutting of names, and hashing of keys.
    pub anonymizer: Anonymizer,
    /// Sampling rates.
    pub sampling: Sampling,
    /// Which headers of a tunnelled packet count.
    pub tunnels: Tunnels,
    /// Key of the flow hash. New at each start if packets come from interfaces.
    pub flow_key: FlowKey,
}

impl Default for Settings {
    /// The settings without any option or interface: HOST is unknown, DNS uses the default ports,
    /// queries wait 5 s, every packet is inspected.
    fn default() -> Self {
        Self {
            hosts: HostSpec::default().into(),
            ports: DnsPorts::new(&DEFAULT_DNS_PORTS).into(),
            other_ports: OtherPorts::default(),
            databases: GeoDatabases::default().into(),
            timeout: Span::from_seconds(5),
            anonymizer: Anonymizer::default(),
            sampling: Sampling::new(100),
            tunnels: Tunnels::default(),
            flow_key: FlowKey::FIXED,
        }
    }
}

/// What counts of a packet in an IP tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tunnels {
    /// Outer headers
    #[default]
    Outer,
    /// Inner headers
    Inner,
}

impl Settings {
    /// Returns the terms and the key of the minutes that are counted now.
    pub(crate) fn counted(&self) -> Counted {
        Counted { terms: self.terms(), keyed: self.anonymizer.fleet.into() }
    }

    /// Returns the terms that another summary must share to be merged.
    pub fn terms(&self) -> Terms {
        Terms {
            ports: self.ports.now().list.clone(),
            public_suffix: self.anonymizer.public_suffix,
            mask: self.anonymizer.mask,
            names: self.anonymizer.names.map(|key| key.fingerprint()),
        }
    }

    /// Returns a lookup of locations and AS in the current databases.
    pub fn geo(&self) -> Geo {
        Geo::new(self.databases.now(), self.anonymizer.fleet)
    }
}

/// A value that may change while the daemon runs.
#[derive(Debug, Default)]
pub struct Shared<T>(RwLock<Arc<T>>);

impl<T> Shared<T> {
    /// Returns the current value. Takes a lock, so do not call it for each packet.
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.set_shared(Arc::new(value));
    }

    /// Replaces the value with one that may be shared.
    pub fn set_shared(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }
}

/// Time until which packets were counted with DNS ports other than the current ones.
#[derive(Debug)]
pub struct OtherPorts(AtomicI64);

impl Default for OtherPorts {
    fn default() -> Self {
        Self(AtomicI64::new(Timestamp::MIN.as_nanos()))
    }
}

impl OtherPorts {
    /// Records that other DNS ports applied up to this time.
    pub fn set_until(&self, time: Timestamp) {
        self.0.fetch_max(time.as_nanos(), Ordering::Relaxed);
    }

    /// Returns true if any part of this unix minute was counted with other DNS ports.
    pub fn cover(&self, minute: i64) -> bool {
        minute <= Timestamp::from_nanos(self.0.load(Ordering::Relaxed)).minute()
    }
}

/// A set of ports.
#[derive(Debug, PartialEq, Eq)]
pub struct DnsPorts {
    bits: Box<[u64; 1024]>,
    list: Vec<u16>,
}

/// The verdict on a packet with a DNS port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsSide {
    /// Port of the side that is not the DNS port.
    pub other: u16,
    /// True if the DNS port is in the ephemeral range: the payload must then look like DNS.
    pub doubtful: bool,
}

impl DnsSide {
    /// Returns whether the packet is DNS for sure or only if its payload looks like DNS.
    #[inline]
    pub fn decided(self) -> Dns {
        if self.doubtful { Dns::Doubtful } else { Dns::Sure }
    }
}

impl DnsPorts {
    /// Creates the set of these ports.
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

    /// Returns the classification rules with these ports.
    pub fn rules(&self, sampling: &Sampling) -> Rules<'_> {
        Rules { ports: &self.bits, dns: sampling.dns(), rest: sampling.rest() }
    }

    /// Returns a bitmap of the ports.
    pub fn bits(&self) -> &[u64; 1024] {
        &self.bits
    }

    /// Returns the verdict if a TCP or UDP packet has a DNS port. The destination is checked first.
    #[inline]
    pub fn side(&self, meta: &PacketMeta) -> Option<DnsSide> {
        self.side_of(meta, classify::dns(&self.bits, meta))
    }

    /// Like [`Self::side`], for a packet that is already classified.
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

/// Maximum number of times the sampling rate is halved under overload: down to 1/64.
pub const HALVINGS: usize = 6;

/// Rates by percentage and number of halvings.
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

/// The share of packets to inspect: the configured share, halved while user space does not keep up.
#[derive(Debug)]
pub struct Sampling {
    percent: AtomicU8,
    dns: AtomicUsize,
    rest: AtomicUsize,
}

impl Sampling {
    /// Inspects `percent` of packets, 0 to 100.
    pub fn new(percent: u8) -> Self {
        let percent = AtomicU8::new(percent.min(100));
        Self { percent, dns: AtomicUsize::new(0), rest: AtomicUsize::new(0) }
    }

    /// Sets the configured percentage.
    pub fn set_percent(&self, percent: u8) {
        self.percent.store(percent.min(100), Ordering::Relaxed);
    }

    /// Returns the configured percentage.
    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }

    fn rate(&self, halvings: &AtomicUsize) -> &'static Rate {
        &RATES[usize::from(self.percent())][halvings.load(Ordering::Relaxed)]
    }

    /// Sets how often the rates of DNS and of other packets are halved, each at most [`HALVINGS`] times.
    pub fn halve(&self, dns: usize, rest: usize) {
        self.dns.store(dns.min(HALVINGS), Ordering::Relaxed);
        self.rest.store(rest.min(HALVINGS), Ordering::Relaxed);
    }

    /// Returns the current rates in percent: of DNS, and of other packets.
    pub fn percents(&self) -> (f64, f64) {
        let of = |halvings: &AtomicUsize| {
            f64::from(self.percent()) / f64::from(1 << halvings.load(Ordering::Relaxed))
        };
        (of(&self.dns), of(&self.rest))
    }

    /// Returns the current rate of DNS.
    #[inline]
    pub fn dns(&self) -> &'static Rate {
        self.rate(&self.dns)
    }

    /// Returns the current rate of other packets.
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
    fn one_dns_port_makes_packet_dns() {
        assert_eq!(side(1234, 53), Some((1234, false)));
        assert_eq!(side(53, 1234), Some((1234, false)));
        assert_eq!(side(53, 53), Some((53, false)));
        assert_eq!(side(1234, 80), None);
        assert_eq!(side(1234, 53000), Some((1234, true)));
        assert_eq!(side(53, 53000), Some((53000, false)), "a client of port 53000");
        assert_eq!(side(53000, 53), Some((53000, false)));
    }
}
