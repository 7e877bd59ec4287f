//! What a service manager is told (sd_notify(3)): that the daemon serves, that it reads its options
//! again, that it ends, and, where it wants to know, that packets are still taken in. `/healthz` tells
//! the last to others.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::{debug, error};

use crate::input::status::Watching;
use crate::serve::live::Live;
use crate::system::shutdown::Shutdown;

/// How often it is looked whether all workers answer, where no service manager says how often.
const LOOK: Duration = Duration::from_secs(10);
/// How long that may take, with the questions that wait before it.
const LIFE: Duration = Duration::from_secs(10);

/// What is told nobody may want to hear: then there is no socket to tell it to.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = send(states) {
        debug!("the service manager cannot be told: {error}");
    }
}

/// The connection to the service manager, which is made before the daemon shuts itself in: later it
/// could make none.
static MANAGER: OnceLock<io::Result<UnixDatagram>> = OnceLock::new();

/// Connects to the service manager, where there is one, if that was not done yet.
pub(super) fn connect() -> Option<&'static UnixDatagram> {
    let connected = MANAGER.get_or_init(|| {
        let name = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
        // One that starts with `@` is of the abstract namespace (sd_notify(3)).
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(socket)
    });
    connected.as_ref().inspect_err(|error| debug!("there is no service manager: {error}")).ok()
}

/// Sends states to the service manager.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(manager) = connect() else { return Ok(()) };
    let lines: Vec<String> = states.iter().map(NotifyState::to_string).collect();
    manager.send((lines.join("\n") + "\n").as_bytes()).map(|_| ())
}

/// The daemon serves. From now on its life is shown, until the end is asked for.
pub(super) fn ready(live: &Arc<Live>, shutdown: &Shutdown, runtime: &Runtime) {
    let input = live.status();
    let watched = input.names().join(", ");
    let through = input.kind.name();
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{watched} through {through}"))]);
    runtime.spawn(follow(input.subscribe(), through));
    runtime.spawn(until_end(shutdown.clone()));
    let every = sd_notify::watchdog_enabled().map_or(LOOK, |within| within / 3);
    let (live, end) = (Arc::clone(live), shutdown.clone());
    runtime.spawn(async move {
        tokio::select! {
            () = end.wait() => {}
            () = show_life(live, every) => {}
        }
    });
}

/// Tells what is watched each time that this has changed.
async fn follow(mut watching: watch::Receiver<Watching>, through: &'static str) {
    let mut told = String::new();
    while watching.changed().await.is_ok() {
        let status = {
            let Watching { watched, pending, .. } = &*watching.borrow_and_update();
            match pending {
                0 => format!("{} interfaces through {through}", watched.len()),
                left => format!("{} interfaces through {through}, {left} to come", watched.len()),
            }
        };
        if status != told {
            tell(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}

async fn until_end(shutdown: Shutdown) {
    shutdown.wait().await;
    tell(&[NotifyState::Stopping]);
}

/// Says that all is well as often as all workers answer. If one does not, nothing is said, and the
/// service manager does what it was told to do; so does whoever asks for `/healthz`.
async fn show_life(live: Arc<Live>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let asked = Arc::clone(&live);
        let mut answer = tokio::task::spawn_blocking(move || asked.answers());
        let alive = match tokio::time::timeout(LIFE, &mut answer).await {
            Ok(answer) => answer.unwrap_or(false),
            Err(_) => false,
        };
        match (live.set_alive(alive), alive) {
            (_, true) => tell(&[NotifyState::Watchdog]),
            (true, false) => error!("a thread that sums packets up does not answer"),
            (false, false) => {}
        }
        // Who still waits is not followed by others.
        if !answer.is_finished() {
            let _ = answer.await;
        }
    }
}

/// The options are read again, until [`reloaded`].
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!("there is no clock: {error}"),
    }
}

/// The options have been read again, or stay as they were.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}
