//! Which connections are served: so many in all and of one client, some kept for those who are trusted,
//! and the one that was idle for longest goes where there is no room.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

use crate::system::occasional::Occasional;

/// Connections served at once.
pub const MAX_CONNECTIONS: usize = 256;
/// Those of them that are kept for clients of this host, or who have shown who they are.
pub const KEPT_FOR_TRUSTED: usize = 32;
/// Those of one client, by its address; of IPv6 the 64 bits that are its network.
pub const MAX_OF_CLIENT: usize = 64;
/// How long a client may take for the head of a request, where up to so many connections are served.
const HEAD_TIMEOUTS: [(usize, Duration); 3] = [
    (MAX_CONNECTIONS / 2, Duration::from_secs(30)),
    (MAX_CONNECTIONS * 3 / 4, Duration::from_secs(10)),
    (usize::MAX, Duration::from_secs(3)),
];

/// The connections that are served.
#[derive(Debug, Default)]
pub struct Connections {
    /// By number, in the order in which they came.
    served: Mutex<BTreeMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    refused: Occasional,
}

/// A connection that is served.
#[derive(Debug)]
pub struct Connection {
    client: IpAddr,
    /// It comes from this host.
    is_local: bool,
    /// Its client has shown a token, which was right.
    has_token: AtomicBool,
    has_certificate: AtomicBool,
    /// Since when it waits for a request; `None` while an answer is made.
    idle_since: Mutex<Option<Instant>>,
    /// The certificates that the client has shown, its own first.
    certificates: Mutex<Vec<CertificateDer<'static>>>,
    close: Notify,
}

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    number: u64,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
}

/// What counts as one client.
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

    /// Its client has shown a right token: one of the kept places is its own, until tokens change.
    pub fn trust_by_token(&self) {
        self.has_token.store(true, Ordering::Relaxed);
    }

    /// Its client has shown these certificates, and they were found right.
    pub fn trust_by(&self, certificates: &[CertificateDer<'static>]) {
        let mut shown = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = certificates.to_vec();
        self.has_certificate.store(true, Ordering::Relaxed);
    }

    /// An answer is made from now on until the guard is dropped.
    pub fn answer(self: &Arc<Self>) -> Answering {
        self.set_idle_since(None);
        Answering(Arc::clone(self))
    }
}

/// An answer is being made.
#[derive(Debug)]
pub struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set_idle_since(Some(Instant::now()));
    }
}

impl Place {
    /// The connection that it is for.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Waits until the connection has to go.
    pub async fn taken(&self) {
        self.connection.close.notified().await;
    }

    /// How long its client may take for the head of a request: the less the fuller it is.
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

    /// A place for a connection from `peer` to our address `local`; none where there are too many
    /// already, and none of those that would have to go is idle.
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
                    "too many HTTP connections, the last from {peer}: {refused} were refused"
                );
            }
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        served.insert(number, Arc::clone(&connection));
        Some(Place { number, connection, connections: Arc::clone(self) })
    }

    /// Tokens have changed: no token that was shown counts any more.
    pub fn forget_tokens(&self) {
        for connection in self.served().values() {
            connection.has_token.store(false, Ordering::Relaxed);
        }
    }

    /// Closes those whose clients have shown certificates that are not right any more.
    pub fn close_where(&self, is_wrong: impl Fn(&[CertificateDer<'static>]) -> bool) {
        for connection in self.served().values() {
            let shown = connection.certificates.lock().unwrap_or_else(PoisonError::into_inner);
            if !shown.is_empty() && is_wrong(&shown) {
                connection.close.notify_one();
            }
        }
    }
}

/// Makes room for a connection that comes. Returns whether there is some.
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

/// Closes the one that was idle for longest of those that `may_go`. Returns whether there is one.
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

    /// Whether a connection was told to go.
    fn is_taken(place: &Place) -> bool {
        let taken = std::pin::pin!(place.taken());
        let waker = std::task::Waker::noop();
        std::future::Future::poll(taken, &mut std::task::Context::from_waker(waker)).is_ready()
    }

    #[test]
    fn of_one_client_the_longest_idle_goes_and_who_is_answered_stays() {
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
    fn trusted_clients_have_places_that_strangers_cannot_take() {
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
        // Of this host, by loopback and by an address of its own.
        let here: Vec<Place> = (0..KEPT_FOR_TRUSTED)
            .map(|at| if at % 2 == 0 { address("::1") } else { HERE })
            .map(|peer| connections.admit(peer, HERE).expect("a place is kept"))
            .collect();
        // One that has shown who it is makes room for a stranger.
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
    fn heads_have_less_time_the_fuller_it_is() {
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
    fn certificates_are_looked_at_again() {
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
