use super::*;
use crate::direction::PerDirection;
use crate::loss::Loss;
use crate::summary::rates::{Minute, Rates};

fn terms() -> Terms {
    Terms { ports: vec![53], public_suffix: false, mask: None, names: None }
}

fn keyed() -> Keyed {
    FleetKey::of_seed(7).into()
}

fn summary() -> Summary {
    let mut summary = Summary {
        minute: 3,
        start: Timestamp::from_minute(3),
        end: Timestamp::from_minute(4),
        ..Summary::default()
    };
    summary.rates = Rates::of(3, Minute::default());
    summary.totals.packets = PerDirection::new(1, 2, 3);
    summary.dns.wire.referral = 4;
    summary.dns.xact.unpaired.duplicates = 5;
    summary.account.outcomes[0] = 6;
    summary.account.time_outliers = 7;
    summary.account.lose(Loss::TcpGaps, 8);
    summary
}

fn section(tag: u16, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Returns the byte range of the section with this tag.
fn place(bytes: &[u8], tag: u16) -> std::ops::Range<usize> {
    let mut at = 16;
    loop {
        let length = u32::from_be_bytes(*bytes[at + 4..].first_chunk().unwrap()) as usize;
        let end = at + 8 + length;
        if bytes[at..at + 2] == tag.to_be_bytes() {
            return at..end;
        }
        at = end;
    }
}

#[test]
fn decodes_what_was_encoded() {
    let bytes = encode(&summary(), &terms(), keyed());
    let Decoded { summary: again, keyed: with, left_out } = decode(&bytes, &terms()).unwrap();
    assert_eq!((left_out, with), (Vec::new(), keyed()));
    assert_eq!(again.totals.packets, PerDirection::new(1, 2, 3));
    assert_eq!((again.dns.wire.referral, again.dns.xact.unpaired.duplicates), (4, 5));
    assert_eq!(again.account, summary().account);
    assert_eq!(encode(&again, &terms(), keyed()), bytes);
}

#[test]
fn leaves_out_and_names_sections_of_other_releases() {
    let mut bytes = encode(&summary(), &terms(), keyed());
    bytes.extend(section(99, 4, b"of a later release"));
    let dns = place(&bytes, Section::Dns as u16);
    bytes[dns.start + 3] = 2;
    let transactions = place(&bytes, Section::Transactions as u16);
    bytes.drain(transactions);
    let Decoded { summary, left_out, .. } = decode(&bytes, &terms()).unwrap();
    assert_eq!(left_out, ["section 99 of version 4", "dns of version 2", "transactions"]);
    assert_eq!(summary.totals.packets, PerDirection::new(1, 2, 3));
    assert_eq!(summary.dns.wire.referral, 4, "counters are in a section of their own");
}

#[test]
fn merges_the_counters_that_both_releases_know() {
    let mut bytes = encode(&summary(), &terms(), keyed());
    let place = place(&bytes, Section::Counters as u16);
    let mut of_another: Vec<(&str, u64)> =
        postcard::from_bytes(&bytes[place.start + 8..place.end]).unwrap();
    of_another.retain(|(name, _)| *name != "time_outliers");
    of_another.push(("dns.\u{1b}[31mlater", 9));
    let payload = postcard::to_stdvec(&of_another).unwrap();
    bytes.splice(place, section(Section::Counters as u16, 1, &payload));
    let Decoded { summary, left_out, .. } = decode(&bytes, &terms()).unwrap();
    assert_eq!(left_out, ["counter time_outliers", "counter dns.[31mlater"]);
    assert_eq!(
        (summary.totals.packets, summary.account.time_outliers),
        (PerDirection::new(1, 2, 3), 0)
    );
}

#[test]
fn refuses_other_terms_and_broken_sections() {
    let bytes = encode(&summary(), &terms(), keyed());
    let mut coarse = bytes.clone();
    coarse[7] = 12;
    assert_eq!(decode(&coarse, &terms()).unwrap_err(), StateError::Precision { found: 12 });
    let other = Terms { ports: vec![54], ..terms() };
    assert!(matches!(decode(&bytes, &other), Err(StateError::Terms { .. })));
    let mut newer = bytes.clone();
    newer[19] = 9;
    assert_eq!(decode(&newer, &terms()).unwrap_err(), StateError::UnknownTerms { found: 9 });
    for cut in 16..bytes.len() {
        // A cut between two sections leaves out the missing ones and names them. Any other is refused.
        let cut_off = decode(&bytes[..cut], &terms());
        assert!(cut_off.is_err() || !cut_off.unwrap().left_out.is_empty(), "{cut}");
    }
    let twice = [&bytes[..], &bytes[place(&bytes, Section::Rates as u16)]].concat();
    assert!(matches!(decode(&twice, &terms()), Err(StateError::Broken(_))));
}
