//! Tests that label values are escaped and that the number of series is bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use pktvisor_common::api::{App, AppMetrics, CaptureInfo, Watched};
use pktvisor_common::sketch::tally::Tally;
use pktvisor_common::summary::rates::{Minute, Rates};
use pktvisor_common::time::Timestamp;
use proptest::prelude::*;

use super::*;

/// Maximum number of series without top lists and with one interface, as documented in
/// docs/FLEET.md.
const MOST: usize = 347;

/// Builds a summary with every list filled: with these names where a list holds any text.
fn summary(names: &[String]) -> Summary {
    let mut summary = Summary { end: Timestamp::from_minute(1), ..Summary::default() };
    summary.totals.packets[Direction::Unknown] = 7;
    summary.rates = Rates::of(0, Minute::default());
    let Summary { packets, dns, .. } = &mut summary;
    for (number, name) in (0u16..).zip(names) {
        let key = u64::from(number);
        let [high, low] = number.to_be_bytes();
        let v4 = IpAddr::from([192, 0, high, low]);
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number]);
        packets.ipv4.add(key, 11, || v4);
        packets.ipv6.add(key, 11, || v6);
        packets.bytes.add(key, 11, || v6);
        for list in [
            &mut packets.places,
            &mut packets.systems,
            &mut dns.qname2,
            &mut dns.qname3,
            &mut dns.nxdomain,
            &mut dns.refused,
            &mut dns.servfail,
            &mut dns.nodata,
            &mut dns.noerror,
            &mut dns.reply_bytes,
            &mut dns.ecs,
            &mut dns.ecs_places,
            &mut dns.ecs_systems,
        ] {
            list.add(key, 11, || name.as_str().into());
        }
        for direction in dns.xact.directions.as_array_mut() {
            direction.quantiles.record(7, 1);
            direction.classes.record(7, 11, Some(key), || name.as_str().into());
        }
    }
    let ports = || Tally::try_from((0..50).map(|port| (port, 7)).collect::<Vec<_>>()).unwrap();
    (packets.tcp_ports, packets.udp_ports, dns.udp_ports) = (ports(), ports(), ports());
    dns.xact.ratio.record(7, 1);
    summary
}

fn metrics(names: &[String]) -> Metrics {
    let name = names.first().cloned().unwrap_or_default();
    let watched = Watched { name: name.clone(), ingress: Some(name.clone()), ..Watched::default() };
    let capture = CaptureInfo { source: name, watched: vec![watched], ..CaptureInfo::default() };
    Metrics {
        app: AppMetrics { app: App { capture, ..App::default() }, ..AppMetrics::default() },
        ready: true,
        lag_ms: Some(0),
        cumulative: Cumulative::default(),
        rest: Rest::default(),
        closed: Some(Arc::new(summary(names))),
        timeless: false,
        wrong_tokens: 0,
        top: MAX_TOP.into(),
    }
}

fn samples(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn bounds_the_number_of_series() {
    let names: Vec<String> = (0..50).map(|number| format!("name-{number}")).collect();
    let mut metrics = metrics(&names);
    let every = || Tally::try_from((0..=u16::MAX).map(|number| (number, 1)).collect::<Vec<_>>());
    metrics.cumulative.rcodes = every().unwrap();
    metrics.cumulative.qtypes = every().unwrap();
    metrics.cumulative.account.losses.insert("of another release".to_owned(), 1);
    let mut without = metrics.clone();
    without.top = 0;
    let count = |metrics: Metrics| samples(&metrics.write(Format::Text).unwrap()).count();
    let (with, without) = (count(metrics), count(without));
    // Ten entries of 21 lists.
    assert_eq!(with - without, 210);
    assert_eq!(without, MOST);
    let said = include_str!("../../../../docs/FLEET.md");
    assert!(said.contains(&format!("at most {MOST} series without top lists")));
}

#[test]
fn omits_rates_and_latencies_without_packet_times() {
    let metrics = Metrics { timeless: true, ..metrics(&["a".to_owned()]) };
    let text = metrics.write(Format::Text).unwrap();
    for absent in ["per_second", "dns_latency", "slow"] {
        assert!(samples(&text).all(|line| !line.contains(absent)), "{absent}");
    }
    for present in ["pktvisor_dns_amplification_ratio", "pktvisor_bucket_duration_seconds 60.0"] {
        assert!(text.contains(present), "{present}");
    }
}

/// Decodes a label value: both formats escape backslash, quote and line feed.
fn unescape(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        value.push(match character {
            '"' | '\n' => return None,
            '\\' => match characters.next()? {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            },
            other => other,
        });
    }
    Some(value)
}

proptest! {
    #[test]
    fn escapes_names_in_label_values(name in "(?s).{0,40}|[\"\\\\\n{},= #]{1,12}") {
        for format in Format::ALL {
            let text = metrics(std::slice::from_ref(&name)).write(format).unwrap();
            let mut found = 0;
            for line in text.split('\n') {
                let Some((_, rest)) = line.split_once(",name=\"") else { continue };
                if line.contains("list=\"ip") || line.contains("port\"") {
                    continue;
                }
                let value = rest.strip_suffix("\"} 11.0");
                prop_assert_eq!(value.and_then(unescape), Some(name.clone()), "{}", line);
                found += 1;
            }
            // Thirteen lists of any text, and the slow transactions of three directions.
            prop_assert_eq!(found, 16);
        }
    }
}

/// Renders the metrics of Prometheus' text format as a Markdown table: name, type, labels, help.
fn table(text: &str) -> String {
    let mut labels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = labels.entry(family.unwrap_or(name)).or_default();
        let inside = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        for label in inside.into_iter().flat_map(|(inside, _)| inside.split("\",")) {
            let label = label.split('=').next().unwrap_or_default();
            if label != "le" && !known.contains(&label) {
                known.push(label);
            }
        }
    }
    let mut rows = vec!["| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned()];
    let mut help = "";
    for line in text.lines() {
        if let Some((_, meaning)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            help = meaning;
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            let of = labels.get(name).into_iter().flatten();
            let of: Vec<String> = of.map(|label| format!("`{label}`")).collect();
            rows.push(format!("| `{name}` | {kind} | {} | {help} |\n", of.join(", ")));
        }
    }
    rows.concat()
}

const BEFORE: &str =
    "<!-- metrics: generated by UPDATE_DOCS=1 cargo test -p pktvisord --lib -->\n\n";
const AFTER: &str = "\n<!-- metrics: end -->";

#[test]
fn document_lists_every_metric() {
    let mut metrics = metrics(&["a".to_owned()]);
    metrics.cumulative.qtypes = Tally::try_from(vec![(1, 1)]).unwrap();
    let generated = table(&metrics.write(Format::Text).unwrap());
    assert!(generated.lines().count() > 40, "{generated}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let kept = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = kept.split_once(BEFORE).expect("the start of what is generated");
    let (_, tail) = rest.split_once(AFTER).expect("its end");
    let expected = format!("{head}{BEFORE}{generated}{AFTER}{tail}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept == expected, "docs/METRICS.md is not what is served: UPDATE_DOCS=1 writes it");
}
