//! Captures whose packet time steps, goes back or is missing.

mod support;

use std::time::{Duration, Instant};

use pktvisor_common::api::MetricsView;
use support::capture::{Capture, Folder, MILLISECOND, SECOND, START};
use support::dns::Message;
use support::frame::{self, Flow};
use support::program::{run, view};

const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// Adds a query at `time` and its reply 2 ms later. Ports, id and name depend on `number`.
fn pair(capture: &mut Capture, time: i64, number: u16) {
    let flow = Flow::new([192, 0, 2, 7].into(), 1_024 + number, [192, 0, 2, 1].into(), 53);
    let query = Message::query(number, &format!("host-{number}.example.com"), 1);
    let framed = |flow: &Flow, bytes: Vec<u8>| frame::ethernet(&frame::udp(flow, &bytes));
    capture.push(time, framed(&flow, query.octets()));
    capture.push(time + 2 * MILLISECOND, framed(&flow.reversed(), query.reply(0, 1).octets()));
}

fn summed_up(bytes: &[u8], args: &[&str]) -> (MetricsView, String) {
    let folder = Folder::new();
    let file = folder.store("capture", bytes);
    let done = run(&[&["-H", "192.0.2.1/32"], args, &[&file]].concat());
    (view(&done), done.stderr)
}

/// Returns the view without the file's name. It must be equal for any number of workers.
fn for_any_workers(bytes: &[u8], args: &[&str]) -> MetricsView {
    let views = ["1", "2", "3"].map(|workers| {
        let (mut view, _) = summed_up(bytes, &[args, &["--workers", workers]].concat());
        view.capture.interfaces.clear();
        view
    });
    assert_eq!(views[0], views[1]);
    assert_eq!(views[0], views[2]);
    views.into_iter().next().unwrap()
}

#[test]
fn outlier_counts_at_its_place_in_the_file() {
    let mut capture = Capture::default();
    for number in 0..40 {
        pair(&mut capture, START + i64::from(number) * 4 * SECOND, number);
    }
    let expected = for_any_workers(&capture.pcap(), &[]);
    for odd in [5, 40, 79] {
        let mut off = capture.clone();
        off.packets[odd].0 = 2_682_374_400 * SECOND;
        let view = for_any_workers(&off.pcap(), &[]);
        assert_eq!((view.packets.total, view.capture.time_outliers), (80, 1));
        assert_eq!(view.dns.xact.counts.total, 40);
        assert_eq!(view.period, expected.period);
        assert_eq!(expected.capture.time_outliers, 0);
    }
}

#[test]
fn summary_does_not_depend_on_the_order_of_parts() {
    let mut capture = Capture::default();
    for number in 0..300 {
        pair(&mut capture, START + i64::from(number) * 7 * SECOND / 4, number);
    }
    let expected = for_any_workers(&capture.pcap(), &["--summary"]);
    assert_eq!(expected.packets.rates.pps_total.unwrap().p99, 2);
    // Swap the halves, then reverse the quarters.
    for part in [300, 150] {
        let mut parts: Vec<&[(i64, Vec<u8>)]> = capture.packets.chunks(part).collect();
        parts.reverse();
        let turned = Capture { packets: parts.concat() };
        let view = for_any_workers(&turned.pcap(), &["--summary"]);
        assert_eq!(view.period, expected.period);
        assert_eq!(view.packets, expected.packets);
        assert_eq!(view.dns.wire_packets, expected.dns.wire_packets);
        assert_eq!(view.dns.rates, expected.dns.rates);
        assert_eq!(view.dns.xact, expected.dns.xact);
        assert_eq!(view.capture.late_packets, 0);
    }
    // With buckets, the live minute stays live.
    let halves = [&capture.packets[300..], &capture.packets[..300]].concat();
    let view = for_any_workers(&Capture { packets: halves }.pcap(), &[]);
    assert!(view.capture.late_packets > 200, "{}", view.capture.late_packets);
}

#[test]
fn sparse_captures_have_no_outliers_and_are_quick() {
    let mut daily = Capture::default();
    (0..100).for_each(|day| pair(&mut daily, START + i64::from(day) * DAY, day));
    let mut hourly = Capture::default();
    (0..20_000).for_each(|hour| pair(&mut hourly, START + i64::from(hour) * HOUR, hour));
    // When closing a minute took 0.3 ms in a release build, these took 45 s and 6 s.
    for (capture, args, packets) in [
        (&daily, &["--summary"][..], 200),
        (&daily, &["--periods", "1440"], 2),
        (&hourly, &["--summary"], 40_000),
    ] {
        let bytes = capture.pcap();
        let started = Instant::now();
        let (view, _) = summed_up(&bytes, args);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert_eq!((view.packets.total, view.capture.time_outliers), (packets, 0));
    }
    let (view, _) = summed_up(&hourly.pcap(), &["--summary"]);
    assert_eq!(view.period.start_ts, START / SECOND);
    assert_eq!(view.period.length as i64, 19_999 * HOUR / SECOND);
    assert_eq!(view.packets.rates.pps_total.unwrap().p99, 0);
}

#[test]
fn without_times_there_are_no_latencies_and_no_rates() {
    let mut capture = Capture::default();
    (0..20).for_each(|number| pair(&mut capture, 0, number));
    capture.packets.iter_mut().for_each(|(time, _)| *time = 0);
    let (view, said) = summed_up(&capture.pcap(), &["--summary"]);
    assert_eq!((view.packets.total, view.dns.xact.counts.total), (40, 20));
    assert_eq!((view.dns.xact.inbound.total, view.dns.xact.inbound.quantiles_us), (20, None));
    assert!(view.dns.xact.inbound.top_slow.is_empty() && view.packets.rates.pps_in.is_none());
    assert!(said.contains("no packet has a timestamp"), "{said}");
}

#[test]
fn counts_unread_packets_separately() {
    let mut capture = Capture::default();
    (0..3).for_each(|number| pair(&mut capture, START + i64::from(number), number));
    let mut bytes = capture.pcapng();
    let block = |kind: u32, parts: &[&[u8]]| {
        let body = parts.concat();
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    };
    // An interface of link type 189, two of its packets, and statistics of the first interface.
    bytes.extend(block(1, &[&189_u32.to_le_bytes(), &[0; 4]]));
    for _ in 0..2 {
        let numbers = [1, 0, 0, 4, 4].map(u32::to_le_bytes).concat();
        bytes.extend(block(6, &[&numbers, &[0; 4]]));
    }
    let drops = [(5_u16, 700_u64), (7, 300)].map(|(code, count)| {
        [&code.to_le_bytes()[..], &8_u16.to_le_bytes(), &count.to_le_bytes()].concat()
    });
    bytes.extend(block(5, &[&[0; 12], &drops.concat(), &[0; 4]]));
    let view = for_any_workers(&bytes, &[]);
    assert_eq!((view.packets.total, view.capture.unread_link_types), (6, 2));
    assert_eq!((view.capture.if_drops, view.capture.kernel_drops), (700, 300));
    let (_, said) = summed_up(&bytes, &[]);
    assert!(said.contains("ignored 2 packets, the first is packet 7: link type 189"), "{said}");
}
