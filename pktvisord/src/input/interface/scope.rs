//! The interfaces that a target names as they come and go, and the addresses that are HOST.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::{info, warn};

use super::{Interface, Selected, Sides, host, select};
use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::Settings;
use crate::input::netlink::Requests;
use crate::input::target::Target;

/// The interfaces to watch, and HOST.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Names of interfaces; `None` for all, including later ones.
    names: Option<Vec<String>>,
    hosts: HostSpec,
    /// Addresses of the watched interfaces at the last update.
    addresses: BTreeSet<IpAddr>,
}

impl Scope {
    /// Creates the scope of a target. `hosts` are HOST in addition to the addresses of the
    /// interfaces.
    pub fn of(target: &Target, hosts: HostSpec) -> Self {
        let names = match target {
            Target::Interfaces(names) => Some(names.clone()),
            Target::Address(_, name) => Some(vec![name.clone()]),
            _ => None,
        };
        Self { names, hosts, addresses: BTreeSet::new() }
    }

    /// Sets the addresses that are HOST in addition to those of the interfaces.
    pub fn set_hosts(&mut self, hosts: HostSpec) {
        self.hosts = hosts;
    }

    /// Returns true if all interfaces are to be watched.
    pub fn is_any(&self) -> bool {
        self.names.is_none()
    }

    /// Returns the listed interfaces to watch, devices first.
    pub fn wanted(&self, listed: &[Interface]) -> Vec<(Interface, Selected)> {
        let mut wanted: Vec<(Interface, Selected)> = match &self.names {
            Some(names) => {
                let found = |name: &String| listed.iter().find(|i| i.name == *name).cloned();
                let named = names.iter().filter_map(found);
                named
                    .map(|interface| (interface.clone(), Sides::named(&interface).into()))
                    .collect()
            }
            None => select(listed)
                .into_iter()
                .filter_map(|(interface, verdict)| Some((interface.clone(), verdict.ok()?)))
                .collect(),
        };
        wanted.sort_by_key(|(interface, _)| !interface.physical);
        wanted
    }

    /// Returns HOST: the addresses of the watched interfaces, of interfaces stacked on them, and
    /// those configured in addition.
    pub fn hosts(&mut self, watched: &BTreeSet<u32>, listed: &[Interface]) -> HostSpec {
        match Requests::open().and_then(|requests| requests.addresses()) {
            Ok(addresses) => {
                self.addresses = host::addresses(watched, listed, &addresses);
            }
            Err(error) => warn!("cannot list the addresses of the interfaces: {error}"),
        }
        let mut hosts = self.hosts.clone();
        self.addresses.iter().for_each(|&address| hosts.insert(address));
        if self.addresses.iter().any(IpAddr::is_loopback) {
            hosts.insert_loopback();
        }
        hosts
    }

    /// Updates HOST if addresses have changed. Returns true if so.
    pub fn follow_hosts(
        &mut self,
        watched: &BTreeSet<u32>,
        listed: &[Interface],
        settings: &Settings,
    ) -> bool {
        let before = self.addresses.clone();
        let hosts = self.hosts(watched, listed);
        let changed = *settings.hosts.now() != hosts;
        if changed {
            let added = named(self.addresses.difference(&before));
            let removed = named(before.difference(&self.addresses));
            info!("addresses of HOST changed: added {added}, removed {removed}");
            settings.hosts.set(hosts);
        }
        changed
    }
}

/// Formats the first addresses for a log line.
fn named<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    const MOST: usize = 8;
    let all: Vec<String> = addresses.map(IpAddr::to_string).collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=MOST => all.join(" "),
        more => format!("{} and {} more", all[..MOST].join(" "), more - MOST),
    }
}
