//! Summaries of packets of all protocols.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use crate::abi;
use crate::direction::{Direction, PerDirection};
use crate::sketch::cardinality::Cardinality;
use crate::sketch::tally::Tally;
use crate::sketch::top::{Entry, Label, Top, rank};

/// Exact counts of all packets, sampled or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets by direction.
    pub packets: PerDirection<u64>,
    /// Bytes on the wire by direction.
    pub bytes: PerDirection<u64>,
    /// UDP packets.
    pub udp: u64,
    /// TCP packets.
    pub tcp: u64,
    /// ICMP and ICMPv6 packets.
    pub icmp: u64,
    /// IPv4 packets.
    pub ipv4: u64,
    /// IPv6 packets.
    pub ipv6: u64,
    /// TCP packets with SYN set.
    pub syn: u64,
    /// TCP packets with FIN set.
    pub fin: u64,
    /// TCP packets with RST set.
    pub rst: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Packets with malformed headers.
    pub malformed: u64,
}

impl Totals {
    /// Returns the number of packets of all directions.
    pub fn total(&self) -> u64 {
        self.packets.total()
    }

    /// Returns the number of packets that are neither TCP, UDP nor ICMP: other protocols, non-first
    /// fragments, non-IP packets.
    pub fn other_transports(&self) -> u64 {
        let Self { tcp, udp, icmp, .. } = self;
        self.total().saturating_sub(*tcp).saturating_sub(*udp).saturating_sub(*icmp)
    }

    /// Returns the number of packets that are neither IPv4 nor IPv6.
    pub fn non_ip(&self) -> u64 {
        self.total().saturating_sub(self.ipv4).saturating_sub(self.ipv6)
    }
}

/// The totals of the packets that the kernel programs counted.
impl From<&abi::Counters> for Totals {
    fn from(counters: &abi::Counters) -> Self {
        let abi::Counters {
            packets,
            bytes,
            ipv4,
            ipv6,
            tcp,
            udp,
            icmp,
            syn,
            fin,
            rst,
            fragments,
            malformed,
            // Not about packets of all kinds: samples, outcomes, records and their losses.
            deep_samples: _,
            undecided: _,
            outcomes: _,
            sent: _,
            lost: _,
        } = *counters;
        let (packets, bytes) = (PerDirection::from(packets), PerDirection::from(bytes));
        Self { packets, bytes, udp, tcp, icmp, ipv4, ipv6, syn, fin, rst, fragments, malformed }
    }
}

impl Counters for Totals {
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        let Self {
            packets,
            bytes,
            udp,
            tcp,
            icmp,
            ipv4,
            ipv6,
            syn,
            fin,
            rst,
            fragments,
            malformed,
        } = self;
        let [packets_in, packets_out, packets_unknown] = packets.as_array_mut();
        let [bytes_in, bytes_out, bytes_unknown] = bytes.as_array_mut();
        vec![
            ("packets.in", packets_in),
            ("packets.out", packets_out),
            ("packets.unknown_dir", packets_unknown),
            ("packets.bytes.in", bytes_in),
            ("packets.bytes.out", bytes_out),
            ("packets.bytes.unknown_dir", bytes_unknown),
            ("packets.udp", udp),
            ("packets.tcp", tcp),
            ("packets.icmp", icmp),
            ("packets.ipv4", ipv4),
            ("packets.ipv6", ipv6),
            ("packets.tcp.syn", syn),
            ("packets.tcp.fin", fin),
            ("packets.tcp.rst", rst),
            ("packets.fragments", fragments),
            ("packets.malformed", malformed),
        ]
    }
}

impl Label for IpAddr {
    fn name(&self) -> String {
        self.to_string()
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// Sketches and tallies of the packets chosen for deep inspection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PacketSketches {
    /// Packets chosen for deep inspection.
    pub deep_samples: u64,
    /// Distinct sources of packets to HOST.
    pub sources_in: Cardinality,
    /// Distinct destinations of packets from HOST.
    pub destinations_out: Cardinality,
    /// Distinct addresses, source or destination.
    pub addresses: Cardinality,
    /// Packets by remote IPv4 address.
    pub ipv4: Top<IpAddr>,
    /// Packets by remote IPv6 address.
    pub ipv6: Top<IpAddr>,
    /// Bytes by remote address.
    pub bytes: Top<IpAddr>,
    /// Packets by location of the remote address.
    pub places: Top<Box<str>>,
    /// Packets by autonomous system of the remote address.
    pub systems: Top<Box<str>>,
    /// Packets by the lower port of TCP flows.
    pub tcp_ports: Tally,
    /// Packets by the lower port of UDP flows.
    pub udp_ports: Tally,
    /// Packets by bytes of TCP or UDP payload, not scaled. 65535 also counts larger payloads.
    pub payload: Tally,
}

/// Numbers of distinct IP addresses of inspected packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DistinctAddresses {
    /// Sources of packets to HOST.
    pub sources_in: u64,
    /// Destinations of packets from HOST.
    pub destinations_out: u64,
    /// Addresses, source or destination.
    pub either_end: u64,
    /// Largest standard error of the three counts in percent; 0 if all are exact.
    pub error_pct: f64,
}

impl PacketSketches {
    /// Returns the numbers of distinct addresses, capped by the number of packets that could have
    /// shown them.
    pub fn distinct_addresses(&self, totals: &Totals) -> DistinctAddresses {
        let Self { deep_samples, sources_in, destinations_out, addresses, .. } = self;
        let of = |direction| totals.packets[direction].min(*deep_samples);
        let errors = [sources_in, destinations_out, addresses].map(Cardinality::error_pct);
        DistinctAddresses {
            sources_in: sources_in.count(of(Direction::In)),
            destinations_out: destinations_out.count(of(Direction::Out)),
            either_end: addresses.count(deep_samples.saturating_mul(2)),
            error_pct: errors.into_iter().fold(0.0, f64::max),
        }
    }

    /// Returns the TCP and UDP ports with the most packets, named as in `53/udp`.
    pub fn top_ports(&self) -> Vec<Entry> {
        let named = |tally: &Tally, transport: &str| -> Vec<(String, u64)> {
            tally.iter().map(|(port, count)| (format!("{port}/{transport}"), count)).collect()
        };
        let tcp = named(&self.tcp_ports, "tcp");
        rank(tcp.into_iter().chain(named(&self.udp_ports, "udp")), |_| None)
    }

    /// Keeps the `keys` highest keys of each top list, see [`Top::truncate`].
    pub(super) fn truncate_lists(&mut self, keys: usize) {
        let Self {
            deep_samples: _,
            sources_in: _,
            destinations_out: _,
            addresses: _,
            ipv4,
            ipv6,
            bytes,
            places,
            systems,
            tcp_ports: _,
            udp_ports: _,
            payload: _,
        } = self;
        for list in [ipv4, ipv6, bytes] {
            list.truncate(keys);
        }
        for list in [places, systems] {
            list.truncate(keys);
        }
    }

    /// Removes all keys: top lists, cardinalities and ports.
    pub(super) fn drop_keys(&mut self) {
        let Self {
            deep_samples,
            sources_in: _,
            destinations_out: _,
            addresses: _,
            ipv4: _,
            ipv6: _,
            bytes: _,
            places: _,
            systems: _,
            tcp_ports: _,
            udp_ports: _,
            payload,
        } = std::mem::take(self);
        *self = Self { deep_samples, payload, ..Self::default() };
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Self {
            deep_samples,
            sources_in,
            destinations_out,
            addresses,
            ipv4,
            ipv6,
            bytes,
            places,
            systems,
            tcp_ports,
            udp_ports,
            payload,
        } = self;
        *deep_samples = deep_samples.saturating_add(other.deep_samples);
        sources_in.merge(&other.sources_in);
        destinations_out.merge(&other.destinations_out);
        addresses.merge(&other.addresses);
        ipv4.merge(&other.ipv4);
        ipv6.merge(&other.ipv6);
        bytes.merge(&other.bytes);
        places.merge(&other.places);
        systems.merge(&other.systems);
        tcp_ports.merge(&other.tcp_ports);
        udp_ports.merge(&other.udp_ports);
        payload.merge(&other.payload);
    }
}
