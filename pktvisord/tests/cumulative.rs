//! The counts since the start only grow, and in the end they equal those of a single summary.

mod support;

use std::sync::Arc;

use pktvisor_common::summary::counters::Counters;
use pktvisor_common::summary::cumulative::{Classes, Cumulative};
use pktvisor_common::time::{Span, Timestamp};
use pktvisord::aggregate::pipeline::Pipeline;
use pktvisord::aggregate::settings::Settings;
use pktvisord::decode::block::{Block, LinkType, PacketRecord};
use pktvisord::store::Store;
use pktvisord::store::minutes::Retention;
use support::capture::Capture;
use support::traffic::{HOSTS, minutes};

/// Returns all numbers with their names.
fn numbers(cumulative: &Cumulative) -> Vec<(String, u64)> {
    let Cumulative {
        totals,
        deep_samples,
        wire,
        rcodes,
        qtypes,
        unpaired,
        latencies,
        payload,
        udp_size,
        account,
    } = cumulative;
    let mut numbers = Vec::new();
    let mut group = |counters: Vec<(&str, &mut u64)>| {
        numbers.extend(counters.into_iter().map(|(name, count)| (name.to_owned(), *count)));
    };
    group(totals.clone().counters());
    group(wire.clone().counters());
    group(unpaired.clone().counters());
    group(account.clone().counters());
    numbers.extend(account.losses.iter().map(|(reason, count)| (reason.clone(), *count)));
    for (name, tally) in [("rcode", rcodes), ("qtype", qtypes)] {
        numbers.extend(tally.iter().map(|(number, count)| (format!("{name} {number}"), count)));
    }
    let mut classes = |name: &str, classes: &Classes| {
        numbers.push((format!("{name} sum"), classes.sum));
        let each = classes.iter().map(|(bound, count)| (format!("{name} {bound:?}"), count));
        numbers.extend(each);
    };
    for (direction, latency) in latencies.iter() {
        classes(&format!("latency {}", direction.name()), latency);
    }
    classes("payload", payload);
    classes("udp size", udp_size);
    numbers.push(("deep samples".to_owned(), *deep_samples));
    numbers
}

fn block(capture: &Capture) -> Arc<Block> {
    let mut block = Block::default();
    for (time, frame) in &capture.packets {
        block.packets.push(PacketRecord {
            time: Timestamp::from_nanos(*time),
            offset: block.data.len() as u32,
            captured: frame.len() as u32,
            wire_len: frame.len() as u32,
            link: LinkType::Ethernet,
        });
        block.data.extend_from_slice(frame);
    }
    Arc::new(block)
}

fn pipeline(workers: usize, single: bool) -> (Pipeline, Store) {
    let settings = Arc::new(Settings {
        hosts: HOSTS.parse::<pktvisord::aggregate::host::HostSpec>().expect("HOSTSPEC").into(),
        // Short, so that queries time out while the counts are read.
        timeout: Span::from_millis(20),
        ..Settings::default()
    });
    let store =
        Store::start(Pipeline::parts(workers), Retention { periods: 2, single }).expect("a thread");
    (Pipeline::threads(settings, &store, workers).expect("threads"), store)
}

#[test]
fn counts_only_grow_and_end_at_the_totals() {
    let traffic = minutes();
    let block = block(&traffic.capture);
    for workers in [1, 3] {
        let (mut growing, _) = pipeline(workers, false);
        let mut before: Vec<(String, u64)> = Vec::new();
        let steps = 200;
        for step in 0..steps {
            let all = block.packets.len();
            growing.feed(&block, all * step / steps..all * (step + 1) / steps);
            let now = numbers(&growing.present().cumulative);
            for (name, count) in &before {
                let grown = now.iter().find(|(other, _)| other == name).expect("it stays");
                assert!(grown.1 >= *count, "{workers} workers, step {step}: {name} was {count}");
            }
            before = now;
        }
        let (mut single, store) = pipeline(workers, true);
        single.feed(&block, 0..block.packets.len());
        let live = single.present().live;
        store.settle();
        let all = store.merged(&live, 1);
        let cumulative = growing.present().cumulative;
        assert_eq!(cumulative.totals, all.totals);
        assert_eq!(cumulative.wire, all.dns.wire);
        assert_eq!(cumulative.account, all.account);
        assert_eq!(cumulative.unpaired.orphans, all.dns.xact.unpaired.orphans);
        let answered: u64 = cumulative.latencies.iter().map(|(_, of)| of.count()).sum();
        let expected: u64 = all.dns.xact.directions.iter().map(|(_, of)| of.classes.total()).sum();
        assert_eq!(answered, expected);
        assert!(
            answered > 100 && cumulative.unpaired.timed_out > 10,
            "{answered} {}",
            cumulative.unpaired.timed_out
        );
    }
}
