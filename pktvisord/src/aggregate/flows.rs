//! What needs both directions of a flow, or several packets of it: DNS transactions, TCP streams,
//! fragments of IP.
//!
//! Tables that can overflow (open queries, TCP streams) are split into [`PARTITIONS`] by flow, and a
//! worker owns whole partitions, so that what is given up under overload does not depend on the number
//! of workers.

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
use crate::time::SECOND;

/// Parts of the flows; at most so many workers share them.
pub const PARTITIONS: usize = 16;

/// Open queries of a partition: 262,144 in all.
const QUERIES: usize = 16_384;
/// TCP connections of a partition: 16,384 in all. Held bytes: 16 MiB in all.
const STREAMS: StreamLimits = StreamLimits {
    connections: 1_024,
    bytes: 1 << 20,
    idle: 120 * SECOND,
    gap: 5 * SECOND,
    reorder: SECOND / 20,
    ahead: 256 * 1024,
};
/// Doubtful TCP connections of a partition: 1,024 in all. Held bytes: 1 MiB in all.
const DOUBTFUL_STREAMS: StreamLimits =
    StreamLimits { connections: 64, bytes: 64 * 1024, ..STREAMS };
/// Fragmented datagrams under way: 4 MiB of them at most.
const FRAGMENTS: DefragLimits =
    DefragLimits { entries: 4_096, bytes: 4 << 20, age: 30 * SECOND, first: SECOND };

/// How long a first fragment waits for the others: in time for the query that it answers.
pub fn first_fragment_waits(dns_timeout: i64) -> i64 {
    FRAGMENTS.first.min(dns_timeout / 2)
}

/// The partition of a flow.
#[inline]
pub fn partition(flow: u64) -> usize {
    (flow >> 60) as usize % PARTITIONS
}

/// Which of how many workers.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The worker, from 0.
    pub worker: usize,
    /// All workers.
    pub of: usize,
}

impl Share {
    /// The worker that owns a flow.
    #[inline]
    pub fn of_flow(self, flow: u64) -> usize {
        partition(flow) % self.of
    }

    #[inline]
    fn has(self, flow: u64) -> bool {
        self.of_flow(flow) == self.worker
    }
}

/// The state of the flows of a partition.
#[derive(Debug)]
struct Partition {
    transactions: Transactions,
    streams: StreamTable<Context>,
    /// Streams on a port that may be a client's own: what is lost of them need not be DNS.
    doubtful_streams: StreamTable<Context>,
}

impl Partition {
    /// Lets time pass up to `now`: gaps are given up, queries time out.
    #[inline]
    fn pass(&mut self, now: i64, bucket: &mut Bucket, geo: &mut Geo) {
        let Self { transactions, streams, doubtful_streams } = self;
        if transactions.is_due(now) || streams.is_due(now) || doubtful_streams.is_due(now) {
            self.end_what_is_due(now, bucket, geo);
        }
    }

    /// Gives up gaps and queries whose time is over before `now`.
    ///
    /// No query times out while a message of its time may still come out of a stream.
    #[inline(never)]
    fn end_what_is_due(&mut self, now: i64, bucket: &mut Bucket, geo: &mut Geo) {
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

/// Takes in a message that came out of a stream. Returns whether it counts as DNS.
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

/// What is on its way to the worker of its flow, where packets of an address reach one worker only.
#[derive(Debug)]
pub enum Forwarded {
    /// A reassembled datagram.
    Datagram {
        /// The worker that it belongs to.
        worker: usize,
        /// Its headers.
        packet: Packet,
        /// What becomes of it.
        decision: Decision,
        /// Its bytes, from its transport header on.
        payload: Box<[u8]>,
    },
    /// A query that could not be delivered, as an ICMP error quotes it.
    Unreachable {
        /// The worker that it belongs to.
        worker: usize,
        /// The walk over the quoted packet.
        quoted: PacketMeta,
        /// What is quoted of its payload.
        payload: Box<[u8]>,
        /// When the ICMP error was captured.
        time: i64,
    },
}

impl Forwarded {
    /// The worker that it belongs to.
    pub fn worker(&self) -> usize {
        match self {
            Self::Datagram { worker, .. } | Self::Unreachable { worker, .. } => *worker,
        }
    }
}

/// What becomes of what belongs to other workers.
#[derive(Debug)]
enum Others {
    /// They see it too.
    SeeIt,
    /// It waits to be forwarded.
    AreToGetIt(Vec<Forwarded>),
}

/// The state of the flows that a worker owns.
#[derive(Debug)]
pub struct Flows {
    share: Share,
    /// All of them, by number; those of other workers stay empty.
    partitions: [Partition; PARTITIONS],
    defrag: Defrag,
    others: Others,
}

impl Flows {
    /// The flows of a worker who sees all fragments, as the other workers do.
    pub fn new(share: Share, dns_timeout: i64) -> Self {
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

    /// The flows of a worker who alone sees the fragments of an address. What they add up to is to be
    /// forwarded, see [`Self::take_forwarded`].
    pub fn of_spread_packets(share: Share, dns_timeout: i64) -> Self {
        Self { others: Others::AreToGetIt(Vec::new()), ..Self::new(share, dns_timeout) }
    }

    /// Which worker's they are.
    pub fn share(&self) -> Share {
        self.share
    }

    /// What belongs to other workers.
    pub fn take_forwarded(&mut self) -> Vec<Forwarded> {
        match &mut self.others {
            Others::SeeIt => Vec::new(),
            Others::AreToGetIt(waiting) => std::mem::take(waiting),
        }
    }

    /// Takes in what another worker has forwarded.
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

    /// Takes in a packet to a DNS port that could not be delivered, as an ICMP error of this time
    /// quotes it: a query that it carried is closed.
    fn unreachable(
        &mut self,
        scanner: &mut Scanner,
        quoted: &PacketMeta,
        payload: &[u8],
        time: i64,
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

    /// Whether [`Self::give_up_fragments`] is due before a packet of this time.
    #[inline]
    pub fn is_due(&self, now: i64) -> bool {
        self.defrag.is_due(now)
    }

    /// Lets time pass for fragments up to `now`.
    pub fn give_up_fragments(&mut self, scanner: &mut Scanner, now: i64) {
        self.reassemble(scanner, |defrag, emit| defrag.advance(now, emit));
    }

    /// Takes in what comes out of the reassembly.
    fn reassemble(
        &mut self,
        scanner: &mut Scanner,
        work: impl FnOnce(&mut Defrag, &mut dyn FnMut(Datagram<'_>)),
    ) {
        // What it emits needs the flows.
        let mut defrag = std::mem::replace(&mut self.defrag, Defrag::new(FRAGMENTS));
        work(&mut defrag, &mut |datagram| self.datagram(scanner, &datagram));
        self.defrag = defrag;
        let losses = self.defrag.take_losses();
        // Of one worker, where all see all fragments.
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

    /// Takes in a reassembled datagram, whose fragments were taken in as packets before, where its flow
    /// belongs here.
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

    /// Lets time pass: queries time out, streams are given up.
    fn advance(&mut self, scanner: &mut Scanner, now: i64) {
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

    /// Closes the bucket of the minute that ends at `end`, and goes on with the one from `next_start`.
    pub fn close(&mut self, scanner: &mut Scanner, end: i64, next_start: i64) -> Part {
        self.give_up_fragments(scanner, end);
        self.advance(scanner, end);
        self.take_losses(&mut scanner.bucket);
        scanner.bucket.close(end, next_start, &mut scanner.geo)
    }

    /// The input has ended: what waits for more is read as far as it goes. `latest` is the time of its
    /// last packet, if there was one. What is unanswered stays open.
    pub fn end_input(&mut self, scanner: &mut Scanner, latest: Option<i64>) {
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

    /// A copy of the live bucket as of `now`, to be summed up elsewhere. Packets go on as if it had not
    /// been taken.
    pub fn snapshot(&mut self, bucket: &mut Bucket, now: i64) -> Bucket {
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

/// Time passes for the partition of a query or a reply, and then they meet there.
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
    fn pass(&mut self, scanner: &mut Scanner, now: i64) {
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
        time: i64,
    ) {
        let flow = scanner.settings.flow_key.flow(quoted);
        if self.share.has(flow) {
            self.unreachable(scanner, quoted, payload, time);
        } else if let Others::AreToGetIt(waiting) = &mut self.others {
            let (worker, payload) = (self.share.of_flow(flow), payload.into());
            waiting.push(Forwarded::Unreachable { worker, quoted: *quoted, payload, time });
        }
    }

    /// Takes in a fragment, and the datagram that it completes.
    fn fragment(&mut self, scanner: &mut Scanner, meta: &PacketMeta, bytes: &[u8], time: i64) {
        self.reassemble(scanner, |defrag, emit| {
            defrag.advance(time, emit);
            defrag.fragment(meta, bytes, time, emit);
        });
    }
}
