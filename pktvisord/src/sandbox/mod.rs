//! What the daemon can't do any more once it watches: Landlock (landlock(7)) for files and TCP, seccomp
//! (seccomp(2)) for calls of the system.
//!
//! Both are a thread's and those that it starts, so this is done on the first thread before there are
//! others. What the kernel does not know is left out, and said.

mod calls;
mod folders;

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The newest rules that are asked for: TCP, and devices (Linux 6.10).
const RULES: ABI = ABI::V5;
/// What is read while packets are taken in: what the process costs, which interfaces there are, and
/// what libpcap looks names in a new filter up in.
const READ: [&str; 4] = ["/proc", "/sys", "/etc/services", "/etc/protocols"];

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Landlock refuses.
    #[error("Landlock: {0}")]
    Landlock(#[from] RulesetError),
    /// The filter can't be made.
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The filter can't be applied.
    #[error("seccomp: {0}")]
    Apply(#[from] seccompiler::Error),
}

/// How far the daemon is shut in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// How much of its rules Landlock enforces.
    pub landlock: &'static str,
    /// Whether calls of the system are filtered.
    pub seccomp: &'static str,
}

/// Without a sandbox.
pub const OFF: Sandbox = Sandbox { landlock: "off", seccomp: "off" };

/// Shuts this thread in, and those that it will start: from files only what lies in the folders of
/// `files`, and of what links on the way to them lead to, can be read, nothing can be written, run, listened on or connected to by TCP, and calls of
/// the system that the daemon has no use for fail.
///
/// # Errors
/// [`SandboxError`] where the kernel knows how to, and refuses.
pub fn enter(files: &[PathBuf]) -> Result<Sandbox, SandboxError> {
    let landlock = match restrict(files) {
        // Some containers refuse what they do not know; the filter follows all the same.
        Err(RulesetError::CreateRuleset(_)) => "refused by what this runs in",
        restricted => restricted?,
    };
    // The last, for it leaves no room for the others.
    apply_filter(&filter()?)?;
    Ok(Sandbox { landlock, seccomp: "on" })
}

/// Leaves access to files and TCP as described at [`enter`].
fn restrict(files: &[PathBuf]) -> Result<&'static str, RulesetError> {
    let folders = files.iter().flat_map(|file| folders::of(file));
    let readable: Vec<PathBuf> = READ.iter().map(PathBuf::from).chain(folders).collect();
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "on",
        RulesetStatus::PartiallyEnforced => "partly, as far as this kernel knows it",
        RulesetStatus::NotEnforced => "unknown to this kernel",
    })
}

/// Lets the calls through that the daemon makes; others are answered as by a kernel that does not know
/// them, which libraries are prepared for.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let allowed = calls::ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
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

    /// On a thread of its own, which alone is shut in.
    #[test]
    fn what_is_not_needed_can_not_be_done() {
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
            let sandbox = enter(std::slice::from_ref(&named)).unwrap();
            assert_eq!(sandbox.seccomp, "on");
            assert!(Command::new("/bin/true").status().is_err(), "programs can be run");
            // What goes on.
            assert_eq!(fs::read_to_string(&named).unwrap(), "text");
            assert!(
                fs::read_to_string("/proc/thread-self/status").unwrap().contains("Seccomp:\t2")
            );
            assert!(std::thread::spawn(|| 7).join().is_ok_and(|seven| seven == 7));
            assert!(listener.local_addr().is_ok());
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
        assert!(!in_ci || sandbox.landlock != "unknown to this kernel", "{sandbox:?}");
        // The others are not.
        assert!(Command::new("/bin/true").status().is_ok());
    }
}
