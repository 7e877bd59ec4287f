//! A shard: it owns the state of the flows that hash to it and sums up their packets.
//!
//! Nothing here does I/O, looks at a clock or takes a lock. Tables that can overflow (open
//! queries, TCP streams) are split into [`PARTITIONS`] by flow, and a shard owns whole
//! partitions, so that what is given up under overload does not depend on the number of shards.

use std::sync::Arc;

use pktvisor_common::abi::{Counters, DNS_TCP_SNAP, MORE, SampleHeader, UNDECIDED};
use pktvisor_common::classify::{Decision, Dns};
use pktvisor_common::loss::Loss;
use pktvisor_common::outcome::Outcome;
use pktvisor_common::packet::{PacketMeta, TCP_FIN, TCP_SYN, Transport};

use crate::aggregate::bucket::{Bucket, Packet};
use crate::aggregate::dns::{Context, Message, count, quoted_key};
use crate::aggregate::geo::Geo;
use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::{DnsPorts, DnsSide, Settings};
use crate::aggregate::transaction::Transactions;
use crate::decode::dns::stream::{
    Message as StreamMessage, Segment, StreamLimits, StreamLosses, StreamTable,
};
use crate::store::parts::Part;
use crate::time::SECOND;

/// Parts of the flows; at most so many shards share them.
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
    transactions: &mut Transactions,
    geo: &mut Geo,
    context: &Context,
    message: StreamMessage<'_>,
) -> bool {
    let context = context.at(message.time);
    Message { bucket, transactions, geo }.ingest(&context, message.bytes, message.length)
}

/// The partition of a flow.
#[inline]
pub fn partition(flow: u64) -> usize {
    (flow >> 60) as usize % PARTITIONS
}

/// The state of some partitions and the bucket that their packets are summed up in.
#[derive(Debug)]
pub struct Shard {
    settings: Arc<Settings>,
    /// The ports of DNS as the settings had them last.
    ports: Arc<DnsPorts>,
    /// HOST, as the settings had it last.
    hosts: Arc<HostSpec>,
    bucket: Bucket,
    /// All of them, by number; those of other shards stay empty.
    partitions: [Partition; PARTITIONS],
    geo: Geo,
}

impl Shard {
    /// A shard before its first packet.
    pub fn new(settings: Arc<Settings>) -> Self {
        let partition = |_| Partition {
            transactions: Transactions::new(QUERIES, settings.timeout),
            streams: StreamTable::new(STREAMS),
            doubtful_streams: StreamTable::new(DOUBTFUL_STREAMS),
        };
        let partitions = std::array::from_fn(partition);
        let (geo, ports, hosts) = (settings.geo(), settings.ports.now(), settings.hosts.now());
        let bucket = Bucket::new(settings.naming);
        Self { settings, ports, hosts, bucket, partitions, geo }
    }

    /// Goes by the settings as they are now.
    pub fn reload(&mut self) {
        self.ports = self.settings.ports.now();
        self.geo = self.settings.geo();
    }

    /// From now on this is HOST.
    pub fn set_hosts(&mut self, hosts: &Arc<HostSpec>) {
        if !Arc::ptr_eq(hosts, &self.hosts) {
            self.hosts = Arc::clone(hosts);
        }
    }

    /// The first bucket starts at `start`.
    pub fn begin(&mut self, start: i64) {
        self.bucket.begin(start);
    }

    /// Takes in a packet with the octets captured of it and what was decided of it.
    #[inline]
    pub fn ingest(&mut self, packet: &Packet, octets: &[u8], decision: &Decision) {
        self.bucket.count(packet);
        if packet.weight > 0 {
            self.bucket.inspect(packet, &mut self.geo);
        }
        let outcome = self.payload(packet, octets, decision);
        self.bucket.outcome(packet, outcome);
    }

    /// Takes in a record of a packet that the kernel has counted, with the octets copied of it.
    #[inline]
    pub fn sample(&mut self, packet: &Packet, octets: &[u8], header: &SampleHeader) {
        if packet.weight > 0 && header.part == 0 {
            self.bucket.inspect(packet, &mut self.geo);
        }
        let dns = match self.ports.side(&packet.meta) {
            Some(side) if packet.weight > 0 => side.decided(),
            _ => Dns::No,
        };
        let meta = part(packet.meta, octets.len(), header);
        let captured = octets.len().saturating_sub(usize::from(meta.payload_offset));
        let cut = match header.has(MORE) {
            true => packet.meta.payload_len > DNS_TCP_SNAP,
            false => captured < meta.payload_len as usize,
        };
        let (outcome, weight) = (Outcome::Headers, packet.weight);
        let decision = Decision { outcome, weight, dns, record: None, cut };
        let outcome = self.payload(&Packet { meta, ..*packet }, octets, &decision);
        if header.has(UNDECIDED) {
            self.bucket.outcome(packet, outcome);
        }
    }

    /// Adds what the kernel has counted, see [`Bucket::add_counted`].
    pub fn add_counted(&mut self, counted: &Counters, time: Option<i64>) {
        self.bucket.add_counted(counted, time);
    }

    /// Takes in a reassembled datagram, whose fragments were taken in as packets before.
    /// `octets` start where `packet.meta.payload_offset` counts from.
    #[inline(never)]
    pub fn datagram(&mut self, packet: &Packet, octets: &[u8], decision: &Decision) {
        self.payload(packet, octets, decision);
    }

    /// Takes in a packet to a DNS port that could not be delivered, as an ICMP error of this time
    /// quotes it: a query that it carried is closed.
    pub fn unreachable(&mut self, quoted: &PacketMeta, payload: &[u8], time: i64) {
        let flow = self.settings.flow_key.flow(quoted);
        let partition = &mut self.partitions[partition(flow)];
        partition.pass(time, &mut self.bucket, &mut self.geo);
        let Some(query) = quoted_key(quoted, flow, payload, self.bucket.naming()) else { return };
        if let Some(query) = partition.transactions.unreachable(&query) {
            self.bucket.dns.xact.unpaired.unreachable += u64::from(query.weight);
        }
    }

    /// Reads the payload of a packet where it is inspected as DNS. Returns the packet's outcome.
    #[inline(always)]
    fn payload(&mut self, packet: &Packet, octets: &[u8], decision: &Decision) -> Outcome {
        let Some(side) = self.ports.side_of(&packet.meta, decision.dns) else {
            return decision.outcome;
        };
        let is_dns = match packet.meta.transport {
            Transport::Udp => self.udp(packet, side, octets),
            _ => self.tcp(packet, side, octets),
        };
        decision.refined(is_dns)
    }

    /// Reads a message over UDP. Returns whether it counts as DNS.
    #[inline(always)]
    fn udp(&mut self, packet: &Packet, side: DnsSide, octets: &[u8]) -> bool {
        let meta = &packet.meta;
        let payload = octets.get(usize::from(meta.payload_offset)..).unwrap_or_default();
        let length = meta.payload_len as usize;
        let context = Context::new(packet, side, &self.hosts);
        let partition = &mut self.partitions[partition(packet.flow)];
        partition.pass(packet.time, &mut self.bucket, &mut self.geo);
        Message {
            bucket: &mut self.bucket,
            transactions: &mut partition.transactions,
            geo: &mut self.geo,
        }
        .ingest(&context, &payload[..payload.len().min(length)], length)
    }

    /// Reads a TCP segment. Returns whether it counts as DNS.
    fn tcp(&mut self, packet: &Packet, side: DnsSide, octets: &[u8]) -> bool {
        let context = Context::new(packet, side, &self.hosts);
        let segment = Segment::of(&packet.meta, octets, packet.time, context);
        let (bucket, geo) = (&mut self.bucket, &mut self.geo);
        let partition = &mut self.partitions[partition(packet.flow)];
        partition.pass(packet.time, bucket, geo);
        let Partition { transactions, streams, doubtful_streams } = partition;
        let streams = if side.doubtful { doubtful_streams } else { streams };
        let mut is_dns = !side.doubtful;
        streams.segment(&segment, |context, message| {
            is_dns |= take_in(bucket, transactions, geo, context, message);
        });
        is_dns
    }

    /// Counts what was lost before it reached the shard.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        self.bucket.account.lose(loss, count);
    }

    /// Counts a packet whose time was not believed.
    pub fn count_outlier(&mut self) {
        let outliers = &mut self.bucket.account.time_outliers;
        *outliers = outliers.saturating_add(1);
    }

    /// Counts packets of a link type that is not read.
    pub fn count_unread(&mut self, packets: u64) {
        let unread = &mut self.bucket.account.unread_link_types;
        *unread = unread.saturating_add(packets);
    }

    /// Packet time has gone back once more before the live bucket.
    pub fn next_turn(&mut self) {
        self.bucket.next_turn();
    }

    /// Lets time pass: queries time out, streams are given up.
    pub fn advance(&mut self, now: i64) {
        let Self { bucket, partitions, geo, .. } = self;
        for partition in partitions {
            let Partition { transactions, streams, doubtful_streams } = partition;
            for streams in [streams, doubtful_streams] {
                streams.advance(now, |context, message| {
                    take_in(bucket, transactions, geo, context, message);
                });
            }
            partition.end_what_is_due(now, bucket, geo);
        }
    }

    /// Closes the bucket at `end`, its minute's end, and goes on with the one from `next_start`.
    pub fn close(&mut self, end: i64, next_start: i64) -> Part {
        self.advance(end);
        self.take_losses();
        self.bucket.close(end, next_start, &mut self.geo)
    }

    /// The input ends at `end`, the time of its last packet: streams are read as far as they go.
    /// What is unanswered stays open.
    pub fn end_input(&mut self, end: i64) {
        let Self { bucket, partitions, geo, .. } = self;
        for Partition { transactions, streams, doubtful_streams } in &mut *partitions {
            for streams in [streams, doubtful_streams] {
                streams.finish(|context, message| {
                    take_in(bucket, transactions, geo, context, message);
                });
            }
        }
        self.advance(end);
        let unpaired = &mut self.bucket.dns.xact.unpaired;
        for partition in &mut self.partitions {
            partition.transactions.end_input(&mut |gone| count(unpaired, gone));
        }
    }

    /// A copy of the live bucket as of `now`, to be summed up elsewhere. Packets go on as if it had
    /// not been taken.
    pub fn snapshot(&mut self, now: i64) -> Bucket {
        self.take_losses();
        let mut bucket = self.bucket.clone();
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

    fn take_losses(&mut self) {
        let account = &mut self.bucket.account;
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

/// The part of a TCP segment that a record holds `captured` octets of, headers included, as a
/// segment of its own.
fn part(mut meta: PacketMeta, captured: usize, header: &SampleHeader) -> PacketMeta {
    let more = header.has(MORE);
    if header.part == 0 && !more {
        return meta;
    }
    let held = captured.saturating_sub(usize::from(meta.payload_offset)) as u32;
    meta.payload_len = meta.payload_len.saturating_sub(header.offset());
    if header.part > 0 {
        let syn = u32::from(meta.tcp_flags & TCP_SYN != 0);
        meta.tcp_seq = meta.tcp_seq.wrapping_add(syn).wrapping_add(header.offset());
        meta.tcp_flags &= !TCP_SYN;
    }
    if more {
        meta.payload_len = meta.payload_len.min(held);
        meta.tcp_flags &= !TCP_FIN;
    }
    meta
}
