//! How many connections there are: so many in all, and so many of one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections served at once.
pub const MAX_CONNECTIONS: usize = 256;
/// Those of one client, by its address; of IPv6 the 64 bits that are its network.
pub const MAX_OF_CLIENT: usize = 64;
/// How often it is said that connections were refused.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// The connections that are served.
#[derive(Debug, Default)]
pub struct Connections {
    by_client: Mutex<HashMap<IpAddr, usize>>,
    refused: AtomicU64,
    said: Mutex<Option<Instant>>,
}

/// A connection that is served, until it is dropped.
#[derive(Debug)]
pub struct Place {
    client: IpAddr,
    connections: Arc<Connections>,
}

/// What counts as one client.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Connections {
    fn by_client(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from this address; none where there are too many already.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = client(address);
        let mut by_client = self.by_client();
        let all: usize = by_client.values().sum();
        let own = by_client.get(&client).copied().unwrap_or(0);
        if all >= MAX_CONNECTIONS || own >= MAX_OF_CLIENT {
            drop(by_client);
            self.refuse(address);
            return None;
        }
        by_client.insert(client, own + 1);
        Some(Place { client, connections: Arc::clone(self) })
    }

    fn refuse(&self, address: IpAddr) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(
                "too many HTTP connections, the last from {address}: {refused} were refused so far"
            );
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = self.connections.by_client();
        if let Some(own) = by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others_and_all_have_an_end() {
        let connections: Arc<Connections> = Arc::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut places = Vec::new();
        for network in 1..=4 {
            let of_client = |host: usize| address(&format!("2001:db8:0:{network}::{host:x}"));
            for host in 0..MAX_OF_CLIENT {
                // The fourth is not v6: one that comes over IPv4 is the same on a socket of IPv6.
                let from = match (network, host % 2) {
                    (4, 0) => address("192.0.2.1"),
                    (4, _) => address("::ffff:192.0.2.1"),
                    _ => of_client(host),
                };
                places.push(connections.admit(from).expect("there is room"));
            }
            if network < 4 {
                assert!(connections.admit(of_client(0xffff)).is_none());
            }
        }
        assert_eq!(places.len(), MAX_CONNECTIONS);
        assert!(connections.admit(address("198.51.100.1")).is_none());
        places.pop();
        places.push(connections.admit(address("198.51.100.1")).expect("there is room again"));
        places.clear();
        assert!(connections.by_client().is_empty());
    }
}
