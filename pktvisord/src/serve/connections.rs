//! Admission of HTTP connections: a limit in all and one for each client, with places reserved for
//! trusted clients. A new connection past a limit replaces the one that was idle for longest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

use crate::system::occasional::Occasional;

/// Maximum number of connections served at once.
pub const MAX_CONNECTIONS: usize = 256;
/// Connections out of these that are reserved for trusted clients: those on this host, or
/// authenticated.
pub const KEPT_FOR_TRUSTED: usize = 32;
/// Maximum number of connections of one client: one IPv4 address, or one IPv6 /64.
pub const MAX_OF_CLIENT: usize = 64;
/// Time limit for the head of a request, if at most this many connections are served.
const HEAD_TIMEOUTS: [(usize, Duration); 3] = [
    (MAX_CONNECTIONS / 2, Duration::from_secs(30)),
    (MAX_CONNECTIONS * 3 / 4, Duration::from_secs(10)),
    (usize::MAX, Duration::from_secs(3)),
];

/// All connections that are served.
#[derive(Debug, Default)]
pub struct Connections {
    /// By number, in the order of arrival.
    served: Mutex<BTreeMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    refused: Occasional,
}

/// One connection that is served.
#[derive(Debug)]
pub struct Connection {
    client: IpAddr,
    /// True if the client is on this host.
    is_local: bool,
    /// True if the client has shown an accepted token.
    has_token: AtomicBool,
    has_certificate: AtomicBool,
    /// Start of the wait for a request. `None` while an answer is made.
    idle_since: Mutex<Option<Instant>>,
    /// The certificate chain of the client, its own certificate first.
    certificates: Mutex<Vec<CertificateDer<'static>>>,
    close: Notify,
}

/// The place of a connection, freed on drop.
#[derive(Debug)]
pub struct Place {
    number: u64,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
}

/// Returns the address that identifies a client: an IPv4 address, or the /64 of an IPv6 address.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Connection {
    fn is_trusted(&self) -> bool {
        let holds = |shown: &AtomicBool| shown.load(Ordering::Relaxed);
        self.is_local || holds(&self.has_token) || holds(&self.has_certificate)
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_idle_since(&self, since: Option<Instant>) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Trusts the client because of an accepted token, until tokens change.
    pub fn trust_by_token(&self) {
        self.has_token.store(true, Ordering::Relaxed);
    }

    /// Trusts the client because of these certificates, which were verified.
    pub fn trust_by(&self, certificates: &[CertificateDer<'static>]) {
        let mut shown = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = certificates.to_vec();
        self.has_certificate.store(true, Ordering::Relaxed);
    }

    /// Marks the connection as busy until the guard is dropped.
    pub fn answer(self: &Arc<Self>) -> Answering {
        self.set_idle_since(None);
        Answering(Arc::clone(self))
    }
}

/// Guard of a connection that is busy with an answer.
#[derive(Debug)]
pub struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set_idle_since(Some(Instant::now()));
    }
}

impl Place {
    /// Returns the connection of this place.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Waits until the connection is told to close.
    pub async fn taken(&self) {
        self.connection.close.notified().await;
    }

    /// Returns the time limit for the head of a request. It is shorter the more connections there
    /// are.
    pub fn head_timeout(&self) -> Duration {
        let served = self.connections.served().len();
        let fits = HEAD_TIMEOUTS.iter().find(|&&(most, _)| served <= most);
        fits.unwrap_or(&HEAD_TIMEOUTS[0]).1
    }
}

impl Connections {
    fn served(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a connection from `peer` to the local address `local`. Returns `None` if
    /// a limit is reached and no connection that could make room is idle.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, local: IpAddr) -> Option<Place> {
        let from_here = peer.to_canonical().is_loopback() || peer == local;
        let connection = Arc::new(Connection {
            client: client(peer),
            is_local: from_here,
            has_token: false.into(),
            has_certificate: false.into(),
            idle_since: Mutex::new(Some(Instant::now())),
            certificates: Mutex::default(),
            close: Notify::new(),
        });
        let mut served = self.served();
        if !make_room(&mut served, &connection) {
            drop(served);
            if let Some(refused) = self.refused.happened(Instant::now()) {
                tracing::warn!(
                    "too many HTTP connections: refused {refused}, the last from {peer}"
                );
            }
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        served.insert(number, Arc::clone(&connection));
        Some(Place { number, connection, connections: Arc::clone(self) })
    }

    /// Forgets all tokens that were shown, because the accepted tokens have changed.
    pub fn forget_tokens(&self) {
        for connection in self.served().values() {
            connection.has_token.store(false, Ordering::Relaxed);
        }
    }

    /// Closes connections whose client certificates are no longer accepted.
    pub fn close_where(&self, is_wrong: impl Fn(&[CertificateDer<'static>]) -> bool) {
        for connection in self.served().values() {
            let shown = connection.certificates.lock().unwrap_or_else(PoisonError::into_inner);
            if !shown.is_empty() && is_wrong(&shown) {
                connection.close.notify_one();
            }
        }
    }
}

/// Makes room for a new connection. Returns true if there is room.
fn make_room(served: &mut BTreeMap<u64, Arc<Connection>>, comes: &Connection) -> bool {
    let of_client = |one: &Connection| one.client == comes.client;
    if served.values().filter(|one| of_client(one)).count() >= MAX_OF_CLIENT
        && !close_idle(served, &of_client)
    {
        return false;
    }
    let strangers = served.values().filter(|one| !one.is_trusted()).count();
    let is_full = served.len() >= MAX_CONNECTIONS
        || !comes.is_trusted() && strangers >= MAX_CONNECTIONS - KEPT_FOR_TRUSTED;
    !is_full
        || close_idle(served, &|one| !one.is_trusted())
        || comes.is_trusted() && close_idle(served, &Connection::is_trusted)
}

/// Closes the connection that was idle for longest among those that `may_go`. Returns false if none
/// is idle.
fn close_idle(
    served: &mut BTreeMap<u64, Arc<Connection>>,
    may_go: &dyn Fn(&Connection) -> bool,
) -> bool {
    let idle = served.iter().filter(|(_, one)| may_go(one));
    let idle = idle.filter_map(|(&number, one)| Some((one.idle_since()?, number)));
    let Some((_, number)) = idle.min() else { return false };
    if let Some(connection) = served.remove(&number) {
        connection.close.notify_one();
    }
    true
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.served().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Returns true if the connection was told to close.
    fn is_taken(place: &Place) -> bool {
        let taken = std::pin::pin!(place.taken());
        let waker = std::task::Waker::noop();
        std::future::Future::poll(taken, &mut std::task::Context::from_waker(waker)).is_ready()
    }

    #[test]
    fn closes_longest_idle_connection_of_a_client_and_no_busy_one() {
        let connections: Arc<Connections> = Arc::default();
        let from = |host: usize| address(&format!("2001:db8::{host:x}"));
        let places: Vec<Place> = (0..MAX_OF_CLIENT)
            .map(|host| connections.admit(from(host), HERE).expect("there is room"))
            .collect();
        let answering: Vec<Answering> =
            places[1..].iter().map(|place| place.connection().answer()).collect();
        let newer = connections.admit(from(999), HERE).expect("the first one goes");
        assert!(is_taken(&places[0]) && !is_taken(&places[1]));
        let _busy = newer.connection().answer();
        assert!(connections.admit(from(1_000), HERE).is_none(), "all are answered");
        assert!(connections.admit(address("198.51.100.1"), HERE).is_some());
        drop(answering);
        assert!(connections.admit(from(1_000), HERE).is_some());
        drop((places, newer));
    }

    #[test]
    fn reserves_places_for_trusted_clients() {
        let connections: Arc<Connections> = Arc::default();
        let stranger =
            |number: usize| address(&format!("198.51.{}.{}", number / 250, number % 250));
        let most = MAX_CONNECTIONS - KEPT_FOR_TRUSTED;
        let strangers: Vec<Place> = (0..most)
            .map(|number| connections.admit(stranger(number), HERE).expect("there is room"))
            .collect();
        let busy: Vec<Answering> =
            strangers.iter().map(|place| place.connection().answer()).collect();
        assert!(connections.admit(stranger(5_000), HERE).is_none());
        // From this host: by loopback and by an address of its own.
        let here: Vec<Place> = (0..KEPT_FOR_TRUSTED)
            .map(|at| if at % 2 == 0 { address("::1") } else { HERE })
            .map(|peer| connections.admit(peer, HERE).expect("a place is kept"))
            .collect();
        // An authenticated connection counts as trusted and leaves a stranger's place.
        drop(here);
        strangers[0].connection().trust_by_token();
        let one = connections.admit(stranger(5_000), HERE).expect("a place is free again");
        drop(busy);
        let longest = connections.admit(stranger(5_001), HERE).expect("an idle one goes");
        assert!(!is_taken(&strangers[0]) && is_taken(&one), "{longest:?}");
        connections.forget_tokens();
        assert!(!strangers[0].connection().is_trusted(), "its token may be one that is gone");
    }

    #[test]
    fn shortens_head_timeout_as_places_fill() {
        let connections: Arc<Connections> = Arc::default();
        let mut places = Vec::new();
        let mut timeouts = Vec::new();
        for number in 0..200_u32 {
            let from = IpAddr::V4((0xc633_6400 + number).into());
            let place = connections.admit(from, HERE).expect("there is room");
            timeouts.push(place.head_timeout().as_secs());
            places.push(place);
        }
        timeouts.dedup();
        assert_eq!(timeouts, [30, 10, 3]);
        places.clear();
        assert!(connections.served().is_empty());
    }

    #[test]
    fn closes_connections_whose_certificates_are_no_longer_accepted() {
        let connections: Arc<Connections> = Arc::default();
        let [one, other] = [1, 2].map(|byte| CertificateDer::from(vec![byte]));
        let places = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
            .map(|from| connections.admit(address(from), HERE).expect("there is room"));
        places[0].connection().trust_by(std::slice::from_ref(&one));
        places[1].connection().trust_by(std::slice::from_ref(&other));
        connections.close_where(|shown| shown[0] == one);
        assert_eq!(places.each_ref().map(is_taken), [true, false, false]);
    }
}
