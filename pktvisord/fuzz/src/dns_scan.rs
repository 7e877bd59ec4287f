//! The DNS scan, compared with `hickory-proto`.

use hickory_proto::op::Message;
use pktvisord::decode::dns::scan::{ScanError, scan};
use pktvisord::decode::dns::{detail, name};

/// Scans the input and compares the result with hickory's, if hickory reads it.
pub fn run(data: &[u8]) {
    let result = scan(data, data.len());
    if let Ok(scan) = &result {
        scan.is_plausible();
        if let Some(question) = scan.question {
            assert!(question.name.len() < name::MAX_NAME);
            let labels: usize = name::labels(question.name).map(|label| label.len() + 1).sum();
            assert_eq!(labels, question.name.len());
            let lower = name::LowerName::new(question.name);
            assert_eq!(lower.wire(), question.name.to_ascii_lowercase());
            for keep in 1..4 {
                let cut = name::last_labels(lower.wire(), keep);
                let text = cut.map(|(wire, cut)| name::cut_text(wire, cut));
                assert!(text.is_none_or(|text| text.is_ascii()));
                name::above_public_suffix(lower.wire(), keep);
            }
        }
        if let Some(data) = scan.edns.and_then(|edns| edns.client_subnet) {
            detail::client_subnet(data);
        }
    }
    if let Ok(scan) = &result {
        scan.is_nodata();
        scan.is_referral();
        scan.for_each_further_question(data, |name, _| assert!(name.len() < name::MAX_NAME));
    }
    // A truncated message must not panic.
    let _ = scan(&data[..data.len() / 2], data.len());
    // hickory is slow to reject a message whose header claims more questions than it can hold.
    let claimed =
        data.get(4..6).map_or(0, |count| usize::from(count[0]) << 8 | usize::from(count[1]));
    if claimed > data.len() / 5 {
        return;
    }
    let Ok(message) = Message::from_vec(data) else { return };
    match result {
        Ok(scan) => compare(&scan, &message),
        // hickory follows compression pointers into the header; the scan does not.
        Err(error) => assert_eq!(error, ScanError::BadQuestion),
    }
}

fn compare(scan: &pktvisord::decode::dns::scan::Scan<'_>, message: &Message) {
    assert_eq!(scan.id, message.metadata.id);
    assert_eq!(usize::from(scan.questions), message.queries.len());
    let Some(question) = scan.question else {
        assert!(message.queries.is_empty());
        return;
    };
    let query = &message.queries[0];
    assert_eq!(question.qtype, u16::from(query.query_type()));
    let labels: Vec<&[u8]> = name::labels(question.name).collect();
    assert_eq!(labels, query.name().iter().collect::<Vec<_>>());
}
