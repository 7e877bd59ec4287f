//! What is counted of a key in the exact maps in front of the sketches.

use std::net::IpAddr;

use pktvisor_common::packet::IpVersion;

/// What is counted of an address until it reaches the sketches, within one minute: 32 bits are
/// enough for 70 million packets a second. Small, for this is what misses the processor's caches.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressCounts {
    pub(super) remote_octets: u64,
    pub(super) remote_packets: u32,
    /// Its place in the list of addresses.
    pub(super) address: u16,
    pub(super) source_in: bool,
    pub(super) destination_out: bool,
}

impl AddressCounts {
    /// What is counted of an address that comes first now: it is added to the list of addresses.
    /// Apart, so that the way of those that came before is short.
    #[inline(never)]
    pub(super) fn new(list: &mut Vec<IpAddr>, octets: &[u8; 16], version: IpVersion) -> Self {
        let address = list.len() as u16;
        let [a, b, c, d, ..] = *octets;
        list.push(match version {
            IpVersion::V4 => IpAddr::from([a, b, c, d]),
            _ => IpAddr::from(*octets),
        });
        Self {
            remote_octets: 0,
            remote_packets: 0,
            address,
            source_in: false,
            destination_out: false,
        }
    }
}

/// What is counted of a query name until it reaches the sketches, within one minute: 32 bits are
/// enough for 70 million messages a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NameCounts {
    pub(super) text: u32,
    pub(super) text_len: u8,
    pub(super) messages: u32,
    pub(super) noerror: u32,
    pub(super) nodata: u32,
    pub(super) nxdomain: u32,
    pub(super) servfail: u32,
    pub(super) refused: u32,
    pub(super) reply_octets: u64,
}

impl NameCounts {
    /// What is counted of a name that comes first now: it is added to the octets of names. Apart, so
    /// that the way of those that came before is short.
    #[inline(never)]
    pub(super) fn new(octets: &mut Vec<u8>, wire: &[u8]) -> Self {
        let text = octets.len() as u32;
        octets.extend_from_slice(wire);
        Self { text, text_len: wire.len() as u8, ..Self::default() }
    }
}

/// What a message adds to the counts of its name.
#[derive(Clone, Copy, Debug)]
pub enum NameUse {
    /// A query.
    Query,
    /// A reply.
    Reply {
        /// Its response code.
        rcode: u16,
        /// NOERROR without answers.
        nodata: bool,
        /// Its octets, already weighted.
        octets: u64,
    },
}
