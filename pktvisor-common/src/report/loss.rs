//! What was not seen or not inspected.

use super::layout::{Line, Page, Tone};
use super::number::count;
use super::text::{fit, width};
use crate::api::MetricsView;
use crate::outcome::Outcome;

/// Something that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How much.
    pub count: u64,
    /// Its name in the JSON.
    pub name: String,
    /// What it means.
    pub meaning: &'static str,
}

/// What a view says was lost; nothing where all was seen.
pub fn losses(view: &MetricsView) -> Vec<Loss> {
    let capture = &view.capture;
    let outcome = |outcome: Outcome| capture.outcomes.get(outcome.name()).copied().unwrap_or(0);
    let ring_full = outcome(Outcome::RingFull).max(capture.ring_full);
    let own = [
        (outcome(Outcome::Truncated), "truncated", "DNS packets cut by the snap length"),
        (outcome(Outcome::Malformed), "malformed", "packets with broken headers"),
        (ring_full, "ring_full", "samples the ring buffers had no room for"),
        (capture.kernel_drops, "kernel_drops", "packets the capture buffer had no room for"),
        (capture.if_drops, "if_drops", "packets the interfaces dropped"),
        (capture.late_packets, "late_packets", "packets counted in a later minute"),
    ];
    let evictions = capture.evictions.iter();
    let evictions = evictions.map(|(reason, n)| (*n, reason.as_str(), meaning_of(reason)));
    own.into_iter()
        .chain(evictions)
        .filter(|(n, ..)| *n > 0)
        .map(|(count, name, meaning)| Loss { count, name: name.to_owned(), meaning })
        .collect()
}

/// Adds a section where anything was lost: how much, its name in the JSON, and what it means.
pub(super) fn section(page: &mut Page, view: &MetricsView) {
    let losses = losses(view);
    if losses.is_empty() {
        return;
    }
    page.section(Tone::Loss, "LOSS", &[]);
    let name_width = losses.iter().map(|loss| width(&fit(&loss.name, 24))).max().unwrap_or(0);
    for Loss { count: n, name, meaning } in losses {
        let line = Line::default()
            .right(Tone::Loss, &count(n), 14)
            .add(Tone::Plain, "  ")
            .left(Tone::Loss, &name, name_width)
            .add(Tone::Plain, "  ");
        let room = page.width().saturating_sub(18 + name_width);
        page.line(line.left(Tone::Dim, meaning, room));
    }
}

/// What a reason means for which something was given up.
fn meaning_of(reason: &str) -> &'static str {
    match reason {
        "xact_table_full" => "open DNS queries, given up for newer ones",
        "tcp_streams_evicted" => "TCP streams with DNS, given up for newer ones",
        "tcp_bytes_evicted" => "TCP streams with DNS, given up for their octets",
        "tcp_idle" => "TCP streams with DNS that stopped within a message",
        "tcp_gaps" => "gaps in TCP streams with DNS",
        "tcp_cut" => "TCP segments with DNS cut by the snap length",
        "tcp_broken_messages" => "DNS messages over TCP that are not whole",
        "tcp_desync" => "TCP streams that do not read like DNS",
        "fragments_incomplete" => "IP datagrams of which fragments are missing",
        "fragments_evicted" => "fragmented IP datagrams, given up for newer ones",
        "fragments_invalid" => "IP fragments that contradict each other",
        "fragments_cut" => "IP fragments cut by the snap length",
        "fragments_not_forwarded" => "IP datagrams for which another worker had no room",
        "not_watched_yet" => "packets of an interface that came before it was watched",
        _ => "given up",
    }
}
