//! Compares the DNS scan with `hickory-proto`, on messages that hickory writes and on variations of
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet as Subnet, EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use pktvisord::decode::dns::detail::client_subnet;
use pktvisord::decode::dns::name;
use pktvisord::decode::dns::scan::{FLAG_AA, FLAG_AD, FLAG_CD, FLAG_TC, Scan, ScanError, scan};
use proptest::prelude::*;

fn names() -> impl Strategy<Value = Name> {
    prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 0..6)
        .prop_map(|labels| Name::from_labels(labels.iter().map(String::as_bytes)).unwrap())
}

prop_compose! {
    fn messages()(
        (id, reply, flags, rcode) in any::<(u16, bool, u8, u8)>(),
        (names, qtype) in (prop::collection::vec(names(), 1..4), 1..300u16),
        answers in prop::collection::vec((names(), 0..3u8), 0..5),
        edns in prop::option::of((512..9000u16, any::<bool>(), any::<u32>(), 0..=32u8, any::<bool>())),
    ) -> Message {
        let kind = if reply { MessageType::Response } else { MessageType::Query };
        let mut message = Message::new(id, kind, OpCode::Query);
        message.metadata.authoritative = flags & 1 != 0;
        message.metadata.truncation = flags & 2 != 0;
        message.metadata.authentic_data = flags & 4 != 0;
        message.metadata.checking_disabled = flags & 8 != 0;
        message.metadata.response_code = ResponseCode::from(0, rcode & 15);
        for (at, name) in names.iter().enumerate() {
            let qtype = RecordType::from(qtype + at as u16);
            message.add_query(Query::query(name.clone(), qtype));
        }
        for (name, kind) in answers {
            let rdata = match kind {
                0 => RData::A(A(Ipv4Addr::LOCALHOST)),
                1 => RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)),
                _ => RData::CNAME(CNAME(names[0].clone())),
            };
            message.add_answer(Record::from_rdata(name, 60, rdata));
        }
        if let Some((size, dnssec_ok, address, prefix, subnet)) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(dnssec_ok).set_rcode_high(rcode >> 4);
            if subnet {
                let subnet = Subnet::new(IpAddr::V4(address.into()), prefix, 0);
                edns.options_mut().insert(EdnsOption::Subnet(subnet));
            }
            message.edns = Some(edns);
        }
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_hickory(message in messages()) {
        let bytes = message.to_vec().unwrap();
        let oracle = Message::from_vec(&bytes).unwrap();
        let scan = scan(&bytes, bytes.len()).unwrap();
        prop_assert_eq!(scan.id, oracle.metadata.id);
        prop_assert_eq!(scan.is_reply(), oracle.metadata.message_type == MessageType::Response);
        for (flag, expected) in [
            (FLAG_AA, oracle.metadata.authoritative),
            (FLAG_TC, oracle.metadata.truncation),
            (FLAG_AD, oracle.metadata.authentic_data),
            (FLAG_CD, oracle.metadata.checking_disabled),
        ] {
            prop_assert_eq!(scan.flags & flag != 0, expected);
        }
        prop_assert_eq!(scan.rcode(), u16::from(oracle.metadata.response_code));
        prop_assert_eq!(usize::from(scan.questions), oracle.queries.len());
        prop_assert_eq!(usize::from(scan.answers), oracle.answers.len());
        let question = scan.question.unwrap();
        prop_assert_eq!(question.qtype, u16::from(oracle.queries[0].query_type()));
        prop_assert_eq!(question.qclass, u16::from(oracle.queries[0].query_class()));
        let labels: Vec<&[u8]> = name::labels(question.name).collect();
        prop_assert_eq!(labels, oracle.queries[0].name().iter().collect::<Vec<_>>());
        let mut further = Vec::new();
        scan.for_each_further_question(&bytes, |name, qtype| further.push((name.to_vec(), qtype)));
        let expected: Vec<(Vec<u8>, u16)> = oracle.queries[1..]
            .iter()
            .map(|query| {
                let labels = query.name().iter();
                let wire = labels.flat_map(|label| [&[label.len() as u8], label].concat());
                (wire.collect(), query.query_type().into())
            })
            .collect();
        prop_assert_eq!(further, expected);
        let qtype = oracle.queries[0].query_type();
        let answered = oracle.answers.iter().any(|answer| answer.record_type() == qtype);
        let is_nodata = scan.is_reply()
            && scan.rcode() == 0
            && scan.flags & FLAG_TC == 0
            && qtype != RecordType::ANY
            && !answered
            && oracle.answers.is_empty();
        prop_assert_eq!(scan.is_nodata(), is_nodata);
        prop_assert!(!scan.is_referral(), "there is no authority");
        prop_assert_eq!(scan.edns.is_some(), oracle.edns.is_some());
        if let (Some(edns), Some(expected)) = (scan.edns, &oracle.edns) {
            prop_assert_eq!(edns.udp_size, expected.max_payload());
            prop_assert_eq!(edns.dnssec_ok, expected.flags().dnssec_ok);
            let subnet = match expected.option(EdnsCode::Subnet) {
                Some(EdnsOption::Subnet(subnet)) => Some((subnet.addr(), subnet.source_prefix())),
                _ => None,
            };
            let found = edns.client_subnet.and_then(client_subnet);
            prop_assert_eq!(found.map(|found| found.prefix), subnet.map(|(_, prefix)| prefix));
        }
    }

    /// A message cut at any byte keeps what precedes the cut.
    #[test]
    fn cut_message_keeps_captured_part(
        message in messages(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = message.to_vec().unwrap();
        let whole = scan(&bytes, bytes.len()).unwrap();
        let question_end = 12 + whole.question.unwrap().name.len() + 5;
        let cut = cut.index(bytes.len());
        let cut_off = scan(&bytes[..cut], bytes.len());
        if cut < 4 {
            prop_assert_eq!(cut_off, Err(ScanError::Cut));
        } else {
            let Scan { id, flags, question, .. } = cut_off.unwrap();
            prop_assert_eq!((id, flags), (whole.id, whole.flags));
            prop_assert_eq!(question, whole.question.filter(|_| cut >= question_end));
        }
        // A message that itself ends there is an error.
        if cut < question_end {
            prop_assert!(scan(&bytes[..cut], cut).is_err());
        }
    }

    /// No input causes a panic, and every message that hickory reads is scanned.
    #[test]
    fn scans_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..120), counts in 0..3u8) {
        if bytes.len() > 12 {
            bytes[4..12].copy_from_slice(&[0, counts, 0, 0, 0, 0, 0, counts]);
        }
        let scanned = scan(&bytes, bytes.len());
        if let Ok(message) = Message::from_vec(&bytes) && counts == 1 {
            // hickory follows compression pointers into the header; the scan does not.
            let Ok(scan) = scanned else {
                prop_assert_eq!(scanned, Err(ScanError::BadQuestion));
                return Ok(());
            };
            let labels: Vec<&[u8]> = name::labels(scan.question.unwrap().name).collect();
            prop_assert_eq!(labels, message.queries[0].name().iter().collect::<Vec<_>>());
        }
    }
}
