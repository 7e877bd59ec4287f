//! The byte form of a summary: what is accepted can be shown, merged and written again.

use pktvisord::summary::state::{Decoded, Terms, decode, encode};

/// Reads the input as the byte form of a summary.
pub fn run(data: &[u8]) {
    let terms = Terms {
        ports: vec![53, 5353, 5355, 53_000],
        public_suffix: false,
        mask: None,
        names: None,
        seed: 0,
    };
    let Ok(Decoded { mut summary, .. }) = decode(data, &terms) else { return };
    let written = encode(&summary, &terms);
    let Decoded { summary: again, left_out } =
        decode(&written, &terms).expect("what was written can be read");
    assert!(left_out.is_empty(), "{left_out:?}");
    assert_eq!(encode(&again, &terms), written);
    summary.view();
    summary.merge(&again);
    summary.view();
}
