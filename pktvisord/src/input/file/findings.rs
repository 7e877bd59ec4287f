//! Findings of a reader other than packets, for warnings and counts.

use super::interface::Drops;
use crate::decode::link::UnsupportedLink;

/// Maximum number of link types that warnings name. Packets of further ones are only counted.
const NAMED_LINKS: usize = 64;

/// Packets of one unsupported link type.
#[derive(Clone, Copy, Debug)]
struct UnreadLink {
    link: UnsupportedLink,
    packets: u64,
    first: u64,
}

/// Findings of a reader other than packets.
#[derive(Debug, Default)]
pub(super) struct Findings {
    unread_links: Vec<UnreadLink>,
    unread: u64,
    /// Packets whose time is out of range, and the number of the first one.
    unfit: u64,
    first_unfit: u64,
    /// Drops of sections that have ended.
    pub(super) drops: Drops,
}

impl Findings {
    /// Adds `count` packets of an unsupported link type; `packet` is the number of the first one.
    pub(super) fn unread(&mut self, link: UnsupportedLink, packet: u64, count: u64) {
        self.unread += count;
        let known = self.unread_links.iter().position(|known| known.link == link);
        match known {
            Some(known) => self.unread_links[known].packets += count,
            None if count == 0 || self.unread_links.len() == NAMED_LINKS => {}
            None => self.unread_links.push(UnreadLink { link, packets: count, first: packet }),
        }
    }

    /// Returns the packets so far with unsupported link types.
    pub(super) fn all_unread(&self) -> u64 {
        self.unread
    }

    /// Adds a packet whose time is out of range: before 1823 or after 2262.
    pub(super) fn unfit_time(&mut self, packet: u64) {
        if self.unfit == 0 {
            self.first_unfit = packet;
        }
        self.unfit += 1;
    }

    /// Returns a warning for each finding.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let links = self.unread_links.iter().map(|UnreadLink { link, packets, first }| {
            let count = plural(*packets, "packet");
            format!("ignored {count}, the first is packet {first}: {link}")
        });
        let times = (self.unfit > 0).then(|| {
            format!(
                "{} with a time outside the years 1823 to 2262, the first is packet {}; counted at \
                 the nearest valid time",
                plural(self.unfit, "packet"),
                self.first_unfit
            )
        });
        links.chain(times)
    }
}

/// Formats a count with its noun.
pub(super) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
