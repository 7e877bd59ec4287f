//! What is counted of a key in the exact maps in front of the sketches.

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
