//! The byte form of summaries: an accepted state can be encoded again, merged with states of its
//! own key and of another one, and shown.

use pktvisor_common::sketch::key::FleetKey;
use pktvisor_common::summary::across::AcrossKeys;
use pktvisor_common::summary::state::{Decoded, Terms, decode, encode};

/// Magic number at the start of a state.
const MAGIC: &[u8] = b"PKTV";
/// Maximum number of states in one input.
const STATES: usize = 8;

/// Decodes the input as the byte forms of summaries, one after the other.
pub fn run(data: &[u8]) {
    let terms = Terms {
        ports: vec![53, 5353, 5355, 53_000],
        public_suffix: false,
        mask: None,
        names: None,
    };
    let starts = data.windows(MAGIC.len()).enumerate().filter(|(_, octets)| *octets == MAGIC);
    let mut starts: Vec<usize> = starts.map(|(at, _)| at).skip(1).take(STATES - 1).collect();
    starts.insert(0, 0);
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([data.len()]).collect();
    let (mut of_one_key, mut of_all) = (AcrossKeys::default(), AcrossKeys::default());
    let (one, other) = (FleetKey::default().into(), FleetKey::of_seed(1).into());
    for (start, end) in starts.into_iter().zip(ends) {
        let decoded = decode(&data[start..end], &terms);
        let Ok(Decoded { summary, keyed, .. }) = decoded else { continue };
        let written = encode(&summary, &terms, keyed);
        let again = decode(&written, &terms).expect("what was written can be read");
        assert!(again.left_out.is_empty(), "{:?}", again.left_out);
        assert_eq!(again.keyed, keyed);
        assert_eq!(encode(&again.summary, &terms, keyed), written);
        summary.view();
        of_one_key.add(one, &summary);
        of_one_key.add(one, &again.summary);
        of_all.add(keyed, &summary);
        of_all.add(other, &again.summary);
        of_all.merge(&of_one_key);
    }
    of_one_key.view();
    of_all.view();
}
