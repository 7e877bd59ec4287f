//! State that needs both directions of a flow or several of its packets: DNS transactions, TCP streams
//! and IP fragments.
//!
//! Tables that can overflow (open queries, TCP streams) are split by flow into [`PARTITIONS`] partitions,
//! and a worker owns whole partitions. So what is evicted under overload does not depend on the number of
//! workers.

use pktvisor_common::classify::Decision;
use pktvisor_common::loss::Loss;
use pktvisor_common::packet::{PacketMeta, Transport};

use super::dns::{Asked, Context, Exchanges, Message, count, quoted_key};
use super::transaction::{Query, Reply, Transactions};
use crate::aggregate::bucket::{Bucket, Packet};
use crate::aggregate::geo::Geo;
use crate::aggregate::scanner::{FlowSink, Scanner, decide};
use crate::aggregate::settings::DnsSide;
use crate::decode::defrag::{Datagram, Defrag, DefragLimits};
use crate::decode::dns::stream::{
    Message as StreamMessage, Segment, StreamLimits, StreamLosses, StreamTable,
};
use crate::store::parts::Part;
use crate::time::{SECOND, Span, Timestamp};

/// Number of partitions, and the maximum number of workers that share them.
pub const PARTITIONS: usize = 16;

/// Open queries of a partition: 262,144 in all.
const QUERIES: usize = 16_384;
/// Limits of the TCP connections of a partition: 16,384 connections and 16 MiB held in all.
const STREAMS: StreamLimits = StreamLimits {
    connections: 1_024,
    bytes: 1 << 20,
    idle: Span::from_seconds(120),
    gap: Span::from_seconds(5),
    reorder: Span::from_millis(50),
    ahead: 256 * 1024,
};
/// Limits of the doubtful TCP connections of a partition: 1,024 connections and 1 MiB held in all.
const DOUBTFUL_STREAMS: StreamLimits =
    StreamLimits { connections: 64, bytes: 64 * 1024, ..STREAMS };
/// Limits of the datagrams in reassembly: 4 MiB at most.
const FRAGMENTS: DefragLimits =
    DefragLimits { entries: 4_096, bytes: 4 << 20, age: Span::from_seconds(30), first: SECOND };

/// Returns how long a first fragment waits for the others: short enough that its message can still
/// answer a query.
pub fn first_fragment_waits(dns_timeout: Span) -> Span {
    FRAGMENTS.first.min(dns_timeout / 2)
}

/// Returns the partition of a flow.
#[inline]
pub fn partition(flow: u64) -> usize {
    (flow >> 60) as usize % PARTITIONS
}

/// The position of a worker among all workers.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// Number of workers.
    pub of: usize,
}

impl Share {
    /// Returns the worker that owns a flow.
    #[inline]
    pub fn of_flow(self, flow: u64) -> usize {
        partition(flow) % self.of
    }

    #[inline]
    fn has(self, flow: u64) -> bool {
        self.of_flow(flow) == self.worker
    }
}

/// The state of the flows of one partition.
#[derive(Debug)]
struct Partition {
    transactions: Transactions,
    streams: StreamTable<Context>,
    /// Streams on a port that may be a client's own. Their losses are not counted: they need not be DNS.
    doubtful_streams: StreamTable<Context>,
}

impl Partition {
    /// Advances packet time to `now`: gives up gaps and times out queries.
    #[inline]
    fn pass(&mut self, now: Timestamp, bucket: &mut Bucket, geo: &mut Geo) {
        let Self { transactions, streams, doubtful_streams } = self;
        if transactions.is_due(now) || streams.is_due(now) || doubtful_streams.is_due(now) {
            self.end_what_is_due(now, bucket, geo);
        }
    }

    /// Gives up the gaps and queries whose time is over before `now`.
    ///
    /// No query times out while a stream may still yield a message of its time.
    #[inline(never)]
    fn end_what_is_due(&mut self, now: Timestamp, bucket: &mut Bucket, geo: &mut Geo) {
        let Self { transactions, streams, doubtful_streams } = self;
        let mut until = now;
        for streams in [streams, doubtful_streams] {
            streams.expire(now, &mut |context: &Context, message| {
                take_in(bucket, transactions, geo, context, message);
            });
            until = until.min(streams.waits_since().unwrap_or(now));
        }
        let unpaired = &mut bucket.dns.xact.unpaired;
        transactions.expire(until, &mut |gone| count(unpaired, gone));
    }
}

/// Processes a message of a stream. Returns true if it counts as DNS.
fn take_in(
    bucket: &mut Bucket,
    exchanges: &mut Transactions,
    geo: &mut Geo,
    context: &Context,
    message: StreamMessage<'_>,
) -> bool {
    let context = context.at(message.time);
    Message { bucket, exchanges, geo }.ingest(&context, message.bytes, message.length)
}

/// An item for the worker of its flow, used where the packets of an address reach one worker only.
#[derive(Debug)]
pub enum Forwarded {
    /// A reassembled datagram.
    Datagram {
        /// The worker to forward to.
        worker: usize,
        /// The datagram as a packet.
        packet: Packet,
        /// The verdict on it.
        decision: Decision,
        /// Bytes from the transport header on.
        payload: Box<[u8]>,
    },
    /// A query that could not be delivered, as quoted by an ICMP error.
    Unreachable {
        /// The worker to forward to.
        worker: usize,
        /// The walk over the quoted packet.
        quoted: PacketMeta,
        /// The quoted part of the payload.
        payload: Box<[u8]>,
        /// Capture time of the ICMP error.
        time: Timestamp,
    },
}

impl Forwarded {
    /// Returns the worker to forward to.
    pub fn worker(&self) -> usize {
        match self {
            Self::Datagram { worker, .. } | Self::Unreachable { worker, .. } => *worker,
        }
    }
}

/// The way in which other workers get the data for their flows.
#[derive(Debug)]
enum Others {
    /// They see the packets themselves.
    SeeIt,
    /// These items wait to be forwarded.
    AreToGetIt(Vec<Forwarded>),
}

/// The state of the flows that a worker owns.
#[derive(Debug)]
pub struct Flows {
    share: Share,
    /// All partitions by number. Those of other workers stay empty.
    partitions: [Partition; PARTITIONS],
    defrag: Defrag,
    others: Others,
}

impl Flows {
    /// Creates the flows of a worker that sees all fragments, as the other workers do.
    pub fn new(share: Share, dns_timeout: Span) -> Self {
        let partition = |_| Partition {
            transactions: Transactions::new(QUERIES, dns_timeout),
            streams: StreamTable::new(STREAMS),
            doubtful_streams: StreamTable::new(DOUBTFUL_STREAMS),
        };
        let limits = DefragLimits { first: first_fragment_waits(dns_timeout), ..FRAGMENTS };
        Self {
            share,
            partitions: std::array::from_fn(partition),
            defrag: Defrag::new(limits),
            others: Others::SeeIt,
        }
    }

    /// Creates the flows of a worker that alone sees the fragments of an address. Datagrams of other
    /// workers are to be forwarded, see [`Self::take_forwarded`].
    pub fn of_spread_packets(share: Share, dns_timeout: Span) -> Self {
        Self { others: Others::AreToGetIt(Vec::new()), ..Self::new(share, dns_timeout) }
    }

    /// Returns the position of the worker that owns them.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Returns the items to forward to other workers and clears the list.
    pub fn take_forwarded(&mut self) -> Vec<Forwarded> {
        match &mut self.others {
            Others::SeeIt => Vec::new(),
            Others::AreToGetIt(waiting) => std::mem::take(waiting),
        }
    }

    /// Processes an item that another worker forwarded.
    pub fn take(&mut self, scanner: &mut Scanner, forwarded: &Forwarded) {
        match forwarded {
            Forwarded::Datagram { packet, decision, payload, .. } => {
                scanner.payload(packet, payload, decision, self);
            }
            Forwarded::Unreachable { quoted, payload, time, .. } => {
                self.unreachable(scanner, quoted, payload, *time);
            }
        }
    }

    /// Processes a packet to a DNS port that could not be delivered, as quoted by an ICMP error captured
    /// at `time`. It closes the query that the packet carried.
    fn unreachable(
        &mut self,
        scanner: &mut Scanner,
        quoted: &PacketMeta,
        payload: &[u8],
        time: Timestamp,
    ) {
        let flow = scanner.settings.flow_key.flow(quoted);
        let partition = &mut self.partitions[partition(flow)];
        partition.pass(time, &mut scanner.bucket, &mut scanner.geo);
        let anonymizer = scanner.bucket.anonymizer();
        let Some(query) = quoted_key(quoted, flow, payload, anonymizer) else { return };
        if let Some(query) = partition.transactions.unreachable(&query) {
            scanner.bucket.dns.xact.unpaired.unreachable += u64::from(query.weight);
        }
    }

    /// Returns true if [`Self::give_up_fragments`] is due before a packet of this time.
    #[inline]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.defrag.is_due(now)
    }

    /// Advances the time of the reassembly to `now`.
    pub fn give_up_fragments(&mut self, scanner: &mut Scanner, now: Timestamp) {
        self.reassemble(scanner, |defrag, emit| defrag.advance(now, emit));
    }

    /// Runs `work` on the reassembly and processes the datagrams that it emits.
    fn reassemble(
        &mut self,
        scanner: &mut Scanner,
        work: impl FnOnce(&mut Defrag, &mut dyn FnMut(Datagram<'_>)),
    ) {
        // The callback needs `self`, so the reassembly is moved out.
        let mut defrag = std::mem::replace(&mut self.defrag, Defrag::new(FRAGMENTS));
        work(&mut defrag, &mut |datagram| self.datagram(scanner, &datagram));
        self.defrag = defrag;
        let losses = self.defrag.take_losses();
        // Where all workers see all fragments, only the first one counts the losses.
        if self.share.worker == 0 || matches!(self.others, Others::AreToGetIt(_)) {
            for (loss, count) in [
                (Loss::FragmentsIncomplete, losses.incomplete),
                (Loss::FragmentsEvicted, losses.evicted),
                (Loss::FragmentsInvalid, losses.invalid),
                (Loss::FragmentsCut, losses.cut),
            ] {
                scanner.bucket.account.lose(loss, count);
            }
        }
    }

    /// Processes a reassembled datagram if its flow belongs to this worker, or queues it if it has to be
    /// forwarded. Its fragments were already counted as packets.
    #[inline(never)]
    fn datagram(&mut self, scanner: &mut Scanner, datagram: &Datagram<'_>) {
        let meta = datagram.meta;
        let flow = scanner.settings.flow_key.flow(&meta);
        if !matches!(meta.transport, Transport::Udp | Transport::Tcp) {
            return;
        }
        let ports = scanner.settings.ports.now();
        let rules = ports.rules(&scanner.settings.sampling);
        let decision = decide(&rules, &meta, flow, datagram.payload, 0);
        let packet = Packet {
            meta,
            time: datagram.time,
            flow,
            wire_len: datagram.payload.len() as u32,
            n: 1,
            weight: decision.weight,
            direction: scanner.settings.hosts.now().direction(&meta),
        };
        if self.share.has(flow) {
            scanner.payload(&packet, datagram.payload, &decision, self);
        } else if let Others::AreToGetIt(waiting) = &mut self.others {
            let worker = self.share.of_flow(flow);
            let payload = datagram.payload.into();
            waiting.push(Forwarded::Datagram { worker, packet, decision, payload });
        }
    }

    /// Advances packet time: times out queries and gives up streams.
    fn advance(&mut self, scanner: &mut Scanner, now: Timestamp) {
        let Scanner { bucket, geo, .. } = scanner;
        for partition in &mut self.partitions {
            let Partition { transactions, streams, doubtful_streams } = partition;
            for streams in [streams, doubtful_streams] {
                streams.advance(now, |context, message| {
                    take_in(bucket, transactions, geo, context, message);
                });
            }
            partition.end_what_is_due(now, bucket, geo);
        }
    }

    /// Closes the bucket of the minute that ends at `end` and starts the next one at `next_start`.
    pub fn close(&mut self, scanner: &mut Scanner, end: Timestamp, next_start: Timestamp) -> Part {
        self.give_up_fragments(scanner, end);
        self.advance(scanner, end);
        self.take_losses(&mut scanner.bucket);
        scanner.bucket.close(end, next_start, &mut scanner.geo)
    }

    /// Ends the input: reads incomplete data as far as it goes. `latest` is the time of the last packet, if
    /// there was one. Unanswered queries stay open.
    pub fn end_input(&mut self, scanner: &mut Scanner, latest: Option<Timestamp>) {
        self.reassemble(scanner, |defrag, emit| defrag.finish(emit));
        let Some(latest) = latest else { return };
        let Scanner { bucket, geo, .. } = scanner;
        for Partition { transactions, streams, doubtful_streams } in &mut self.partitions {
            for streams in [streams, doubtful_streams] {
                streams.finish(|context, message| {
                    take_in(bucket, transactions, geo, context, message);
                });
            }
        }
        self.advance(scanner, latest);
        let unpaired = &mut scanner.bucket.dns.xact.unpaired;
        for partition in &mut self.partitions {
            partition.transactions.end_input(&mut |gone| count(unpaired, gone));
        }
    }

    /// Returns a copy of the live bucket as of `now`, to be merged elsewhere. This does not change how
    /// later packets count.
    pub fn snapshot(&mut self, bucket: &mut Bucket, now: Timestamp) -> Bucket {
        self.take_losses(bucket);
        let mut bucket = bucket.clone();
        for Partition { transactions, .. } in &self.partitions {
            let (mut open, mut due) = (transactions.open(), 0);
            for query in transactions.due(now) {
                open -= 1;
                due += u64::from(query.weight);
            }
            bucket.count_open(open, due);
        }
        bucket
    }

    fn take_losses(&mut self, bucket: &mut Bucket) {
        let account = &mut bucket.account;
        for Partition { transactions, streams, .. } in &mut self.partitions {
            account.lose(Loss::XactTableFull, transactions.take_evicted());
            let losses = streams.take_losses();
            if losses == StreamLosses::default() {
                continue;
            }
            for (loss, count) in [
                (Loss::TcpStreamsEvicted, losses.evicted_streams),
                (Loss::TcpBytesEvicted, losses.evicted_bytes),
                (Loss::TcpIdle, losses.idle),
                (Loss::TcpGaps, losses.gaps),
                (Loss::TcpCut, losses.cut),
                (Loss::TcpBrokenMessages, losses.broken),
                (Loss::TcpDesync, losses.desync),
                (Loss::TcpBeforeStart, losses.before_start),
            ] {
                account.lose(loss, count);
            }
        }
    }
}

/// Advances packet time in the partition of a query or reply, then matches it there.
impl Exchanges for Flows {
    #[inline(always)]
    fn query(
        &mut self,
        bucket: &mut Bucket,
        geo: &mut Geo,
        query: &Query,
        asked: Option<Asked<'_>>,
    ) {
        let partition = &mut self.partitions[partition(query.key.flow())];
        partition.pass(query.time, bucket, geo);
        Exchanges::query(&mut partition.transactions, bucket, geo, query, asked);
    }

    #[inline(always)]
    fn reply(
        &mut self,
        bucket: &mut Bucket,
        geo: &mut Geo,
        reply: &Reply,
        asked: Option<Asked<'_>>,
    ) {
        let partition = &mut self.partitions[partition(reply.key.flow())];
        partition.pass(reply.time, bucket, geo);
        Exchanges::reply(&mut partition.transactions, bucket, geo, reply, asked);
    }
}

impl FlowSink for Flows {
    #[inline(always)]
    fn pass(&mut self, scanner: &mut Scanner, now: Timestamp) {
        if self.is_due(now) {
            self.give_up_fragments(scanner, now);
        }
    }

    fn segment(
        &mut self,
        scanner: &mut Scanner,
        packet: &Packet,
        side: DnsSide,
        bytes: &[u8],
        _: &Decision,
    ) -> Option<bool> {
        let context = Context::new(packet, side, &scanner.hosts);
        let segment = Segment::of(&packet.meta, bytes, packet.time, context);
        let Scanner { bucket, geo, .. } = scanner;
        let partition = &mut self.partitions[partition(packet.flow)];
        partition.pass(packet.time, bucket, geo);
        let Partition { transactions, streams, doubtful_streams } = partition;
        let streams = if side.doubtful { doubtful_streams } else { streams };
        let mut is_dns = !side.doubtful;
        streams.segment(&segment, |context, message| {
            is_dns |= take_in(bucket, transactions, geo, context, message);
        });
        Some(is_dns)
    }

    fn undelivered(
        &mut self,
        scanner: &mut Scanner,
        quoted: &PacketMeta,
        payload: &[u8],
        time: Timestamp,
    ) {
        let flow = scanner.settings.flow_key.flow(quoted);
        if self.share.has(flow) {
            self.unreachable(scanner, quoted, payload, time);
        } else if let Others::AreToGetIt(waiting) = &mut self.others {
            let (worker, payload) = (self.share.of_flow(flow), payload.into());
            waiting.push(Forwarded::Unreachable { worker, quoted: *quoted, payload, time });
        }
    }

    /// Processes a fragment, and the datagram that it completes.
    fn fragment(
        &mut self,
        scanner: &mut Scanner,
        meta: &PacketMeta,
        bytes: &[u8],
        time: Timestamp,
    ) {
        self.reassemble(scanner, |defrag, emit| {
            defrag.advance(time, emit);
            defrag.fragment(meta, bytes, time, emit);
        });
    }
}
