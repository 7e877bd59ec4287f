//! An interface captured through libpcap, and the buffer memory that all of them share.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Instant;

use pcap::{Active, Capture, Direction, Linktype, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::aggregate::settings::Shared;
use crate::decode::block::{Block, LinkType, PacketRecord};
use crate::decode::link::UnsupportedLink;
use crate::input::interface::{Interface, Sides};
use crate::time::{Span, Timestamp};

/// Bytes captured of a packet: 64 KiB, the largest packet that the network card splits or has
/// joined, plus room for headers below IP. The kernel's buffer stores packets at their real length.
const SNAP: i32 = 65_535 + 1_024;
/// Largest and smallest size of an interface's kernel buffer, in bytes.
const MOST_BUFFER: u64 = 16 << 20;
const LEAST_BUFFER: u64 = 256 << 10;
/// The budget reserves room for one later interface for this many at the start.
const LATER: u64 = 4;
/// Longest time that packets wait in the kernel for others, in milliseconds.
const TIMEOUT: i32 = 100;
/// Maximum size of a block, in bytes and in packets.
const BLOCK_BYTES: usize = 256 * 1024;
const BLOCK_PACKETS: usize = 4_096;

/// Reasons why an interface cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// libpcap refuses.
    #[error("{interface}: {message}{hint}")]
    Refused {
        /// The interface.
        interface: String,
        /// The message of libpcap.
        message: String,
        /// A remedy, or empty.
        hint: &'static str,
    },
    /// The link layer is not supported.
    #[error("{interface}: {link}")]
    Link {
        /// The interface.
        interface: String,
        /// The link type.
        link: UnsupportedLink,
    },
    /// The buffers of other interfaces use up the memory.
    #[error(
        "{interface}: the buffers of the other interfaces use up the capture memory; raise --capture-memory"
    )]
    Memory {
        /// The interface.
        interface: String,
    },
    /// The filter does not compile.
    #[error("{interface}: invalid filter `{filter}`: {message}; see pcap-filter(7)")]
    Filter {
        /// The interface.
        interface: String,
        /// The filter.
        filter: String,
        /// The message of libpcap.
        message: String,
    },
}

/// The memory that the buffers of all interfaces share.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
    share: u64,
}

impl Budget {
    /// Creates a budget of `bytes` for a number of interfaces, with room for some later ones.
    pub(crate) fn new(bytes: u64, interfaces: usize) -> Self {
        let interfaces = interfaces as u64;
        let share = bytes / (interfaces + interfaces / LATER).max(1);
        Self { left: bytes, share: share.clamp(LEAST_BUFFER, MOST_BUFFER) }
    }

    /// Takes the bytes for one interface; `None` if too few are left.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let bytes = self.share.min(self.left);
        if bytes < LEAST_BUFFER {
            return None;
        }
        self.left -= bytes;
        Some(bytes)
    }

    /// Returns the bytes of one interface to the budget.
    pub(crate) fn give(&mut self, bytes: u64) {
        self.left += bytes;
    }
}

/// An interface opened for capture.
pub(crate) struct LiveCapture {
    name: String,
    index: u32,
    /// The configured filter, and the one in use.
    filter: Arc<Shared<Option<String>>>,
    filtered_by: Arc<Option<String>>,
    capture: Capture<Active>,
    link: LinkType,
    nanoseconds: bool,
}

/// A message from a capture thread.
pub(crate) enum Captured {
    /// Packets.
    Block(Arc<Block>),
    /// Losses since the last message.
    Lost {
        /// Packets for which the kernel's buffer had no room.
        kernel: u64,
        /// Packets that the interface dropped.
        interface: u64,
    },
    /// The capture ends: the interface is gone or down.
    Ended {
        /// The index of the interface.
        index: u32,
        /// The message of libpcap.
        message: String,
    },
}

impl LiveCapture {
    /// Opens the given sides of an interface, with a filter and a buffer of `buffer` bytes.
    ///
    /// # Errors
    /// [`OpenError`], also if the filter does not compile.
    pub(crate) fn open(
        interface: &Interface,
        sides: Sides,
        buffer: u64,
        filter: Arc<Shared<Option<String>>>,
    ) -> Result<Self, OpenError> {
        let Interface { name, index, .. } = interface;
        let (name, index) = (name.as_str(), *index);
        let refused = |error: pcap::Error| {
            let message = text(error);
            let denied = message.contains("permission") || message.contains("not permitted");
            let hint = match denied {
                true => {
                    "; missing capability: CAP_NET_RAW; run as root, grant it with `setcap \
                     cap_net_raw=p`, or start the container with `--cap-add NET_RAW`"
                }
                false => "",
            };
            OpenError::Refused { interface: name.to_owned(), message, hint }
        };
        let open = |precision| {
            Capture::from_device(name)?
                .snaplen(SNAP)
                .buffer_size(buffer.min(MOST_BUFFER) as i32)
                .timeout(TIMEOUT)
                .precision(precision)
                .open()
        };
        // A device without nanosecond timestamps is opened with microseconds.
        let (mut capture, nanoseconds) = match open(Precision::Nano) {
            Ok(capture) => (capture, true),
            Err(_) => (open(Precision::Micro).map_err(refused)?, false),
        };
        // Loopback shows each packet once, whatever the direction.
        let direction = match sides {
            _ if interface.loopback => Direction::InOut,
            Sides { ingress: true, egress: false } => Direction::In,
            Sides { ingress: false, egress: true } => Direction::Out,
            _ => Direction::InOut,
        };
        capture.direction(direction).map_err(refused)?;
        let Linktype(number) = capture.get_datalink();
        let link = LinkType::from_number(number as u32)
            .map_err(|link| OpenError::Link { interface: name.to_owned(), link })?;
        let filtered_by = filter.now();
        if let Some(filter) = &*filtered_by {
            capture.filter(filter, true).map_err(|error| OpenError::Filter {
                interface: name.to_owned(),
                filter: filter.clone(),
                message: text(error),
            })?;
        }
        // A blocking read waits for a packet without end, whatever the timeout.
        let capture = capture.setnonblock().map_err(refused)?;
        Ok(Self { name: name.to_owned(), index, filter, filtered_by, capture, link, nanoseconds })
    }

    /// Returns the link type of its packets.
    pub(crate) fn link(&self) -> LinkType {
        self.link
    }

    /// Captures on a thread of its own until `stop` or `let_go` is set or the receiver is gone.
    ///
    /// # Errors
    /// An I/O error if the thread cannot be started.
    pub(crate) fn start(
        mut self,
        to: SyncSender<Captured>,
        stop: Arc<AtomicBool>,
        let_go: Arc<AtomicBool>,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            let mut told = Instant::now();
            let (mut kernel, mut interface) = (0, 0);
            while !stop.load(Ordering::Relaxed) && !let_go.load(Ordering::Relaxed) {
                let mut block = Block::default();
                self.follow_filter();
                self.wait();
                let ended = self.fill(&mut block);
                if !block.packets.is_empty() && to.send(Captured::Block(Arc::new(block))).is_err() {
                    return;
                }
                if let Some(message) = ended {
                    let _ = to.send(Captured::Ended { index: self.index, message });
                    return;
                }
                if told.elapsed().as_secs() >= 1
                    && let Ok(stat) = self.capture.stats()
                {
                    told = Instant::now();
                    // libpcap's 32-bit counters wrap around.
                    let lost = Captured::Lost {
                        kernel: u64::from(stat.dropped.wrapping_sub(kernel)),
                        interface: u64::from(stat.if_dropped.wrapping_sub(interface)),
                    };
                    (kernel, interface) = (stat.dropped, stat.if_dropped);
                    if to.send(lost).is_err() {
                        return;
                    }
                }
            }
        })
    }

    /// Applies the configured filter if it has changed.
    fn follow_filter(&mut self) {
        let filter = self.filter.now();
        if Arc::ptr_eq(&filter, &self.filtered_by) {
            return;
        }
        // An empty filter accepts every packet.
        if let Err(error) = self.capture.filter(filter.as_deref().unwrap_or_default(), true) {
            tracing::error!("{}: keeping the previous filter: {}", self.name, text(error));
        }
        self.filtered_by = filter;
    }

    /// Waits for packets, at most [`TIMEOUT`].
    fn wait(&self) {
        // SAFETY: the capture and its descriptor stay open as long as it is borrowed.
        let socket = unsafe { BorrowedFd::borrow_raw(self.capture.as_raw_fd()) };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(TIMEOUT) * 1_000_000 };
        // An interrupted wait is only shorter. The next read reports an error.
        let _ = poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&timeout));
    }

    /// Fills a block until it is full or no packet is ready. Returns the reason if the capture has
    /// ended.
    fn fill(&mut self, block: &mut Block) -> Option<String> {
        while block.data.len() < BLOCK_BYTES && block.packets.len() < BLOCK_PACKETS {
            let packet = match self.capture.next_packet() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired) => return None,
                Err(error) => return Some(text(error)),
            };
            let fraction = packet.header.ts.tv_usec;
            let nanoseconds = if self.nanoseconds { fraction } else { fraction * 1_000 };
            let second = Timestamp::from_second(packet.header.ts.tv_sec);
            let captured = packet.data.len() as u32;
            block.packets.push(PacketRecord {
                time: second + Span::from_nanos(nanoseconds),
                offset: block.data.len() as u32,
                captured,
                wire_len: packet.header.len.max(captured),
                link: self.link,
            });
            block.data.extend_from_slice(packet.data);
        }
        None
    }
}

fn text(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn buffers_stay_within_budget() {
        for (bytes, interfaces) in [(256 * MIB, 1), (256 * MIB, 1_000), (MIB, 3), (100, 1)] {
            let mut budget = Budget::new(bytes, interfaces);
            let taken: Vec<u64> = std::iter::from_fn(|| budget.take()).collect();
            assert!(taken.iter().sum::<u64>() <= bytes, "{bytes} {interfaces}");
            assert!(taken.iter().all(|&one| (LEAST_BUFFER..=MOST_BUFFER).contains(&one)));
        }
        let mut many = Budget::new(256 * MIB, 800);
        assert!(
            (0..1_000).all(|_| many.take().is_some()),
            "there is room for those that come later"
        );
        let mut few = Budget::new(256 * MIB, 2);
        assert_eq!(few.take(), Some(MOST_BUFFER));
        few.give(MOST_BUFFER);
        assert_eq!(few.left, 256 * MIB);
    }
}
