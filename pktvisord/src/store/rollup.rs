//! Hours and days, merged from the periods within them.

use pktvisor_common::summary::Summary;

/// Keys of each top list that hours and days keep.
pub(crate) const KEYS: usize = 1_024;

/// Makes the merge of several periods one that takes little space: each top list keeps [`KEYS`] keys and
/// states a larger error, and the seconds of its rates are folded into distributions.
pub(crate) fn roll_up(merged: &mut Summary) {
    merged.rates.fold_all(merged.start);
    merged.truncate_lists(KEYS);
}
