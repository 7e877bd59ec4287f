//! What can become of a packet: one list for the kernel, the daemon and the dashboard.

/// The one outcome of a packet. The counts of all outcomes sum to the packets seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Inspected as DNS: a UDP message, or a TCP segment that went to its stream.
    Dns = 0,
    /// IP without DNS: its headers were inspected.
    Headers = 1,
    /// Not IP: counted only.
    NonIp = 2,
    /// An IP fragment that was kept for reassembly or, past the bounds, given up.
    Fragment = 3,
    /// A DNS packet whose payload was cut: by the capture's snap length, or in a frame that is
    /// shorter than its IP length.
    Truncated = 4,
    /// Headers that are cut short or contradict themselves.
    Malformed = 5,
    /// Left out by the sampling rate.
    NotSampled = 6,
    /// Chosen, but the ring had no room for it.
    RingFull = 7,
    /// An IP tunnel that was not looked into: the outer headers were inspected.
    Tunnel = 8,
}

/// How many outcomes there are.
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

    /// The name in the JSON.
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
