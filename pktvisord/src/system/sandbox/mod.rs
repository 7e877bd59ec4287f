//! The sandbox of a daemon that watches interfaces: Landlock (landlock(7)) restricts files and TCP,
//! seccomp (seccomp(2)) restricts system calls.
//!
//! Both apply to a thread and the threads that it starts. The daemon therefore enters the sandbox
//! on its first thread before it starts others. Landlock rules that the kernel does not know are
//! left out, and the log says so.

mod calls;
mod folders;

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::system::needs::Needs;

/// Newest Landlock ABI in use: TCP, devices, and scopes for signals and abstract sockets (Linux
/// 6.12).
const RULES: ABI = ABI::V6;
/// Paths read while the daemon captures: its own resource usage, the interfaces, and the names that
/// libpcap looks up for a new filter.
const READ: [&str; 4] = ["/proc", "/sys", "/etc/services", "/etc/protocols"];

/// Reasons why the sandbox cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refuses the Landlock rules.
    #[error("Landlock: {0}")]
    Landlock(#[from] RulesetError),
    /// The seccomp filter cannot be built.
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The seccomp filter cannot be installed.
    #[error("seccomp: {0}")]
    Apply(#[from] seccompiler::Error),
}

/// State of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Enforcement of the Landlock rules: `on`, `off`, or why it is not complete.
    pub landlock: &'static str,
    /// `on` if system calls are filtered.
    pub seccomp: &'static str,
}

/// No sandbox.
pub(crate) const OFF: Sandbox = Sandbox { landlock: "off", seccomp: "off" };

/// Confines this thread and the threads it will start to what `needs` lists: reading in the folders
/// of files and of their link targets, writing in folders, connecting to ports, and packet sockets.
///
/// All other reads, writes and connections fail. The process can neither execute programs nor
/// listen, and system calls that the daemon does not use fail.
///
/// # Errors
/// [`SandboxError`] if the kernel supports the sandbox and refuses it.
pub(crate) fn enter(needs: &Needs) -> Result<Sandbox, SandboxError> {
    let landlock = match restrict(needs) {
        // Some containers deny system calls that they do not know. The seccomp filter is still
        // installed.
        Err(RulesetError::CreateRuleset(_)) => "denied by the container",
        restricted => restricted?,
    };
    // The seccomp filter comes last, because it denies the calls that set up Landlock.
    apply_filter(&filter(needs)?)?;
    Ok(Sandbox { landlock, seccomp: "on" })
}

/// Restricts access to files and TCP as described at [`enter`].
fn restrict(needs: &Needs) -> Result<&'static str, RulesetError> {
    let folders = needs.reads.iter().flat_map(|file| folders::of(file));
    let readable: Vec<PathBuf> = READ.iter().map(PathBuf::from).chain(folders).collect();
    let reached = needs.connects.iter().map(|&port| NetPort::new(port, AccessNet::ConnectTcp));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(&needs.writes, written()))?
        .add_rules(reached.map(Ok::<_, RulesetError>))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "on",
        RulesetStatus::PartiallyEnforced => "partial, as far as this kernel supports it",
        RulesetStatus::NotEnforced => "not supported by this kernel",
    })
}

/// Returns the access rights for a folder that the daemon writes to.
fn written() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
}

/// Builds the seccomp filter. It allows the calls that the daemon makes and answers all others with
/// `ENOSYS`, as an older kernel would: libraries are prepared for that.
fn filter(needs: &Needs) -> Result<BpfProgram, seccompiler::BackendError> {
    let writes: &[i64] = if needs.writes.is_empty() { &[] } else { calls::WRITES };
    let connects: &[i64] = if needs.connects.is_empty() { &[] } else { calls::CONNECTS };
    let always = [calls::ALLOWED, writes, connects].concat();
    let always = always.into_iter().map(|call| (call, Vec::new()));
    let allowed = always.chain(calls::allowed_with(needs)?).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(
        allowed,
        unknown,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    /// Checks calls that only the seccomp filter denies: they need no access to files or TCP.
    fn calls_that_are_refused() {
        use rustix::net::{AddressFamily, SocketType, netlink, socket, socketpair};
        let refused = |family, kind, protocol| socket(family, kind, protocol).is_err();
        let (unix, stream, datagram) = (AddressFamily::UNIX, SocketType::STREAM, SocketType::DGRAM);
        let mptcp = std::num::NonZeroU32::new(262).map(rustix::net::Protocol::from_raw);
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            assert!(refused(family, stream, None), "TCP");
            assert!(refused(family, stream, mptcp), "MPTCP");
            assert!(refused(family, datagram, None), "UDP");
        }
        assert!(refused(unix, stream, None) && refused(unix, datagram, None), "Unix sockets");
        assert!(refused(AddressFamily::from_raw(40), stream, None), "VSOCK");
        assert!(refused(AddressFamily::PACKET, SocketType::RAW, None), "packet sockets");
        let (raw, audit) = (SocketType::RAW, Some(netlink::AUDIT));
        assert!(refused(AddressFamily::NETLINK, raw, audit), "another netlink");
        assert!(!refused(AddressFamily::NETLINK, raw, None));
        assert!(socketpair(unix, stream, rustix::net::SocketFlags::CLOEXEC, None).is_ok());
        // SAFETY: the mapping is new and nothing else uses it; signal 0 does nothing.
        unsafe {
            let (read, write, run) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
            let map = |protection| {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(std::ptr::null_mut(), 4_096, protection, flags, -1, 0)
            };
            assert_eq!(map(read | write | run), libc::MAP_FAILED);
            assert_eq!(map(read | run), libc::MAP_FAILED);
            let page = map(read | write);
            assert_ne!(page, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(page, 4_096, read | run), -1);
            assert_eq!(libc::mprotect(page, 4_096, read), 0);
            assert_eq!(libc::syscall(libc::SYS_tgkill, 1, 1, 0), -1, "other processes");
            assert_eq!(*libc::__errno_location(), libc::ENOSYS);
            assert_eq!(libc::syscall(libc::SYS_clone3, 0, 0), -1);
            assert_eq!(*libc::__errno_location(), libc::ENOSYS, "libc goes on with clone");
            let namespace = libc::CLONE_NEWUSER | libc::SIGCHLD;
            assert_eq!(libc::syscall(libc::SYS_clone, namespace, 0, 0, 0, 0), -1, "namespaces");
            assert_eq!(*libc::__errno_location(), libc::ENOSYS);
            assert_eq!(libc::listen(0, 1), -1);
            assert_eq!(*libc::__errno_location(), libc::ENOSYS);
            assert_eq!(libc::connect(0, std::ptr::null(), 0), -1);
            assert_eq!(*libc::__errno_location(), libc::ENOSYS);
        }
    }

    /// Runs on a thread of its own, so that the sandbox confines only that thread.
    #[test]
    fn sandbox_allows_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for place in [&inside, &outside] {
            fs::create_dir(place).unwrap();
        }
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [needed, other] = [0, 1].map(|at| listeners[at].local_addr().unwrap());
        let shut_in = std::thread::spawn(move || {
            let (writes, connects) = (vec![inside.clone()], vec![needed.port()]);
            let sandbox = enter(&Needs { writes, connects, ..Needs::default() }).unwrap();
            assert!(TcpStream::connect(needed).is_ok());
            let mptcp = std::num::NonZeroU32::new(262).map(rustix::net::Protocol::from_raw);
            let (family, kind) =
                (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
            assert!(rustix::net::socket(family, kind, mptcp).is_err(), "MPTCP");
            let (new, kept) = (inside.join("new"), inside.join("kept"));
            fs::write(&new, "text").unwrap();
            fs::File::open(&new).unwrap().sync_all().unwrap();
            fs::rename(&new, &kept).unwrap();
            fs::write(&kept, "te").unwrap();
            assert_eq!(fs::read_to_string(&kept).unwrap(), "te");
            fs::remove_file(&kept).unwrap();
            assert!(Command::new("/bin/true").status().is_err(), "programs can be run");
            if sandbox.landlock == "on" {
                assert!(TcpStream::connect(other).is_err(), "others are connected to");
                assert!(fs::write(outside.join("new"), "").is_err(), "all files can be written");
            }
        });
        shut_in.join().unwrap();
    }

    /// Runs on a thread of its own, so that the sandbox confines only that thread.
    #[test]
    fn sandbox_denies_what_is_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for place in [&inside, &outside] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("file"), "text").unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let named = inside.join("file");
        let shut_in = std::thread::spawn(move || {
            let needs = Needs { reads: vec![named.clone()], ..Needs::default() };
            let sandbox = enter(&needs).unwrap();
            assert_eq!(sandbox.seccomp, "on");
            assert!(Command::new("/bin/true").status().is_err(), "programs can be run");
            // Still allowed.
            assert_eq!(fs::read_to_string(&named).unwrap(), "text");
            assert!(
                fs::read_to_string("/proc/thread-self/status").unwrap().contains("Seccomp:\t2")
            );
            assert!(std::thread::spawn(|| 7).join().is_ok_and(|seven| seven == 7));
            assert!(listener.local_addr().is_ok());
            calls_that_are_refused();
            if sandbox.landlock == OFF.landlock || sandbox.landlock.starts_with("unknown") {
                return sandbox;
            }
            assert!(fs::read_to_string(outside.join("file")).is_err(), "all files can be read");
            assert!(fs::write(named.with_file_name("new"), "").is_err(), "files can be written");
            assert!(fs::read_to_string("/etc/passwd").is_err());
            if sandbox.landlock == "on" {
                assert!(TcpListener::bind("127.0.0.1:0").is_err(), "there are new listeners");
                assert!(TcpStream::connect(address).is_err(), "others are connected to");
            }
            sandbox
        });
        let sandbox = shut_in.join().unwrap();
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci || sandbox.landlock != "not supported by this kernel", "{sandbox:?}");
        // Other threads are not confined.
        assert!(Command::new("/bin/true").status().is_ok());
    }
}
