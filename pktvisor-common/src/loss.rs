//! Why something was lost or given up.

/// A reason for which packets, messages, streams or datagrams were lost, given up or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// DNS samples that a full ring buffer had no room for.
    RingFullDns,
    /// Fragments that a full ring buffer had no room for.
    RingFullFragments,
    /// Header samples that a full ring buffer had no room for.
    RingFullHeaders,
    /// Packets that the capture buffer had no room for.
    KernelDrops,
    /// Packets that the interface dropped.
    IfDrops,
    /// Open queries evicted by newer ones.
    XactTableFull,
    /// Questions and records that are not read.
    DnsRecordsUnread,
    /// TCP connections with DNS evicted by newer ones.
    TcpStreamsEvicted,
    /// TCP connections with DNS evicted because all of them hold too many bytes.
    TcpBytesEvicted,
    /// TCP connections that fell silent within a message.
    TcpIdle,
    /// Gaps in TCP connections.
    TcpGaps,
    /// TCP segments cut by the snap length.
    TcpCut,
    /// Messages over TCP that began and never ended.
    TcpBrokenMessages,
    /// Times that it was no longer known where messages start.
    TcpDesync,
    /// Segments that came after what follows them had been read, where a capture starts inside a connection.
    TcpBeforeStart,
    /// Datagrams of which fragments are missing.
    FragmentsIncomplete,
    /// Fragmented datagrams evicted by newer ones.
    FragmentsEvicted,
    /// Fragments that contradict each other.
    FragmentsInvalid,
    /// Fragments cut by the snap length.
    FragmentsCut,
    /// Datagrams for which another worker had no room.
    FragmentsNotForwarded,
    /// Packets of an interface that came before it was watched.
    NotWatchedYet,
    /// Outer packets of tunnels whose inner packets are counted: nothing is lost.
    LeftOut,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::RingFullDns,
        Self::RingFullFragments,
        Self::RingFullHeaders,
        Self::KernelDrops,
        Self::IfDrops,
        Self::XactTableFull,
        Self::DnsRecordsUnread,
        Self::TcpStreamsEvicted,
        Self::TcpBytesEvicted,
        Self::TcpIdle,
        Self::TcpGaps,
        Self::TcpCut,
        Self::TcpBrokenMessages,
        Self::TcpDesync,
        Self::TcpBeforeStart,
        Self::FragmentsIncomplete,
        Self::FragmentsEvicted,
        Self::FragmentsInvalid,
        Self::FragmentsCut,
        Self::FragmentsNotForwarded,
        Self::NotWatchedYet,
        Self::LeftOut,
    ];

    /// Its name in the JSON, the byte form and on `/metrics`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFullDns => "ring_full_dns",
            Self::RingFullFragments => "ring_full_fragments",
            Self::RingFullHeaders => "ring_full_headers",
            Self::KernelDrops => "kernel_drops",
            Self::IfDrops => "if_drops",
            Self::XactTableFull => "xact_table_full",
            Self::DnsRecordsUnread => "dns_records_unread",
            Self::TcpStreamsEvicted => "tcp_streams_evicted",
            Self::TcpBytesEvicted => "tcp_bytes_evicted",
            Self::TcpIdle => "tcp_idle",
            Self::TcpGaps => "tcp_gaps",
            Self::TcpCut => "tcp_cut",
            Self::TcpBrokenMessages => "tcp_broken_messages",
            Self::TcpDesync => "tcp_desync",
            Self::TcpBeforeStart => "tcp_before_start",
            Self::FragmentsIncomplete => "fragments_incomplete",
            Self::FragmentsEvicted => "fragments_evicted",
            Self::FragmentsInvalid => "fragments_invalid",
            Self::FragmentsCut => "fragments_cut",
            Self::FragmentsNotForwarded => "fragments_not_forwarded",
            Self::NotWatchedYet => "not_watched_yet",
            Self::LeftOut => "left_out",
        }
    }

    /// What it means, for those who read a report.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::RingFullDns => "DNS samples dropped by full ring buffers",
            Self::RingFullFragments => "fragments dropped by full ring buffers",
            Self::RingFullHeaders => "header samples dropped by full ring buffers",
            Self::KernelDrops => "packets dropped by the full capture buffer",
            Self::IfDrops => "packets dropped by the interfaces",
            Self::XactTableFull => "open DNS queries evicted by newer ones",
            Self::DnsRecordsUnread => "DNS messages with more questions or records than are read",
            Self::TcpStreamsEvicted => "TCP streams with DNS evicted by newer ones",
            Self::TcpBytesEvicted => "TCP streams with DNS evicted to free memory",
            Self::TcpIdle => "TCP streams with DNS that stopped within a message",
            Self::TcpGaps => "gaps in TCP streams with DNS",
            Self::TcpCut => "TCP segments with DNS cut by the snap length",
            Self::TcpBrokenMessages => "incomplete DNS messages over TCP",
            Self::TcpDesync => "TCP streams that do not read like DNS",
            Self::TcpBeforeStart => "TCP segments from before the start of a stream",
            Self::FragmentsIncomplete => "IP datagrams with missing fragments",
            Self::FragmentsEvicted => "fragmented IP datagrams evicted by newer ones",
            Self::FragmentsInvalid => "IP fragments that contradict each other",
            Self::FragmentsCut => "IP fragments cut by the snap length",
            Self::FragmentsNotForwarded => "IP datagrams that another worker had no room for",
            Self::NotWatchedYet => "packets that passed before capture started",
            Self::LeftOut => "outer packets of tunnels whose inner packets are counted",
        }
    }

    /// The one of this name; agents of other releases know others.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|loss| loss.name() == name)
    }

    /// Whether something is missing; what is left out is counted elsewhere.
    pub const fn is_lost(self) -> bool {
        !matches!(self, Self::LeftOut)
    }

    /// Whether reading TCP connections lost it.
    pub const fn is_of_tcp(self) -> bool {
        matches!(
            self,
            Self::TcpStreamsEvicted
                | Self::TcpBytesEvicted
                | Self::TcpIdle
                | Self::TcpGaps
                | Self::TcpCut
                | Self::TcpBrokenMessages
                | Self::TcpDesync
                | Self::TcpBeforeStart
        )
    }

    /// Whether a full ring buffer lost it.
    pub const fn is_of_ring(self) -> bool {
        matches!(self, Self::RingFullDns | Self::RingFullFragments | Self::RingFullHeaders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_name_and_in_order() {
        assert!(Loss::ALL.is_sorted());
        for loss in Loss::ALL {
            assert_eq!(Loss::of_name(loss.name()), Some(loss));
            assert_eq!(loss.is_of_tcp(), loss.name().starts_with("tcp_"));
            assert_eq!(loss.is_of_ring(), loss.name().starts_with("ring_full_"));
        }
        assert_eq!(Loss::of_name("ring_full"), None);
    }
}
