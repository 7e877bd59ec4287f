//! Cost of each part of the packet path: `cargo bench -p pktvisord`.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{PacketBuilder, SlicedPacket};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use pktvisor_common::flow::mix;
use pktvisor_common::packet::walk_ethernet;
use pktvisor_common::sketch::cardinality::Cardinality;
use pktvisor_common::sketch::latency::Latencies;
use pktvisor_common::sketch::quantiles::Quantiles;
use pktvisor_common::sketch::tally::FlatTally;
use pktvisor_common::sketch::top::Top;
use pktvisord::aggregate::front::{Entry, Front};
use pktvisord::aggregate::host::HostSpec;
use pktvisord::aggregate::pipeline::Pipeline;
use pktvisord::aggregate::scanner::Piece;
use pktvisord::aggregate::settings::Settings;
use pktvisord::aggregate::worker::Worker;
use pktvisord::decode::block::{Block, LinkType, PacketRecord};
use pktvisord::decode::dns::scan::scan;
use pktvisord::store::Store;
use pktvisord::store::minutes::Retention;
use pktvisord::time::{Span, Timestamp};

/// Items in one iteration, where a single one is too fast to measure.
const MANY: u64 = 10_000;

struct Count {
    hash: u64,
    count: u64,
}

impl Entry for Count {
    type Beside = ();

    fn hash(&self, (): &()) -> u64 {
        self.hash
    }
}

fn message(name: &str, id: u16, reply: bool) -> Vec<u8> {
    let name = Name::from_ascii(name).unwrap();
    let kind = if reply { MessageType::Response } else { MessageType::Query };
    let mut message = Message::new(id, kind, OpCode::Query);
    message.add_query(Query::query(name.clone(), RecordType::A));
    if reply {
        message.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 9))));
    }
    message.edns = Some(Edns::new());
    message.to_vec().unwrap()
}

fn packet(client: u32, port: u16, bytes: &[u8], reply: bool) -> Vec<u8> {
    let (client, server) = ((0x0a00_0000 | client).to_be_bytes(), [192, 0, 2, 1]);
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut packet = Vec::new();
    if reply {
        builder.ipv4(server, client, 64).udp(53, port).write(&mut packet, bytes).unwrap();
    } else {
        builder.ipv4(client, server, 64).udp(port, 53).write(&mut packet, bytes).unwrap();
    }
    packet
}

fn parser(criterion: &mut Criterion) {
    let packet = packet(1, 4000, &message("www.example.com.", 1, false), false);
    let mut group = criterion.benchmark_group("headers");
    group.bench_function("walk", |bencher| {
        bencher.iter(|| walk_ethernet(black_box(packet.as_slice()), packet.len()));
    });
    group.bench_function("etherparse", |bencher| {
        bencher.iter(|| SlicedPacket::from_ethernet(black_box(&packet)).is_ok());
    });
}

fn dns(criterion: &mut Criterion) {
    let reply = message("www.example.com.", 1, true);
    let mut group = criterion.benchmark_group("dns_message");
    group.bench_function("scan", |bencher| {
        bencher.iter(|| scan(black_box(&reply), reply.len()).is_ok());
    });
    group.bench_function("hickory", |bencher| {
        bencher.iter(|| Message::from_vec(black_box(&reply)).is_ok());
    });
}

fn sketches(criterion: &mut Criterion) {
    let hashes: Vec<u64> = (0..MANY).map(|value| mix(value + 1)).collect();
    let mut group = criterion.benchmark_group("sketch");
    group.throughput(Throughput::Elements(MANY));
    let mut cardinality = Cardinality::default();
    group.bench_function("cardinality", |bencher| {
        bencher.iter(|| hashes.iter().for_each(|&hash| cardinality.insert(hash)));
    });
    let mut quantiles = Quantiles::default();
    group.bench_function("quantiles", |bencher| {
        bencher.iter(|| hashes.iter().for_each(|hash| quantiles.record(hash >> 44, 1)));
    });
    let mut top: Top<Box<str>> = Top::default();
    group.bench_function("top", |bencher| {
        bencher.iter(|| hashes.iter().for_each(|&hash| top.add(hash, 1, || "name".into())));
    });
    let mut front: Front<Count> = Front::new(MANY as usize);
    group.bench_function("front", |bencher| {
        bencher.iter(|| {
            hashes.iter().for_each(|&hash| {
                let is = |count: &Count, (): &()| count.hash == hash;
                front.entry(hash, &mut (), is, |()| Count { hash, count: 0 }).count += 1;
            });
        });
    });
    let mut latencies = Latencies::default();
    group.bench_function("latency", |bencher| {
        bencher.iter(|| {
            hashes.iter().for_each(|&hash| {
                latencies.record(hash >> 44, 1, Some(hash), || "name".into());
            });
        });
    });
    let mut tally = FlatTally::default();
    group.bench_function("tally", |bencher| {
        bencher.iter(|| hashes.iter().for_each(|&hash| tally.add(hash as u16, 1)));
    });
}

/// Returns the queries and replies of a minute, from number `numbers.start` on. The question of a pair of
/// messages is for `name` of its random number.
fn block(numbers: Range<u64>, name: impl Fn(u64) -> String) -> Arc<Block> {
    let mut block = Block::default();
    for at in numbers {
        let random = mix(at / 2 + 1);
        let reply = at % 2 == 1;
        let bytes = message(&name(random), random as u16, reply);
        let packet = packet((random >> 40) as u32 & 0xffff, random as u16 | 1024, &bytes, reply);
        block.packets.push(PacketRecord {
            time: Timestamp::EPOCH + Span::from_millis((at % MANY) as i64),
            offset: block.data.len() as u32,
            captured: packet.len() as u32,
            wire_len: packet.len() as u32,
            link: LinkType::Ethernet,
        });
        block.data.extend(packet);
    }
    Arc::new(block)
}

fn settings() -> Arc<Settings> {
    let hosts = "192.0.2.1/32".parse::<HostSpec>().unwrap().into();
    Arc::new(Settings { hosts, ..Settings::default() })
}

fn worker(criterion: &mut Criterion) {
    let name = |random| format!("host{}.zone{}.example.com.", random % 2000, random % 50);
    let block = block(0..MANY, name);
    let store = || Store::inline(1, Retention { periods: 5, single: false });
    let pipeline = || Pipeline::inline(settings(), &store());
    let feed = |mut pipeline: Pipeline| {
        pipeline.feed(&block, 0..block.packets.len());
        pipeline
    };
    let mut group = criterion.benchmark_group("worker");
    group.throughput(Throughput::Elements(MANY));
    group.bench_function("dns_fresh", |bencher| {
        bencher.iter_batched(pipeline, feed, BatchSize::LargeInput);
    });
    let mut steady = feed(pipeline());
    group.bench_function("dns_steady", |bencher| {
        bencher.iter(|| steady.feed(&block, 0..block.packets.len()));
    });
}

/// Cost of a copy of the live minute: for so long the worker reads no packets.
fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    for names in [10_000, 5_000_000] {
        let store = Store::inline(1, Retention { periods: 5, single: false });
        let mut worker = Worker::alone(settings(), store.intake());
        worker.advance(Timestamp::EPOCH);
        for start in (0..2 * names).step_by(MANY as usize) {
            let block = block(start..start + MANY, |random| format!("n{random}.example.com."));
            let latest = Timestamp::EPOCH + Span::from_millis(MANY as i64 - 1);
            let packets = 0..block.packets.len();
            let since = Timestamp::EPOCH;
            worker.read(&Piece { block, packets, before: start, since, latest, is_outlier: false });
        }
        group.bench_function(format!("{names}_names"), |bencher| {
            bencher.iter_with_large_drop(|| {
                worker.snapshot(Timestamp::EPOCH + Span::from_millis(MANY as i64))
            });
        });
    }
}

criterion_group!(benches, parser, dns, sketches, worker, snapshot);
criterion_main!(benches);
