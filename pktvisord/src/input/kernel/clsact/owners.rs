//! Tells which programs belong to running daemons.
//!
//! A daemon binds an abstract socket whose name holds the ids of its programs. A random number in
//! front of them keeps others from taking the name first. The socket goes with the process
//! (unix(7)), and the kernel reuses an id only after 2³¹ others. `/proc/net/unix` lists the names,
//! and stays readable when the daemon can no longer create sockets.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use ahash::RandomState;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

/// Prefix of the socket names. A number, a slash and the comma-separated ids follow.
const NAME: &str = "pktvisord/clsact/";

/// Announces these programs as this daemon's, as long as the process runs. Only the first call has
/// an effect: later the sandbox denies sockets.
///
/// # Errors
/// The error that the kernel returns.
pub(super) fn announce(programs: &[u32]) -> io::Result<()> {
    static SOCKET: Mutex<Option<OwnedFd>> = Mutex::new(None);
    let mut socket = SOCKET.lock().unwrap_or_else(PoisonError::into_inner);
    if socket.is_none() {
        *socket = Some(bound(programs)?);
    }
    Ok(())
}

fn bound(programs: &[u32]) -> io::Result<OwnedFd> {
    let random = RandomState::new().hash_one(NAME);
    let ids: Vec<String> = programs.iter().map(u32::to_string).collect();
    let name = format!("{NAME}{random:016x}/{}", ids.join(","));
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let (unix, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let socket = socket_with(unix, kind, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// Returns the ids of all programs that running daemons have announced.
///
/// # Errors
/// An I/O error if `/proc/net/unix` cannot be read.
pub(super) fn programs() -> io::Result<HashSet<u32>> {
    Ok(announced(&fs::read("/proc/net/unix")?).collect())
}

/// Parses the ids from a listing. Its last column is a name, with `@` in front of an abstract one.
/// Other programs choose their names freely, and these need not be UTF-8.
fn announced(listing: &[u8]) -> impl Iterator<Item = u32> {
    let names = listing.split(|&byte| byte == b'\n').filter_map(|line| {
        let name = line.rsplit(|&byte| byte == b' ').next()?;
        let own = str::from_utf8(name.strip_prefix(b"@")?).ok()?.strip_prefix(NAME)?;
        own.split_once('/').map(|(_, ids)| ids)
    });
    names.flat_map(|ids| ids.split(',')).filter_map(|id| id.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ids_from_socket_names() {
        let listing = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 16051 @pktvisord/clsact/a0/7,4294967295\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 16052 /tmp/pktvisord/clsact/a0/8\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 16053 @pktvisord/clsact/a0/9x,,-1\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 16054\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 16056 @pktvisord/clsact/9\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 16055 @\xff\n";
        assert_eq!(announced(listing).collect::<Vec<_>>(), [7, u32::MAX]);
    }

    #[test]
    fn programs_are_announced_while_the_socket_is_open() {
        // Ids that the kernel does not assign.
        let ids = [u32::MAX, u32::MAX - 1];
        let socket = bound(&ids).unwrap();
        let there = programs().unwrap();
        assert!(ids.iter().all(|id| there.contains(id)), "{there:?}");
        drop(socket);
        let there = programs().unwrap();
        assert!(!ids.iter().any(|id| there.contains(id)), "{there:?}");
    }
}
