//! The records that a worker sends to the owners of the flows of a piece.

use std::sync::Arc;

use pktvisor_common::classify::Decision;
use pktvisor_common::packet::{Fragment, PacketMeta};

use crate::aggregate::bucket::{Bucket, Packet};
use crate::aggregate::dns::{Asked, Exchanges};
use crate::aggregate::flows::{Flows, Share};
use crate::aggregate::geo::Geo;
use crate::aggregate::scanner::{FlowSink, Piece, Scanner};
use crate::aggregate::settings::DnsSide;
use crate::aggregate::transaction::{Query, Reply};
use crate::decode::block::Block;
use crate::decode::dns::unreachable;
use crate::time::Timestamp;

/// The question of a query or a reply. Its name is in the names of the batch.
#[derive(Clone, Copy, Debug)]
struct Name {
    key: u64,
    start: u32,
    qtype: u16,
    len: u8,
}

/// A record for a flow. A place is the index of a packet in the block.
#[derive(Clone, Copy, Debug)]
enum Record {
    Query(Query, Option<Name>),
    Reply(Reply, Option<Name>),
    Segment { place: u32, decision: Decision },
    Undelivered { place: u32 },
    Fragment { place: u32 },
    Pass { time: Timestamp },
}

/// The records of a piece for one worker, in the order of the packets.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Record>,
    /// Names of queries and replies.
    names: Vec<u8>,
    /// The block, if any record refers to a packet in it.
    block: Option<Arc<Block>>,
}

impl Batch {
    /// Creates a batch that panics when it is processed.
    #[cfg(test)]
    pub(super) fn broken() -> Self {
        let records = vec![Record::Fragment { place: 0 }];
        Self { records, block: Some(Arc::default()), ..Self::default() }
    }

    fn name(&mut self, asked: Option<Asked<'_>>) -> Option<Name> {
        let Asked { key, lower, qtype } = asked?;
        let (start, len) = (self.names.len() as u32, lower.len() as u8);
        self.names.extend_from_slice(lower);
        Some(Name { key, start, qtype, len })
    }

    fn asked(&self, name: Option<Name>) -> Option<Asked<'_>> {
        let Name { key, start, qtype, len } = name?;
        let lower = self.names.get(start as usize..)?.get(..usize::from(len))?;
        Some(Asked { key, lower, qtype })
    }

    /// Processes all records with the flows of their owner.
    pub fn take_in(&self, scanner: &mut Scanner, flows: &mut Flows) {
        scanner.follow_hosts();
        for record in &self.records {
            match record {
                Record::Query(query, name) => {
                    let asked = self.asked(*name);
                    flows.query(&mut scanner.bucket, &mut scanner.geo, query, asked);
                }
                Record::Reply(reply, name) => {
                    let asked = self.asked(*name);
                    flows.reply(&mut scanner.bucket, &mut scanner.geo, reply, asked);
                }
                Record::Pass { time } => flows.pass(scanner, *time),
                Record::Segment { place, .. }
                | Record::Undelivered { place }
                | Record::Fragment { place } => {
                    if let Some(block) = &self.block {
                        take_packet(record, block, *place, scanner, flows);
                    }
                }
            }
        }
    }
}

/// Processes a packet of the block. Its headers are walked again, which is cheap because such packets
/// are few.
fn take_packet(
    record: &Record,
    block: &Block,
    place: u32,
    scanner: &mut Scanner,
    flows: &mut Flows,
) {
    let packet = &block.packets[place as usize];
    let bytes = block.packet(packet);
    let meta = scanner.walk(packet, bytes);
    match record {
        Record::Segment { decision, .. } => {
            let packet = Packet {
                meta,
                time: packet.time,
                flow: scanner.settings.flow_key.flow(&meta),
                wire_len: packet.wire_len,
                n: 1,
                weight: decision.weight,
                direction: scanner.hosts.direction(&meta),
            };
            if let Some(outcome) = scanner.payload(&packet, bytes, decision, flows) {
                scanner.bucket.outcome(&packet, outcome);
            }
        }
        Record::Undelivered { .. } => {
            if let Some((quoted, payload)) = unreachable::quoted(&meta, bytes) {
                flows.undelivered(scanner, &quoted, payload, packet.time);
            }
        }
        _ if meta.fragment != Fragment::None => {
            flows.fragment(scanner, &meta, bytes, packet.time);
        }
        _ => {}
    }
}

/// The capacity that a batch used. The next piece most likely needs as much for the same worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    records: usize,
    names: usize,
}

/// The batches of a piece, one for each worker.
pub(crate) struct Batches {
    share: Share,
    for_workers: Vec<Batch>,
    block: Arc<Block>,
    place: u32,
}

impl Batches {
    /// Creates empty batches for a piece, with the capacity that the previous ones used.
    pub(crate) fn of(piece: &Piece, share: Share, rooms: &[Room]) -> Self {
        let batch = |&Room { records, names }: &Room| Batch {
            records: Vec::with_capacity(records),
            names: Vec::with_capacity(names),
            block: None,
        };
        let batches = rooms.iter().map(batch).collect();
        Self { share, for_workers: batches, block: Arc::clone(&piece.block), place: 0 }
    }

    /// Returns the capacity used, by worker.
    pub(crate) fn rooms(&self) -> Vec<Room> {
        let room = |batch: &Batch| Room { records: batch.records.len(), names: batch.names.len() };
        self.for_workers.iter().map(room).collect()
    }

    /// Returns the batches, by worker.
    pub(crate) fn into_batches(self) -> Vec<Batch> {
        self.for_workers
    }

    #[inline]
    fn of_flow(&mut self, flow: u64) -> &mut Batch {
        &mut self.for_workers[self.share.of_flow(flow)]
    }

    fn push_place(&mut self, worker: usize, record: Record) {
        let batch = &mut self.for_workers[worker];
        batch.block.get_or_insert_with(|| Arc::clone(&self.block));
        batch.records.push(record);
    }
}

impl Exchanges for Batches {
    #[inline(always)]
    fn query(&mut self, _: &mut Bucket, _: &mut Geo, query: &Query, asked: Option<Asked<'_>>) {
        let batch = self.of_flow(query.key.flow());
        let name = batch.name(asked);
        batch.records.push(Record::Query(*query, name));
    }

    #[inline(always)]
    fn reply(&mut self, _: &mut Bucket, _: &mut Geo, reply: &Reply, asked: Option<Asked<'_>>) {
        let batch = self.of_flow(reply.key.flow());
        let name = batch.name(asked);
        batch.records.push(Record::Reply(*reply, name));
    }
}

impl FlowSink for Batches {
    #[inline(always)]
    fn set_place(&mut self, place: u32) {
        self.place = place;
    }

    fn pass(&mut self, _: &mut Scanner, time: Timestamp) {
        self.for_workers.iter_mut().for_each(|batch| batch.records.push(Record::Pass { time }));
    }

    fn segment(
        &mut self,
        _: &mut Scanner,
        packet: &Packet,
        _: DnsSide,
        _: &[u8],
        decision: &Decision,
    ) -> Option<bool> {
        let (place, decision) = (self.place, *decision);
        self.push_place(self.share.of_flow(packet.flow), Record::Segment { place, decision });
        None
    }

    fn undelivered(&mut self, scanner: &mut Scanner, quoted: &PacketMeta, _: &[u8], _: Timestamp) {
        let flow = scanner.settings.flow_key.flow(quoted);
        let place = self.place;
        self.push_place(self.share.of_flow(flow), Record::Undelivered { place });
    }

    fn fragment(&mut self, _: &mut Scanner, _: &PacketMeta, _: &[u8], _: Timestamp) {
        let place = self.place;
        (0..self.share.of).for_each(|worker| self.push_place(worker, Record::Fragment { place }));
    }
}
