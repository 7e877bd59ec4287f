//! What is summed up of packets of every kind.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use crate::sketch::cardinality::Cardinality;
use crate::sketch::tally::Tally;
use crate::sketch::top::{Label, Top};

/// Exact counts of all packets, whether they were sampled or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets by direction.
    pub packets: [u64; 3],
    /// Bytes on the wire by direction.
    pub bytes: [u64; 3],
    /// UDP packets.
    pub udp: u64,
    /// TCP packets.
    pub tcp: u64,
    /// ICMP packets of either version.
    pub icmp: u64,
    /// IPv4 packets.
    pub ipv4: u64,
    /// IPv6 packets.
    pub ipv6: u64,
    /// TCP packets with SYN.
    pub syn: u64,
    /// TCP packets with FIN.
    pub fin: u64,
    /// TCP packets with RST.
    pub rst: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Packets with broken headers.
    pub malformed: u64,
}

impl Totals {
    /// Packets of all directions.
    pub fn total(&self) -> u64 {
        self.packets.iter().fold(0, |sum, &n| sum.saturating_add(n))
    }
}

impl Counters for Totals {
    fn counters(&mut self) -> Vec<(&'static str, &mut u64)> {
        let Self {
            packets: [packets_in, packets_out, packets_unknown],
            bytes: [bytes_in, bytes_out, bytes_unknown],
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

/// What packets that were chosen for deep inspection add up to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PacketSketches {
    /// Packets chosen.
    pub deep_samples: u64,
    /// Sources of packets to HOST.
    pub sources_in: Cardinality,
    /// Destinations of packets from HOST.
    pub destinations_out: Cardinality,
    /// Addresses at either end.
    pub addresses: Cardinality,
    /// Packets by remote IPv4 address.
    pub ipv4: Top<IpAddr>,
    /// Packets by remote IPv6 address.
    pub ipv6: Top<IpAddr>,
    /// Bytes by remote address.
    pub bytes: Top<IpAddr>,
    /// Packets by place of the remote address.
    pub places: Top<Box<str>>,
    /// Packets by autonomous system of the remote address.
    pub systems: Top<Box<str>>,
    /// Packets by the lower port of TCP flows.
    pub tcp_ports: Tally,
    /// Packets by the lower port of UDP flows.
    pub udp_ports: Tally,
    /// Bytes of TCP and UDP payload, not scaled; 65535 stands for more.
    pub payload: Tally,
}

impl PacketSketches {
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
