//! Generates TCP connections, one segment at a time.

use std::net::SocketAddr;

use super::random::Random;
use super::wire::{self, TcpHeader};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Payload bytes of a full segment: 1,500 bytes of an Ethernet frame, less the IPv4 and TCP headers
/// and the timestamps option.
const FULL_SEGMENT: u64 = 1448;
/// TCP options of a SYN: maximum segment size 1460, selective acknowledgments, window scale 7.
const SYN_OPTIONS: [u8; 12] = [2, 4, 0x05, 0xb4, 4, 2, 1, 3, 3, 7, 1, 1];

/// The next segment of a connection.
enum Step {
    Syn,
    SynAck,
    /// The server's RST from a closed port.
    Refused,
    Established,
    Request,
    RequestAck,
    /// A segment of the server's response; the number of segments left, including this one.
    Response(u64),
    ResponseAck(u64),
    ServerFin,
    ClientFin,
    LastAck,
}

/// The state of a connection.
pub(super) struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence number of the client.
    client_next: u32,
    /// Next sequence number of the server.
    server_next: u32,
    step: Step,
}

impl Connection {
    /// Creates a connection whose next segment is the SYN.
    pub(super) fn new(client: SocketAddr, server: SocketAddr, random: &mut Random) -> Self {
        Self {
            client,
            server,
            client_next: random.next() as u32,
            server_next: random.next() as u32,
            step: Step::Syn,
        }
    }

    /// Returns the next segment, with `time` in nanoseconds as its timestamp, and true if it is the
    /// last.
    pub(super) fn advance(&mut self, time: u64, random: &mut Random) -> (Vec<u8>, bool) {
        let (next, frame) = match self.step {
            Step::Syn => {
                let refused = random.percent(5);
                let next = if refused { Step::Refused } else { Step::SynAck };
                (next, self.client_sends(SYN, &[], time))
            }
            Step::SynAck => (Step::Established, self.server_sends(SYN | ACK, &[], time)),
            Step::Refused => return (self.server_sends(RST | ACK, &[], time), true),
            Step::Established => (Step::Request, self.client_sends(ACK, &[], time)),
            Step::Request => {
                let payload = self.payload(random.between(80, 700));
                (Step::RequestAck, self.client_sends(PSH | ACK, &payload, time))
            }
            Step::RequestAck => {
                let segments = random.weighted(&[(1, 40), (2, 30), (5, 20), (12, 10)]);
                (Step::Response(segments), self.server_sends(ACK, &[], time))
            }
            Step::Response(left) => {
                let last = left == 1;
                let length = if last { random.between(20, FULL_SEGMENT) } else { FULL_SEGMENT };
                let flags = if last { PSH | ACK } else { ACK };
                let payload = self.payload(length);
                (Step::ResponseAck(left - 1), self.server_sends(flags, &payload, time))
            }
            Step::ResponseAck(left) => {
                let next = match left {
                    0 if random.percent(60) => Step::Request,
                    0 => Step::ServerFin,
                    left => Step::Response(left),
                };
                (next, self.client_sends(ACK, &[], time))
            }
            Step::ServerFin => (Step::ClientFin, self.server_sends(FIN | ACK, &[], time)),
            Step::ClientFin => (Step::LastAck, self.client_sends(FIN | ACK, &[], time)),
            Step::LastAck => return (self.server_sends(ACK, &[], time), true),
        };
        self.step = next;
        (frame, false)
    }

    /// Returns `length` bytes of payload: a record of TLS application data on port 443, otherwise
    /// meaningless bytes.
    fn payload(&self, length: u64) -> Vec<u8> {
        let mut payload: Vec<u8> = (0..length).map(|at| (at * 167) as u8 | 0x80).collect();
        if self.server.port() == 443 {
            payload[..3].copy_from_slice(&[23, 3, 3]);
            payload[3..5].copy_from_slice(&(length as u16 - 5).to_be_bytes());
        }
        payload
    }

    /// Returns a segment from the client.
    fn client_sends(&mut self, flags: u8, payload: &[u8], time: u64) -> Vec<u8> {
        let sequence = self.client_next;
        self.client_next = sequence.wrapping_add(taken(flags, payload));
        let acknowledgment = if flags & ACK == 0 { 0 } else { self.server_next };
        segment(self.client, self.server, [sequence, acknowledgment], flags, payload, time)
    }

    /// Returns a segment from the server.
    fn server_sends(&mut self, flags: u8, payload: &[u8], time: u64) -> Vec<u8> {
        let sequence = if flags & RST == 0 { self.server_next } else { 0 };
        self.server_next = sequence.wrapping_add(taken(flags, payload));
        segment(self.server, self.client, [sequence, self.client_next], flags, payload, time)
    }
}

/// Returns the number of sequence numbers that a segment consumes.
fn taken(flags: u8, payload: &[u8]) -> u32 {
    payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0)
}

/// Builds a segment with the usual options for its flags. `numbers` are the sequence and the
/// acknowledgment number.
fn segment(
    from: SocketAddr,
    to: SocketAddr,
    numbers: [u32; 2],
    flags: u8,
    payload: &[u8],
    time: u64,
) -> Vec<u8> {
    let milliseconds = ((time / 1_000_000) as u32).to_be_bytes();
    let mut timestamps = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    timestamps[4..8].copy_from_slice(&milliseconds);
    timestamps[8..].copy_from_slice(&milliseconds);
    let options: &[u8] = if flags & SYN != 0 {
        &SYN_OPTIONS
    } else if flags & RST != 0 {
        &[]
    } else {
        &timestamps
    };
    let [sequence, acknowledgment] = numbers;
    wire::tcp(from, to, &TcpHeader { sequence, acknowledgment, flags, options }, payload)
}
