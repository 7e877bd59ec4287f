//! Notifications for a service manager (sd_notify(3)): the daemon is ready, reloads its options, or
//! stops. If the manager's watchdog is on, it also hears that the workers answer; `/healthz`
//! reports the same over HTTP.

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

/// Interval of liveness checks if the service manager sets none.
const LOOK: Duration = Duration::from_secs(10);
/// Timeout of a liveness check, including requests that wait before it.
const LIFE: Duration = Duration::from_secs(10);

/// Sends states to the service manager. Without a notification socket this does nothing.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = send(states) {
        debug!("cannot notify the service manager: {error}");
    }
}

/// The socket to the service manager. It is connected before the daemon enters its sandbox, which
/// denies new connections.
static MANAGER: OnceLock<io::Result<UnixDatagram>> = OnceLock::new();

/// Connects to the service manager on the first call. Returns `None` if there is no manager.
pub(super) fn connect() -> Option<&'static UnixDatagram> {
    let connected = MANAGER.get_or_init(|| {
        let name = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
        // A name that starts with `@` is in the abstract namespace (sd_notify(3)).
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(socket)
    });
    connected.as_ref().inspect_err(|error| debug!("no service manager: {error}")).ok()
}

/// Sends states to the service manager, if there is one.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(manager) = connect() else { return Ok(()) };
    let lines: Vec<String> = states.iter().map(NotifyState::to_string).collect();
    manager.send((lines.join("\n") + "\n").as_bytes()).map(|_| ())
}

/// Reports that the daemon serves, and reports its liveness until shutdown is requested.
pub(super) fn ready(live: &Arc<Live>, shutdown: &Shutdown, runtime: &Runtime) {
    let input = live.status();
    let watched = input.names().join(", ");
    let through = input.kind.name();
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{watched} ({through})"))]);
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

/// Reports what is watched after each change.
async fn follow(mut watching: watch::Receiver<Watching>, through: &'static str) {
    let mut told = String::new();
    while watching.changed().await.is_ok() {
        let status = {
            let Watching { watched, pending, .. } = &*watching.borrow_and_update();
            match pending {
                0 => format!("{} interfaces ({through})", watched.len()),
                left => format!("{} interfaces ({through}), {left} pending", watched.len()),
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

/// Notifies the watchdog each time all workers answer. If a worker does not answer, the service
/// manager hears nothing and acts as configured; `/healthz` fails too.
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
            (true, false) => error!("a worker does not respond"),
            (false, false) => {}
        }
        // Wait for a pending check before starting another one.
        if !answer.is_finished() {
            let _ = answer.await;
        }
    }
}

/// Reports that a reload has started; [`reloaded`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!("cannot read the monotonic clock: {error}"),
    }
}

/// Reports that the reload has ended, whether the options were applied or not.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}
