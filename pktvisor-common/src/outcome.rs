//! The outcomes of a packet, shared by the kernel programs, the daemon and the dashboard.

/// The outcome of a packet. Each packet has exactly one, so all counts sum to the number of
/// packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Inspected as DNS: a UDP message, or a TCP segment that was passed to its stream.
    Dns = 0,
    /// IP without DNS. The headers were inspected.
    Headers = 1,
    /// Not IP. Counted only.
    NonIp = 2,
    /// An IP fragment that was kept for reassembly or, beyond the bounds, evicted.
    Fragment = 3,
    /// A DNS packet whose payload was cut: by the snap length of the capture, or in a frame shorter
    /// than its IP length.
    Truncated = 4,
    /// Headers are cut short or contradict each other.
    Malformed = 5,
    /// Not chosen by sampling.
    NotSampled = 6,
    /// Chosen, but dropped because the ring was full.
    RingFull = 7,
    /// An IP tunnel packet that was not entered. The outer headers were inspected.
    Tunnel = 8,
}

/// Number of outcomes.
pub const OUTCOMES: usize = 9;

impl Outcome {
    /// All outcomes in the order of their numbers.
    pub const ALL: [Outcome; OUTCOMES] = [
        Outcome::Dns,
        Outcome::Headers,
        Outcome::NonIp,
        Outcome::Fragment,
        Outcome::Truncated,
        Outcome::Malformed,
        Outcome::NotSampled,
        Outcome::RingFull,
        Outcome::Tunnel,
    ];

    /// Returns the name used in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Dns => "dns",
            Outcome::Headers => "headers",
            Outcome::NonIp => "non_ip",
            Outcome::Fragment => "fragment",
            Outcome::Truncated => "truncated",
            Outcome::Malformed => "malformed",
            Outcome::NotSampled => "not_sampled",
            Outcome::RingFull => "ring_full",
            Outcome::Tunnel => "tunnel",
        }
    }
}
