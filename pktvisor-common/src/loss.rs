//! Reasons for losses.

/// The reason why packets, messages, streams or datagrams were lost, evicted or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// DNS samples dropped because a ring buffer was full.
    RingFullDns,
    /// Fragments dropped because a ring buffer was full.
    RingFullFragments,
    /// Header samples dropped because a ring buffer was full.
    RingFullHeaders,
    /// Packets dropped because the capture buffer was full.
    KernelDrops,
    /// Packets dropped by the interface.
    IfDrops,
    /// Open queries evicted by newer ones.
    XactTableFull,
    /// DNS messages with more questions or records than the parser reads.
    DnsRecordsUnread,
    /// TCP connections with DNS evicted by newer ones.
    TcpStreamsEvicted,
    /// TCP connections with DNS evicted because all connections together held too many bytes.
    TcpBytesEvicted,
    /// TCP connections that became idle within a message.
    TcpIdle,
    /// Gaps in TCP connections.
    TcpGaps,
    /// TCP segments cut by the snap length.
    TcpCut,
    /// Messages over TCP that started but did not end.
    TcpBrokenMessages,
    /// Number of times that the message boundaries in a TCP connection were lost.
    TcpDesync,
    /// Segments at the start of a capture inside a connection that arrived after later bytes had been read.
    TcpBeforeStart,
    /// Datagrams with missing fragments.
    FragmentsIncomplete,
    /// Fragmented datagrams evicted by newer ones.
    FragmentsEvicted,
    /// Fragments that contradict each other.
    FragmentsInvalid,
    /// Fragments cut by the snap length.
    FragmentsCut,
    /// Datagrams dropped because the queue of another worker was full.
    FragmentsNotForwarded,
    /// Packets that passed an interface before it was watched.
    NotWatchedYet,
    /// Outer packets of tunnels whose inner packets are counted. Nothing is lost.
    LeftOut,
}

impl Loss {
    /// All reasons, in ascending order.
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

    /// Returns the name used in the JSON, the byte form and `/metrics`.
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

    /// Returns a description for reports.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::RingFullDns => "DNS samples dropped by full ring buffers",
            Self::RingFullFragments => "fragments dropped by full ring buffers",
            Self::RingFullHeaders => "header samples dropped by full ring buffers",
            Self::KernelDrops => "packets dropped by the full capture buffer",
            Self::IfDrops => "packets dropped by the interfaces",
            Self::XactTableFull => "open DNS queries evicted by newer ones",
            Self::DnsRecordsUnread => {
                "DNS messages with more questions or records than the parser reads"
            }
            Self::TcpStreamsEvicted => "TCP streams with DNS evicted by newer ones",
            Self::TcpBytesEvicted => "TCP streams with DNS evicted to free memory",
            Self::TcpIdle => "TCP streams with DNS that stopped within a message",
            Self::TcpGaps => "gaps in TCP streams with DNS",
            Self::TcpCut => "TCP segments with DNS cut by the snap length",
            Self::TcpBrokenMessages => "incomplete DNS messages over TCP",
            Self::TcpDesync => "TCP streams on DNS ports without readable DNS",
            Self::TcpBeforeStart => "TCP segments from before the start of a stream",
            Self::FragmentsIncomplete => "IP datagrams with missing fragments",
            Self::FragmentsEvicted => "fragmented IP datagrams evicted by newer ones",
            Self::FragmentsInvalid => "contradictory IP fragments",
            Self::FragmentsCut => "IP fragments cut by the snap length",
            Self::FragmentsNotForwarded => "IP datagrams dropped by the full queue of a worker",
            Self::NotWatchedYet => "packets that passed before capture started",
            Self::LeftOut => "outer packets of tunnels whose inner packets are counted",
        }
    }

    /// Returns the reason with this name; `None` for reasons of other releases.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|loss| loss.name() == name)
    }

    /// Returns true if data is missing. Packets left out are counted elsewhere.
    pub const fn is_lost(self) -> bool {
        !matches!(self, Self::LeftOut)
    }

    /// Returns true if the loss happened while reading TCP connections.
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

    /// Returns true if a full ring buffer caused the loss.
    pub const fn is_of_ring(self) -> bool {
        matches!(self, Self::RingFullDns | Self::RingFullFragments | Self::RingFullHeaders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_reason_by_name_in_sorted_order() {
        assert!(Loss::ALL.is_sorted());
        for loss in Loss::ALL {
            assert_eq!(Loss::of_name(loss.name()), Some(loss));
            assert_eq!(loss.is_of_tcp(), loss.name().starts_with("tcp_"));
            assert_eq!(loss.is_of_ring(), loss.name().starts_with("ring_full_"));
        }
        assert_eq!(Loss::of_name("ring_full"), None);
    }
}
