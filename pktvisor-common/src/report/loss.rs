//! The section on losses.

use super::layout::{Line, Page, Tone};
use super::number::count;
use super::text::{fit, width};
use crate::api::MetricsView;
use crate::loss::Loss;
use crate::outcome::Outcome;

/// Name of the total of samples dropped by full rings, of all kinds.
const RING_FULL: &str = "ring_full";

/// A loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The count.
    pub count: u64,
    /// Its name in the JSON.
    pub name: String,
    /// A description.
    pub meaning: &'static str,
}

/// Returns the losses of a view, each once. Empty if there were none.
pub fn losses(view: &MetricsView) -> Vec<Lost> {
    let capture = &view.capture;
    let outcome = |outcome: Outcome| capture.outcomes.get(outcome.name()).copied().unwrap_or(0);
    let ring_full = outcome(Outcome::RingFull).max(capture.ring_full);
    let own = [
        ("truncated", outcome(Outcome::Truncated)),
        ("malformed", outcome(Outcome::Malformed)),
        (RING_FULL, ring_full),
        ("kernel_drops", capture.kernel_drops),
        ("if_drops", capture.if_drops),
        ("late_packets", capture.late_packets),
        ("time_outliers", capture.time_outliers),
        ("unread_link_types", capture.unread_link_types),
    ];
    // Omit reasons that have a field of their own, and the total of full rings if it is listed by
    // kind.
    let by_kind = |reason: &str| Loss::of_name(reason).is_some_and(Loss::is_of_ring);
    let kinds = capture.evictions.keys().any(|reason| by_kind(reason));
    let others =
        capture.evictions.iter().map(|(reason, n)| (reason.as_str(), *n)).filter(|(reason, _)| {
            own.iter().all(|(name, _)| name != reason)
                && Loss::of_name(reason).is_none_or(Loss::is_lost)
        });
    own.into_iter()
        .filter(|(name, _)| !(kinds && *name == RING_FULL))
        .chain(others)
        .filter(|(_, n)| *n > 0)
        .map(|(name, count)| Lost { count, name: name.to_owned(), meaning: meaning_of(name) })
        .collect()
}

/// Adds a section if anything was lost: the count, the name in the JSON, and a description.
pub(super) fn section(page: &mut Page, view: &MetricsView) {
    let losses = losses(view);
    if losses.is_empty() {
        return;
    }
    page.section(Tone::Loss, "LOSS", &[]);
    let name_width = losses.iter().map(|loss| width(&fit(&loss.name, 24))).max().unwrap_or(0);
    for Lost { count: n, name, meaning } in losses {
        let line = Line::default()
            .right(Tone::Loss, &count(n), 14)
            .add(Tone::Plain, "  ")
            .left(Tone::Loss, &name, name_width)
            .add(Tone::Plain, "  ");
        let room = page.width().saturating_sub(18 + name_width);
        page.line(line.left(Tone::Dim, meaning, room));
    }
}

/// Describes a loss.
fn meaning_of(name: &str) -> &'static str {
    match name {
        "truncated" => "DNS packets cut by the snap length",
        "malformed" => "packets with malformed headers",
        "late_packets" => "packets counted in a later minute",
        "time_outliers" => "packets with an implausible time",
        "unread_link_types" => "packets of unsupported link types",
        RING_FULL => "samples dropped by full ring buffers",
        name => Loss::of_name(name).map_or("lost", Loss::meaning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_each_loss_once() {
        let mut view = MetricsView::default();
        let capture = &mut view.capture;
        (capture.kernel_drops, capture.if_drops, capture.ring_full) = (5, 6, 7);
        for (reason, n) in [
            ("kernel_drops", 5),
            ("if_drops", 6),
            ("ring_full_dns", 3),
            ("ring_full_headers", 4),
            ("tcp_gaps", 1),
        ] {
            capture.evictions.insert(reason.to_owned(), n);
        }
        let told: Vec<(String, u64)> =
            losses(&view).into_iter().map(|loss| (loss.name, loss.count)).collect();
        let expected = [
            ("kernel_drops", 5),
            ("if_drops", 6),
            ("ring_full_dns", 3),
            ("ring_full_headers", 4),
            ("tcp_gaps", 1),
        ];
        assert_eq!(told, expected.map(|(name, n)| (name.to_owned(), n)));
        view.capture.evictions.clear();
        assert_eq!(losses(&view).len(), 3);
    }
}
